// Hugging Face goldens through the engine: logits, loss, hidden states, every gradient and greedy
// ids, within each case's own tolerance.
#include <filesystem>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/json.h"
#include "headway/engine/evaluation_file.h"
#include "headway/engine/generator.h"
#include "headway/engine/loaded_model.h"
#include "headway/io/safetensors_file.h"

namespace headway::engine {
namespace {
namespace fs = std::filesystem;

#ifdef HEADWAY_TEST_CUDA
constexpr at::DeviceType kDevice = at::kCUDA;
#else
constexpr at::DeviceType kDevice = at::kCPU;
#endif

struct Parameter {
  std::string name;
  at::ScalarType dtype;
};

class HfGolden : public testing::TestWithParam<Parameter> {
 protected:
  void SetUp() override {
    if (kDevice == at::kCUDA && !at::globalContext().hasCUDA())
      GTEST_SKIP() << "no CUDA on this machine or in this build";
    folder_ = fs::path(HEADWAY_TESTS_DIR) / "golden" / "hf" / GetParam().name;
    expected_ = io::load_safetensors(folder_ / "expected.safetensors");
    const Json tolerance = parse_json_file((folder_ / "case.json").string())["tolerance"];
    const bool wide = GetParam().dtype == at::kDouble;
    // References were computed in float64 and stored in float32: only that rounding remains for a
    // float64 model.
    logits_tolerance_ = wide ? 2e-6 : tolerance["logits_fp32"].get<double>();
    // Recorded on one machine as four times the spread of a few ways. Where a layer amplifies
    // rounding (gemma4_all), other instruction sets reach 1.13 times that: measured with AVX2.
    constexpr double kOtherMachines = 1.5;
    gradient_tolerance_ = wide ? 4e-7 : kOtherMachines * tolerance["grad_rel_fp32"].get<double>();
    loaded_ = load_model(folder_, GetParam().dtype, kDevice);
  }

  fs::path folder_;
  std::map<std::string, at::Tensor> expected_;
  double logits_tolerance_ = 0.0;
  double gradient_tolerance_ = 0.0;
  LoadedModel loaded_;
};

double largest_difference(const at::Tensor& got, const at::Tensor& want) {
  return (got.to(at::kDouble) - want.to(at::kDouble)).abs().max().item<double>();
}

double relative_difference(const at::Tensor& got, const at::Tensor& want) {
  const double norm = want.to(at::kDouble).norm().item<double>();
  return (got.to(at::kDouble) - want.to(at::kDouble)).norm().item<double>() / std::max(norm, 1e-30);
}

TEST_P(HfGolden, LogitsLossHiddenAndEveryGradient) {
  EvaluationRequest request = read_evaluation_request(folder_ / "expected.safetensors");
  request.gradients = request.hidden = true;
  const auto got = evaluation_tensors(loaded_, evaluate(*loaded_.model, request));
  EXPECT_LE(largest_difference(got.at("logits"), expected_.at("logits")), logits_tolerance_);
  EXPECT_NEAR(got.at("loss").item<double>(), expected_.at("loss").item<double>(),
              logits_tolerance_);
  size_t gradients = 0;
  for (const auto& [name, want] : expected_) {
    if (name.starts_with("hidden.")) {
      EXPECT_LE(largest_difference(got.at(name), want), 20 * logits_tolerance_) << name;
    }
    if (!name.starts_with("grad.")) continue;
    ++gradients;
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_LE(relative_difference(got.at(name), want), gradient_tolerance_) << name;
  }
  EXPECT_GT(gradients, 30u);
  for (const auto& [name, tensor] : got)
    EXPECT_TRUE(expected_.contains(name)) << "not in the reference: " << name;
}

TEST_P(HfGolden, GreedyIdsThroughTheCache) {
  const at::Tensor ids = expected_.at("greedy_ids").flatten();
  const int64_t new_tokens = expected_.at("greedy_margin").numel();
  const std::vector<int64_t> want(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  GenerateOptions options;
  options.max_new_tokens = new_tokens;
  options.sampler.temperature = 0.0;
  const std::vector<int64_t> prompt(want.begin(), want.end() - new_tokens);
  EXPECT_EQ(Generator(*loaded_.model, nullptr).run(prompt, options).token_ids, want);
}

std::vector<Parameter> parameters() {
  std::vector<Parameter> all;
  for (const char* name : {"llama_gqa",
                           "llama_llama3_bias_tied",
                           "mistral_sliding",
                           "qwen3_qknorm",
                           "step3p5_dense",
                           "step3p5_moe",
                           "qwen3_moe_mixed",
                           "minimax_m2",
                           "qwen3_5_text",
                           "qwen3_5_moe_text",
                           "qwen3_5_moe_text_fused",
                           "qwen3_next_dense",
                           "qwen3_next_moe",
                           "olmo_hybrid_nope",
                           "olmo_hybrid_rope",
                           "deepseek_v3",
                           "deepseek_v32_dense",
                           "deepseek_v32_sparse",
                           "glm_moe_dsa",
                           "kimi_linear",
                           "gpt_oss_sinks_yarn",
                           "gemma3_mix",
                           "gemma4_dense_keqv",
                           "gemma4_ple_kvshare",
                           "gemma4_moe",
                           "gemma4_all"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) all.push_back({name, dtype});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, HfGolden, testing::ValuesIn(parameters()), [](const auto& info) {
  return info.param.name + (info.param.dtype == at::kDouble ? "_float64" : "_float32");
});

}  // namespace
}  // namespace headway::engine
