// Megatron-LM's sparse attention (DSA) through the probe: outputs, every gradient (the indexer's
// loss included), the loss and the chosen keys.
// Not for: whole models (probe_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/golden/megatron/probe_golden.h"

namespace headway::engine {
namespace {

class SparseGolden : public testing::TestWithParam<const char*> {
 protected:
  Case given() const { return {"dsa", std::string("dsa_") + GetParam()}; }
};

void compare(const std::map<std::string, at::Tensor>& got, const Case& given, double tolerance) {
  size_t gradients = 0;
  for (const auto& [name, want] : io::load_safetensors(path_of(given.file))) {
    if (name == "aux.topk_indices") {
      const auto sorted = [](const at::Tensor& x) { return std::get<0>(at::sort(x, -1)); };
      EXPECT_TRUE(at::equal(sorted(got.at(name)), sorted(want)));
    }
    const bool compared = name == "aux.indexer_loss" ||
                          (is_result(name) && name != "out_fp32" && !name.starts_with("aux."));
    if (!compared) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    expect_close(name, got.at(name), want, tolerance);
    gradients += name.starts_with("grad") ? 1 : 0;
  }
  size_t ours = 0;
  for (const auto& [name, tensor] : got) ours += name.starts_with("grad") ? 1 : 0;
  EXPECT_EQ(ours, gradients);
}

TEST_P(SparseGolden, Float64) { compare(probe(request_of(given())), given(), 1e-10); }

TEST_P(SparseGolden, Float32) {
  ProbeRequest request = request_of(given());
  request.dtype = at::kFloat;
  compare(probe(request), given(), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Megatron, SparseGolden,
                         testing::Values("loss_dense", "loss_sparse", "noloss_yarn",
                                         "norelu_per_token", "packed", "topk_all"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SparseProbe, ModulesFitTheArguments) {
  using testing::HasSubstr;
  ProbeRequest request = request_of({"dsa", "dsa_topk_all"});
  request.module = "mla";
  EXPECT_THAT(error_of<ConfigError>(request),
              HasSubstr("experimental_attention_variant = \"dsa\": allowed none for mla"));
  request = request_of({"mla", "mla_rope_scaled"});
  request.module = "dsa";
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("allowed dsa for module dsa"));
  request = request_of({"mla", "mla_rope_scaled"});
  request.metadata["mask"] = "no_mask";
  EXPECT_THAT(error_of<UnsupportedError>(request), HasSubstr("mask = no_mask: allowed causal"));
}

/// Upstream's fused down-projection is the two others, one below the other.
TEST(LatentProbe, TakesTheFusedDownProjection) {
  const Case given{"mla", "mla_qlora_rope_norm"};
  ProbeRequest request = request_of(given);
  const auto want = probe(request);
  const std::string query = "param.linear_q_down_proj.weight";
  const std::string latent = "param.linear_kv_down_proj.weight";
  request.tensors["param.linear_qkv_down_proj.weight"] =
      at::cat({request.tensors.at(query), request.tensors.at(latent)});
  request.tensors.erase(query);
  request.tensors.erase(latent);
  const auto got = probe(request);
  EXPECT_TRUE(at::equal(got.at("out"), want.at("out")));
  EXPECT_TRUE(got.contains("grad.linear_qkv_down_proj.weight"));
}

}  // namespace
}  // namespace headway::engine
