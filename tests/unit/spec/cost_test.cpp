// Costs against numbers worked out by hand.
#include "headway/spec/cost.h"

#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

CostOptions at(int64_t context, int64_t bytes = 2) {
  CostOptions options;
  options.context = context;
  options.element_bytes = bytes;
  return options;
}

TEST(MeanVisible, CountsKeysOneByOne) {
  for (const int64_t context : {1, 2, 7, 8, 9, 50}) {
    for (const int64_t window : {1, 3, 8, 100}) {
      double sum = 0;
      for (int64_t t = 1; t <= context; ++t) sum += static_cast<double>(std::min(t, window));
      EXPECT_NEAR(mean_visible(context, window), sum / static_cast<double>(context), 1e-12);
    }
  }
  EXPECT_EQ(mean_visible(3, std::nullopt), 2.0);
}

TEST(Cost, LayerByHand) {
  const ModelCost costs = cost(mixed_spec(), at(32));
  const int64_t global =
      48 + (4 * 16 + 2 * 16 + 2 * 16 + 4) * 48 + 48 * 64 + 48 + 2 * 64 * 48 + 64 * 48;
  EXPECT_EQ(costs.layers[0].parameters, global);
  EXPECT_EQ(costs.layers[0].active_parameters, global);
  EXPECT_EQ(costs.layers[0].matmul_flops, 2.0 * (global - 96));
  EXPECT_EQ(costs.layers[0].attention_flops, 2.0 * 4 * 32 * 16.5);
  EXPECT_EQ(costs.layers[0].decode_attention_flops, 2.0 * 4 * 32 * 33);
  EXPECT_EQ(costs.layers[0].state_bytes_per_token, 2 * 32 * 2);
  EXPECT_EQ(costs.layers[0].state_bytes_fixed, 0);
  EXPECT_EQ(costs.layers[1].decode_attention_flops, 2.0 * 6 * 32 * 8);
  EXPECT_EQ(costs.layers[1].state_bytes_per_token, 0);
  EXPECT_EQ(costs.layers[1].state_bytes_fixed, 2 * 32 * 2 * 8);
}

TEST(Cost, WithoutACausalMask) {
  const auto flops = [](std::optional<int64_t> window, std::optional<int64_t> ahead) {
    ModelSpec spec = mixed_spec();
    auto& attention = std::get<AttentionSpec>(spec.layers[0].mixer);
    attention.mask = MaskKind::kNone;
    attention.window = window;
    attention.window_ahead = ahead;
    return cost(spec, at(32)).layers[0].attention_flops / (2.0 * 4 * 32);
  };
  EXPECT_EQ(flops({}, {}), 32);
  EXPECT_EQ(flops({}, 0), 16.5);
  EXPECT_EQ(flops(1, {}), 16.5);
  double sum = 0;
  for (int t = 0; t < 32; ++t) sum += 1 + std::min(t, 4) + std::min(31 - t, 2);
  EXPECT_NEAR(flops(5, 2), sum / 32, 1e-12);
}

TEST(Cost, TotalsAndHead) {
  const ModelCost tied = cost(mixed_spec(), at(32, 4));
  EXPECT_EQ(tied.embedding.parameters, 256 * 48);
  EXPECT_EQ(tied.embedding.forward_flops(), 0);
  EXPECT_EQ(tied.head.parameters, 48);
  EXPECT_EQ(tied.head.matmul_flops, 2.0 * 256 * 48);
  EXPECT_EQ(tied.total.state_bytes(32), 2 * (2 * 32 * 4 * 32) + 4 * (2 * 32 * 4 * 8));
  const ModelCost untied = cost(mixed_spec({"model.tie_embeddings=false"}), at(32));
  EXPECT_EQ(untied.head.parameters, 48 + 256 * 48);
  EXPECT_EQ(untied.head.matmul_flops, tied.head.matmul_flops);
}

TEST(Cost, ContextDefaultsToMaxPositions) {
  EXPECT_EQ(cost(mixed_spec({"model.max_positions=77"})).context, 77);
}

TEST(Cost, OverflowIsAnError) {
  ModelSpec spec = mixed_spec();
  auto& attention = std::get<AttentionSpec>(spec.layers[0].mixer);
  attention.num_heads = attention.num_kv_heads = int64_t{1} << 31;
  attention.head_dim = int64_t{1} << 31;
  EXPECT_THROW(cost(spec), ConfigError);
  EXPECT_THROW(cost(mixed_spec(), at(INT64_MAX)), ConfigError);
  Cost large;
  large.state_bytes_per_token = INT64_MAX / 2;
  EXPECT_THROW(large.state_bytes(3), ConfigError);
}

}  // namespace
}  // namespace headway::spec
