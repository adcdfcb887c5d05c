// Values recorded from Megatron-LM's own modules through the probe: outputs, biases, every gradient
// and rotary tables, in float64 and float32.
// Not for: modules that this build refuses (their errors are at the end).
#include "headway/engine/probe.h"

#include <filesystem>
#include <set>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/safetensors_file.h"

namespace headway::engine {
namespace {
namespace fs = std::filesystem;

struct Case {
  std::string module;
  std::string file;
};

fs::path path_of(const std::string& file) {
  return fs::path(HEADWAY_TESTS_DIR) / "golden" / "megatron" / (file + ".safetensors");
}

bool is_result(const std::string& name) {
  return name == "out" || name == "bias" || name == "out_fp32" || name.starts_with("grad") ||
         name.starts_with("aux.");
}

/// The file without what was recorded of the run, so that nothing can be copied through.
ProbeRequest request_of(const Case& given) {
  ProbeRequest request;
  request.module = given.module;
  request.metadata = io::SafetensorsFile(path_of(given.file)).header().metadata;
  for (const auto& [name, tensor] : io::load_safetensors(path_of(given.file))) {
    const bool table = given.module == "rope" && !name.ends_with(".t");
    if (!is_result(name) && !table) request.tensors[name] = tensor;
  }
  return request;
}

void expect_close(const std::string& name, const at::Tensor& got, const at::Tensor& want,
                  double tolerance) {
  ASSERT_EQ(got.sizes(), want.sizes()) << name;
  const at::Tensor exact = want.to(at::kDouble);
  const double scale = std::max(1e-3, exact.abs().max().item<double>());
  const double distance = (got.to(at::kDouble) - exact).abs().max().item<double>();
  EXPECT_LE(distance, tolerance * scale) << name;
}

void compare(const std::map<std::string, at::Tensor>& got, const Case& given, double tolerance) {
  std::set<std::string> gradients;
  size_t compared = 0;
  for (const auto& [name, want] : io::load_safetensors(path_of(given.file))) {
    const bool layer = name.starts_with("aux.layer") && !name.ends_with("attention_out");
    const bool rope = given.module == "rope" && !name.ends_with(".t");
    const bool result = is_result(name) && name != "out_fp32" && !name.starts_with("aux.");
    if (!layer && !rope && !result) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    expect_close(name, got.at(name), want, tolerance);
    ++compared;
    if (name.starts_with("grad")) gradients.insert(name);
  }
  EXPECT_GT(compared, 2u);
  for (const auto& [name, tensor] : got) {
    if (name.starts_with("grad")) {
      EXPECT_TRUE(gradients.contains(name)) << name;
    }
  }
}

class MegatronGolden : public testing::TestWithParam<Case> {};

TEST_P(MegatronGolden, Float64) { compare(probe(request_of(GetParam())), GetParam(), 1e-10); }

TEST_P(MegatronGolden, Float32) {
  ProbeRequest request = request_of(GetParam());
  request.dtype = at::kFloat;
  const auto got = probe(request);
  for (const auto& [name, tensor] : got) EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
  compare(got, GetParam(), 2e-5);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* name : {"gqa_rope_half_bias",
                           "gqa_rope_nobias",
                           "head_gate_gqa",
                           "head_gate_mha_bias",
                           "head_gate_qknorm_window",
                           "head_gate_zero",
                           "layer_scaling",
                           "mha_interleaved",
                           "mqa_norope",
                           "output_gate_gqa",
                           "output_gate_mha_bias",
                           "output_gate_qknorm",
                           "qk_l2_norm",
                           "qknorm_layernorm",
                           "qknorm_rms",
                           "qkvbias_only",
                           "sink_learnable",
                           "sink_off_by_one",
                           "softmax_scale",
                           "window_3_2",
                           "window_5_0",
                           "window_skip_full",
                           "window_skip_win",
                           "yarn"}) {
    all.push_back({"self_attention", std::string("attn_") + name});
  }
  for (const char* name :
       {"rotary_base_per_layer", "scalar_base", "base_per_layer_partial_gate", "no_rope_freq"}) {
    all.push_back({"gpt_model", std::string("gpt_") + name});
  }
  for (const char* name : {"gdn_rule_chunks", "gdn_rule_initial_state"}) {
    all.push_back({"gated_delta_rule", name});
  }
  all.push_back({"rope", "rope_tables"});
  all.push_back({"rope", "rope_apply"});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, MegatronGolden, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.file; });

/// Without rotary_pos_emb the table comes from the `rope` metadata, to the same numbers.
TEST(MegatronProbe, RopeMetadataGivesTheTable) {
  for (const char* file : {"attn_gqa_rope_half_bias", "attn_mha_interleaved", "attn_yarn"}) {
    const Case given{"self_attention", file};
    ProbeRequest request = request_of(given);
    ASSERT_EQ(request.tensors.erase("rotary_pos_emb"), 1u);
    compare(probe(request), given, 1e-10);
  }
}

template <class E>
std::string error_of(const ProbeRequest& request) {
  try {
    probe(request);
  } catch (const E& error) {
    return error.what();
  }
  return "nothing of this kind thrown";
}

TEST(MegatronProbe, RefusesWhatItCannotRun) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of<UnsupportedError>(request_of({"self_attention", "attn_padding_mask"})),
              HasSubstr("mask = padding: not in this build"));
  ProbeRequest request = request_of({"self_attention", "attn_qknorm_rms"});
  request.module = "mla";
  EXPECT_THAT(error_of<UnsupportedError>(request), HasSubstr("module = mla: not in this build"));
  request.module = "attention";
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("self_attention | gpt_model | rope"));
  request = request_of({"self_attention", "attn_qknorm_rms"});
  request.tensors["param.nonsense"] = at::zeros({1});
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("param.nonsense"));
  request = request_of({"self_attention", "attn_qknorm_rms"});
  request.tensors.erase("param.linear_proj.weight");
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("param.linear_proj.weight: missing"));
}

TEST(MegatronProbe, ConcreteNormNeedsItsSwitch) {
  ProbeRequest request = request_of({"self_attention", "attn_qknorm_rms"});
  Json config = Json::parse(request.metadata.at("config"));
  config["qk_layernorm"] = false;
  request.config = config;
  EXPECT_THAT(error_of<ConfigError>(request), testing::HasSubstr("qk_layernorm"));
}

TEST(MegatronProbe, PackedSequencesAreSeparateSequences) {
  ProbeRequest request = request_of({"self_attention", "attn_gqa_rope_nobias"});
  request.tensors.erase("cotangent");
  const at::Tensor hidden = request.tensors.at("hidden_states");  // [S,2,D]
  const at::Tensor separate = probe(request).at("out");
  const int64_t length = hidden.size(0);
  request.tensors["hidden_states"] =
      at::cat({hidden.select(1, 0), hidden.select(1, 1)}).unsqueeze(1).contiguous();
  request.tensors["cu_seqlens"] = at::tensor({int64_t{0}, length, 2 * length}, at::kInt);
  const at::Tensor packed = probe(request).at("out").squeeze(1);
  EXPECT_LE((packed.narrow(0, 0, length) - separate.select(1, 0)).abs().max().item<double>(),
            1e-12);
  EXPECT_LE((packed.narrow(0, length, length) - separate.select(1, 1)).abs().max().item<double>(),
            1e-12);
}

}  // namespace
}  // namespace headway::engine
