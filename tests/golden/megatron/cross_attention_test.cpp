// Megatron-LM's CrossAttention through the probe: outputs, biases and every gradient.
// Not for: our own spec and context (tests/unit/nn/cross_attention_test.cpp).
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/golden/megatron/probe_golden.h"

namespace headway::engine {
namespace {

using testing::HasSubstr;

ProbeRequest cross_request(const char* file) { return request_of({"cross_attention", file}); }

ProbeRequest with_config(ProbeRequest request, const char* field, const Json& value) {
  Json config = Json::parse(request.metadata.at("config"));
  config[field] = value;
  request.config = config;
  return request;
}

void compare(const std::map<std::string, at::Tensor>& got, const char* file, double tolerance) {
  std::set<std::string> compared;
  for (const auto& [name, want] : io::load_safetensors(path_of(file))) {
    if (!is_result(name) || name == "out_fp32" || name.starts_with("aux.")) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    expect_close(name, got.at(name), want, tolerance);
    compared.insert(name);
  }
  EXPECT_GE(compared.size(), 6u);
  for (const auto& [name, tensor] : got) EXPECT_TRUE(compared.contains(name)) << name;
}

class CrossGolden : public testing::TestWithParam<const char*> {};

TEST_P(CrossGolden, Float64) { compare(probe(cross_request(GetParam())), GetParam(), 1e-10); }

TEST_P(CrossGolden, Float32) {
  ProbeRequest request = cross_request(GetParam());
  request.dtype = at::kFloat;
  compare(probe(request), GetParam(), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Megatron, CrossGolden,
                         testing::Values("cross_padding", "cross_rope_pair", "cross_arbitrary"),
                         [](const auto& info) { return std::string(info.param); });

TEST(CrossProbe, TablesComeFromTheRopeMetadata) {
  ProbeRequest request = cross_request("cross_rope_pair");
  request.tensors.erase("rotary_pos_emb_q");
  request.tensors.erase("rotary_pos_emb_k");
  compare(probe(request), "cross_rope_pair", 1e-10);
}

/// A padding mask and the same mask written out for every query drop the same keys.
TEST(CrossProbe, PaddingIsAnArbitraryMaskOfEqualRows) {
  ProbeRequest request = cross_request("cross_padding");
  const at::Tensor padding = request.tensors.at("attention_mask");
  const int64_t queries = request.tensors.at("hidden_states").size(0);
  request.tensors["attention_mask"] = padding.expand({-1, -1, queries, -1}).contiguous();
  request.metadata["mask"] = "arbitrary";
  compare(probe(request), "cross_padding", 1e-10);
}

/// Upstream gives a uniform mean there (finite fill); ours is exactly nothing.
TEST(CrossProbe, AFullyPaddedContextGivesZeroAndNoGradient) {
  ProbeRequest request = cross_request("cross_padding");
  at::Tensor mask = request.tensors.at("attention_mask").clone();
  mask.select(0, 1).fill_(true);
  request.tensors["attention_mask"] = mask;
  const auto got = probe(request);
  EXPECT_EQ(got.at("out").select(1, 1).abs().max().item<double>(), 0.0);
  EXPECT_GT(got.at("out").select(1, 0).abs().max().item<double>(), 0.0);
  EXPECT_EQ(got.at("grad_in").select(1, 1).abs().max().item<double>(), 0.0);
  EXPECT_EQ(got.at("grad_in.key_value_states").select(1, 1).abs().max().item<double>(), 0.0);
}

TEST(CrossProbe, PackedBoundariesAreSeparateSequences) {
  ProbeRequest request = cross_request("cross_rope_pair");
  const auto separate = probe(request);
  const auto pack = [](const at::Tensor& x) {
    return x.transpose(0, 1).reshape({-1, 1, x.size(2)}).contiguous();
  };
  const int64_t queries = request.tensors.at("hidden_states").size(0);
  const int64_t keys = request.tensors.at("key_value_states").size(0);
  for (const char* name : {"hidden_states", "key_value_states", "cotangent"}) {
    request.tensors[name] = pack(request.tensors.at(name));
  }
  request.tensors["cu_seqlens_q"] = at::tensor({int64_t{0}, queries, 2 * queries}, at::kInt);
  request.tensors["cu_seqlens_kv"] = at::tensor({int64_t{0}, keys, 2 * keys}, at::kInt);
  const auto got = probe(request);
  expect_close("out", got.at("out"), pack(separate.at("out")), 1e-12);
  expect_close("grad_in.key_value_states", got.at("grad_in.key_value_states"),
               pack(separate.at("grad_in.key_value_states")), 1e-12);
  expect_close("grad.linear_kv.weight", got.at("grad.linear_kv.weight"),
               separate.at("grad.linear_kv.weight"), 1e-12);
}

TEST(CrossProbe, EveryErrorOfTheContract) {
  const ProbeRequest good = cross_request("cross_padding");
  EXPECT_THAT(error_of<ConfigError>(with_config(good, "num_query_groups", 2)),
              HasSubstr("Group query attention is not currently supported in cross attention"));
  EXPECT_THAT(error_of<ConfigError>(with_config(good, "attention_output_gate", true)),
              HasSubstr("gates are for self-attention only"));
  EXPECT_THAT(error_of<ConfigError>(with_config(good, "qk_layernorm", true)),
              HasSubstr("norms are for self-attention only"));
  EXPECT_THAT(error_of<ConfigError>(with_config(good, "fused_single_qkv_rope", true)),
              HasSubstr("split_qkv"));
  ProbeRequest request = good;
  request.tensors.erase("key_value_states");
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("key_value_states: missing"));
  request = good;
  request.tensors.erase("attention_mask");
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("attention_mask: missing"));
  request = good;
  request.tensors["attention_mask"] = at::zeros({2, 1, 1, 13}, at::kBool);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("attention_mask: allowed bool [2 or 1"));
  request = good;
  request.metadata["mask"] = "blocks";
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("mask = blocks, allowed padding | causal"));
  request = good;
  request.tensors["param.linear_kv.weight"] = at::zeros({60, 32}, at::kDouble);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("rows of linear_kv = 60, allowed 64"));
  request = good;
  request.tensors["param.linear_qkv.weight"] = at::zeros({96, 32}, at::kDouble);
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("param.linear_qkv.weight"));
  request = good;
  request.tensors["key_value_states"] = at::zeros({14, 3, 32}, at::kDouble);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("key_value_states: 3 sequences, allowed 2"));
}

/// §1.7.7: a model with head gates has none in its cross layers.
TEST(CrossProbe, HeadGatesOfTheModelDoNotReachCrossLayers) {
  const ProbeRequest request =
      with_config(cross_request("cross_padding"), "head_wise_attn_gate", true);
  compare(probe(request), "cross_padding", 1e-10);
}

}  // namespace
}  // namespace headway::engine
