// Megatron-LM's clip_qk through the probe, and what upstream does not do: gates, biases, maxima
// that are not positive. Not for: the row factors by hand (tests/unit/nn/qk_clip_test.cpp).
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/megatron_layout.h"

#include "tests/golden/megatron/probe_golden.h"

namespace headway::engine {
namespace {

using testing::HasSubstr;

ProbeRequest clip_request(const char* file) { return request_of({"qk_clip", file}); }

Json config_of(const ProbeRequest& request) { return Json::parse(request.metadata.at("config")); }

class ClipGolden : public testing::TestWithParam<const char*> {};

void compare(const std::map<std::string, at::Tensor>& got, const char* file, double tolerance) {
  for (const auto& [name, want] : io::load_safetensors(path_of(file))) {
    if (!is_result(name)) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    expect_close(name, got.at(name), want, tolerance);
  }
}

TEST_P(ClipGolden, Float64) { compare(probe(clip_request(GetParam())), GetParam(), 1e-10); }

TEST_P(ClipGolden, Float32) {
  ProbeRequest request = clip_request(GetParam());
  request.dtype = at::kFloat;
  compare(probe(request), GetParam(), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Megatron, ClipGolden,
                         testing::Values("qk_clip_gqa", "qk_clip_mha", "qk_clip_mha_partial",
                                         "qk_clip_mla"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ClipProbe, BelowTheThresholdNothingIsWritten) {
  EXPECT_TRUE(probe(clip_request("qk_clip_none")).empty());
}

/// Fix-11: upstream leaves biases as they are, so that logits of biased projections shrink by other
/// factors than η. Ours scales them by the factors of their rows.
TEST(ClipProbe, BiasRowsTakeTheFactorsOfTheirWeights) {
  const ProbeRequest request = clip_request("qk_clip_mha_partial");
  const auto got = probe(request);
  const at::Tensor factors =
      (got.at("clipped.linear_qkv.weight") / request.tensors.at("param.linear_qkv.weight"))
          .select(1, 0);
  expect_close("bias", got.at("clipped.linear_qkv.bias"),
               request.tensors.at("param.linear_qkv.bias") * factors, 1e-12);
  EXPECT_GT((factors - 1).abs().max().item<double>(), 0.1);
}

/// Fix-11: τ / M of a maximum below zero is negative, and its square root NaN.
TEST(ClipProbe, MaximaThatAreNotPositiveLeaveTheirHeadsAlone) {
  ProbeRequest request = clip_request("qk_clip_mha");
  at::Tensor logits = request.tensors.at("max_logits").clone();
  logits[0] = -5.0;
  logits[1] = 0.0;
  request.tensors["max_logits"] = logits;
  const auto got = probe(request);
  const at::Tensor eta = got.at("eta");
  EXPECT_EQ(eta[0].item<double>(), 1.0);
  EXPECT_EQ(eta[1].item<double>(), 1.0);
  EXPECT_LT(eta[2].item<double>(), 1.0);
  EXPECT_TRUE(got.at("clipped.linear_qkv.weight").isfinite().all().item<bool>());
}

struct Gate {
  const char* field;
  spec::GateKind kind;
  int64_t rows;  // beside q, k, v
};

/// Fix-11: with gates upstream scales the wrong rows and then fails.
TEST(ClipProbe, BothGatesKeepTheirRows) {
  const int64_t heads = 6, groups = 2, dim = 8, width = 48;
  for (const Gate& gate :
       {Gate{"head_wise_attn_gate", spec::GateKind::kHeadWise, heads},
        Gate{"attention_output_gate", spec::GateKind::kElementWise, heads * dim}}) {
    ProbeRequest request = clip_request("qk_clip_gqa");
    Json config = config_of(request);
    config[gate.field] = true;
    request.config = config;
    const int64_t rows = (heads + 2 * groups) * dim + gate.rows;
    request.tensors["param.linear_qkv.weight"] = at::ones({rows, width}, at::kDouble);
    const auto got = probe(request);
    const at::Tensor eta = got.at("eta");
    // Ours is q | k | v | gate; every row has one factor.
    const at::Tensor ours =
        io::qkv_from_megatron(got.at("clipped.linear_qkv.weight"), {heads, groups, dim, gate.kind})
            .select(1, 0);
    for (int64_t row = 0; row < rows; ++row) {
      double want = 1.0;
      if (row < heads * dim) {
        want = std::pow(eta[row / dim / (heads / groups)].item<double>(), 0.3);
      } else if (row < (heads + groups) * dim) {
        want = std::pow(eta[(row - heads * dim) / dim].item<double>(), 0.7);
      }
      EXPECT_NEAR(ours[row].item<double>(), want, 1e-14) << gate.field << " row " << row;
    }
  }
}

TEST(ClipProbe, ErrorsOfTheContract) {
  const ProbeRequest good = clip_request("qk_clip_gqa");
  ProbeRequest request = good;
  Json config = config_of(good);
  config["_injected_attributes"]["qk_clip"] = false;
  request.config = config;
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("qk_clip option needs to be enabled"));
  request = good;
  request.tensors.erase("max_logits");
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("current_max_attn_logits is None"));
  request = good;
  request.tensors["max_logits"] = at::ones({4}, at::kDouble);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("current_max_attn_logits has 4 elements"));
  request = good;
  request.tensors["max_logits"] = at::full({6}, NAN, at::kDouble);
  EXPECT_THAT(error_of<NonFiniteError>(request), HasSubstr("current_max_attn_logits[0] = nan"));
  request = good;
  request.tensors["param.linear_qkv.weight"] = at::ones({79, 48}, at::kDouble);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("79 rows"));
  request = good;
  config = config_of(good);
  config["_injected_attributes"]["qk_clip_alpha"] = 1.5;
  request.config = config;
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("qk_clip_alpha"));
  request = clip_request("qk_clip_mla");
  config = config_of(request);
  config["cache_mla_latents"] = true;
  request.config = config;
  request.tensors.erase("param.linear_kv_up_proj.weight");
  EXPECT_THAT(error_of<ConfigError>(request),
              HasSubstr("qk_clip is not supported when cache_mla_latents is enabled"));
}

TEST(ClipProbe, DirectQueriesOfLatentAttentionHaveTheirOwnName) {
  ProbeRequest request = clip_request("qk_clip_mla");
  Json config = config_of(request);
  config["q_lora_rank"] = nullptr;
  request.config = config;
  request.tensors["param.linear_q_proj.weight"] =
      request.tensors.extract("param.linear_q_up_proj.weight").mapped();
  const auto want = io::load_safetensors(path_of("qk_clip_mla"));
  expect_close("q", probe(request).at("clipped.linear_q_proj.weight"),
               want.at("clipped.linear_q_up_proj.weight"), 1e-10);
}

}  // namespace
}  // namespace headway::engine
