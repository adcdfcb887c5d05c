// The tensors an adapter adds to an inventory. Not for: their arithmetic.
#include "headway/spec/adapter.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

const TensorSpec* find(const std::vector<TensorSpec>& tensors, const std::string& name) {
  const auto found = std::ranges::find(tensors, name, &TensorSpec::name);
  return found == tensors.end() ? nullptr : &*found;
}

AdapterSpec query_and_value(AdapterKind kind) {
  AdapterSpec adapter;
  adapter.kind = kind;
  adapter.rank = 3;
  adapter.alpha = 6;
  adapter.segments = {"model.layers.0.self_attn.q_proj.weight",
                      "model.layers.0.self_attn.v_proj.weight"};
  return adapter;
}

TEST(Adapted, APairForEveryRowSegmentAfterItsProjection) {
  const auto base = tensors(mixed_spec());
  const auto all = adapted(base, query_and_value(AdapterKind::kLora));
  ASSERT_EQ(all.size(), base.size() + 2);
  const TensorSpec& qkv = *find(base, "layers.0.mixer.qkv.weight");
  const TensorSpec* a = find(all, "layers.0.mixer.qkv.adapter.a");
  const TensorSpec* b = find(all, "layers.0.mixer.qkv.adapter.b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  const int64_t q = qkv.segments[0].rows, v = qkv.segments[2].rows;
  EXPECT_EQ(a->shape, (std::vector<int64_t>{6, qkv.shape[1]}));
  EXPECT_EQ(b->shape, (std::vector<int64_t>{q + v, 3}));
  EXPECT_EQ(b->segments[1].name, "v");
  EXPECT_EQ(b->segments[1].begin, q);
  EXPECT_EQ(b->segments[1].disk_name, "model.layers.0.self_attn.v_proj.lora_B.weight");
  EXPECT_EQ(b->segments[1].init, (InitRule{InitKind::kZeros}));
  EXPECT_EQ(a->segments[0].init.kind, InitKind::kNormal);
  EXPECT_EQ(a->layer, 0);
  for (const TensorSpec& tensor : all) {
    EXPECT_EQ(tensor.trainable, &tensor == a || &tensor == b) << tensor.name;
  }
}

TEST(Adapted, DoraAddsMagnitudes) {
  const auto all = adapted(tensors(mixed_spec()), query_and_value(AdapterKind::kDora));
  const TensorSpec* b = find(all, "layers.0.mixer.qkv.adapter.b");
  const TensorSpec* magnitude = find(all, "layers.0.mixer.qkv.adapter.magnitude");
  ASSERT_TRUE(b != nullptr && magnitude != nullptr);
  EXPECT_EQ(magnitude->shape, (std::vector<int64_t>{b->shape[0]}));
  EXPECT_FALSE(magnitude->segments[0].decay);
}

TEST(Adapted, ScalesAndStrangers) {
  AdapterSpec adapter = query_and_value(AdapterKind::kLora);
  EXPECT_DOUBLE_EQ(adapter.scale(), 2.0);
  adapter.rank_stabilized = true;
  EXPECT_DOUBLE_EQ(adapter.scale(), 6 / std::sqrt(3.0));
  for (const char* stranger : {"model.embed_tokens.weight", "model.layers.9.mlp.up_proj.weight"}) {
    adapter.segments = {stranger};
    EXPECT_THROW(adapted(tensors(mixed_spec()), adapter), ConfigError) << stranger;
  }
}

}  // namespace
}  // namespace headway::spec
