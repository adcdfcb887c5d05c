// Row order of linear_qkv against the specification's own formula, over many head counts, and the
// table of names.
// Not for: forward passes (tests/golden/megatron).
#include "headway/io/megatron_layout.h"

#include <set>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/megatron.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::io {
namespace {

using spec::GateKind;

/// Row of Megatron's matrix by the formulas of attention.md §1.3.1, one row at a time.
int64_t row_by_formula(const QkvHeads& heads, char part, int64_t head, int64_t channel) {
  const int64_t m = heads.num_heads / heads.num_kv_heads;
  const int64_t d = heads.head_dim;
  const bool channels = heads.gate == GateKind::kElementWise;
  const int64_t block = channels ? (2 * m + 2) * d : (m + 2) * d;
  if (part == 'q') return (head / m) * block + (head % m) * d + channel;
  if (part == 'g' && channels) return (head / m) * block + m * d + (head % m) * d + channel;
  if (part == 'g') return heads.num_kv_heads * block + head;
  const int64_t key = head * block + (channels ? 2 : 1) * m * d + channel;
  return part == 'k' ? key : key + d;
}

std::vector<int64_t> rows_by_formula(const QkvHeads& heads) {
  std::vector<int64_t> rows;
  const auto add = [&](char part, int64_t count, int64_t channels) {
    for (int64_t head = 0; head < count; ++head) {
      for (int64_t c = 0; c < channels; ++c) rows.push_back(row_by_formula(heads, part, head, c));
    }
  };
  add('q', heads.num_heads, heads.head_dim);
  add('k', heads.num_kv_heads, heads.head_dim);
  add('v', heads.num_kv_heads, heads.head_dim);
  if (heads.gate == GateKind::kElementWise) add('g', heads.num_heads, heads.head_dim);
  if (heads.gate == GateKind::kHeadWise) add('g', heads.num_heads, 1);
  return rows;
}

std::vector<QkvHeads> every_case() {
  std::vector<QkvHeads> cases;
  for (const GateKind gate : {GateKind::kNone, GateKind::kHeadWise, GateKind::kElementWise}) {
    for (int64_t heads = 1; heads <= 12; ++heads) {
      for (int64_t groups = 1; groups <= heads; ++groups) {
        if (heads % groups == 0) cases.push_back({heads, groups, 1 + heads % 5, gate});
      }
    }
  }
  return cases;
}

TEST(MegatronLayout, RowsFollowTheFormulaAndArePermutations) {
  for (const QkvHeads& heads : every_case()) {
    const std::vector<int64_t> rows = megatron_qkv_rows(heads);
    EXPECT_EQ(rows, rows_by_formula(heads)) << heads.num_heads << "/" << heads.num_kv_heads;
    const std::set<int64_t> distinct(rows.begin(), rows.end());
    EXPECT_EQ(distinct.size(), rows.size());
    EXPECT_EQ(*distinct.begin(), 0);
    EXPECT_EQ(*distinct.rbegin(), static_cast<int64_t>(rows.size()) - 1);
  }
}

TEST(MegatronLayout, WeightsAndBiasesComeBack) {
  for (const QkvHeads& heads : every_case()) {
    const auto count = static_cast<int64_t>(megatron_qkv_rows(heads).size());
    const at::Tensor weight = at::arange(count * 3, at::kDouble).view({count, 3});
    const at::Tensor bias = at::arange(count, at::kFloat);
    EXPECT_TRUE(at::equal(qkv_to_megatron(qkv_from_megatron(weight, heads), heads), weight));
    EXPECT_TRUE(at::equal(qkv_from_megatron(qkv_to_megatron(weight, heads), heads), weight));
    EXPECT_TRUE(at::equal(qkv_to_megatron(qkv_from_megatron(bias, heads), heads), bias));
  }
}

TEST(MegatronLayout, OneWorkedCase) {
  // H=4, G=2, K=1: groups [q0 q1 k0 v0][q2 q3 k1 v1], gates after them.
  const std::vector<int64_t> head_wise = {0, 1, 4, 5, 2, 6, 3, 7, 8, 9, 10, 11};
  EXPECT_EQ(megatron_qkv_rows({4, 2, 1, GateKind::kHeadWise}), head_wise);
  // Channel gates stand between the queries and the key of each group.
  const std::vector<int64_t> channels = {0, 1, 6, 7, 4, 10, 5, 11, 2, 3, 8, 9};
  EXPECT_EQ(megatron_qkv_rows({4, 2, 1, GateKind::kElementWise}), channels);
}

TEST(MegatronLayout, RefusesAnotherNumberOfRows) {
  try {
    qkv_from_megatron(at::zeros({7, 2}), {4, 2, 1, GateKind::kNone});
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "[megatron_layout] rows of linear_qkv = 7, allowed 8");
  }
}

TEST(MegatronLayout, EveryParameterOfADenseGptHasAName) {
  const Json arguments = {{"num_layers", 2},      {"hidden_size", 8},
                          {"vocab_size", 5},      {"num_attention_heads", 2},
                          {"qk_layernorm", true}, {"softmax_type", "learnable"}};
  std::set<std::string> names;
  for (const auto& tensor : spec::tensors(spec::from_megatron(arguments))) {
    names.insert(megatron_name(tensor.name));
  }
  EXPECT_EQ(names.size(), 3 + 1 + 2 * 17u);
  for (const char* name :
       {"embedding.word_embeddings.weight", "decoder.layers.1.input_layernorm.bias",
        "decoder.layers.1.self_attention.linear_qkv.weight",
        "decoder.layers.0.self_attention.linear_proj.bias",
        "decoder.layers.0.self_attention.core_attention.softmax_offset",
        "decoder.layers.0.self_attention.k_layernorm.weight",
        "decoder.layers.0.mlp.linear_fc1.bias", "decoder.layers.0.mlp.linear_fc2.weight",
        "decoder.layers.0.pre_mlp_layernorm.weight", "decoder.final_layernorm.weight",
        "output_layer.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_THROW(megatron_name("layers.0.layer_scalar"), InternalError);
}

TEST(MegatronLayout, OnlyFusedProjectionsAreInterleaved) {
  const Json arguments = {{"num_layers", 2},
                          {"hidden_size", 8},
                          {"vocab_size", 5},
                          {"num_attention_heads", 2},
                          {"mtp_num_layers", 2}};
  const spec::ModelSpec model = spec::from_megatron(arguments);
  EXPECT_EQ(interleaved_attention(model, "layers.1.mixer.qkv.bias"),
            spec::attention_of(model.layers[1]));
  EXPECT_EQ(interleaved_attention(model, "mtp.layers.1.block.mixer.qkv.weight"),
            spec::attention_of(model.mtp->layers[1]));
  EXPECT_EQ(interleaved_attention(model, "layers.1.mixer.out.bias"), nullptr);
  EXPECT_EQ(interleaved_attention(model, "head.weight"), nullptr);
}

TEST(MegatronLayout, DepthsOfMultiTokenPredictionHaveNames) {
  const auto expect = [](const char* ours, const char* theirs) {
    EXPECT_EQ(megatron_name(ours), theirs);
  };
  expect("mtp.layers.1.embedding_norm.weight", "mtp.layers.1.enorm.weight");
  expect("mtp.layers.0.hidden_norm.bias", "mtp.layers.0.hnorm.bias");
  expect("mtp.layers.0.proj.weight", "mtp.layers.0.eh_proj.weight");
  expect("mtp.layers.0.final_norm.weight", "mtp.layers.0.final_layernorm.weight");
  expect("mtp.layers.12.block.mixer.qkv.weight",
         "mtp.layers.12.mtp_model_layer.self_attention.linear_qkv.weight");
  EXPECT_THROW(megatron_name("mtp.layers.0.head.weight"), InternalError);
}

}  // namespace
}  // namespace headway::io
