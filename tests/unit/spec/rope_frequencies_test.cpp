// Frequencies of every rotary kind against published values.
#include "headway/spec/rope_frequencies.h"

#include <cmath>

#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

constexpr auto kF32 = RopePrecision::kFloat32;
constexpr auto kF64 = RopePrecision::kModelDtype;

void expect_relative(double got, double want, double tolerance) {
  EXPECT_NEAR(got / want, 1.0, tolerance) << "got " << got << ", want " << want;
}

TEST(RopeFrequencies, DefaultIsAPowerLadder) {
  const RopeFrequencies f = rope_frequencies({.base = 1e4}, 8, kF64);
  ASSERT_EQ(f.inverse.size(), 4u);
  for (int j = 0; j < 4; ++j) expect_relative(f.inverse[j], std::pow(10.0, -j), 1e-14);
  EXPECT_EQ(f.attention_factor, 1.0);
}

TEST(RopeFrequencies, FractionRotatesFewerChannels) {
  EXPECT_EQ(rope_frequencies({.fraction = 0.5}, 64, kF32).inverse.size(), 16u);
  EXPECT_THROW(rope_frequencies({.fraction = 0.1}, 8, kF32), ConfigError);  // width 0
  EXPECT_THROW(rope_frequencies({.fraction = 0.4}, 8, kF32), ConfigError);  // width 3
  EXPECT_THROW(rope_frequencies({.fraction = 1.5}, 8, kF32), ConfigError);
}

TEST(RopeFrequencies, LinearDividesByTheFactor) {
  const RopeFrequencies plain = rope_frequencies({}, 16, kF64);
  const RopeFrequencies scaled =
      rope_frequencies({.kind = RopeKind::kLinear, .factor = 8.0}, 16, kF64);
  for (int j = 0; j < 8; ++j) EXPECT_DOUBLE_EQ(scaled.inverse[j], plain.inverse[j] / 8);
}

TEST(RopeFrequencies, Llama3MatchesMegatronTable) {
  const RopeSpec rope{.kind = RopeKind::kLlama3,
                      .base = 5e5,
                      .factor = 8,
                      .low_freq_factor = 1,
                      .high_freq_factor = 4,
                      .original_max_positions = 8192};
  const auto w = rope_frequencies(rope, 128, kF64).inverse;
  expect_relative(w[28], 3.211446e-3, 1e-6);
  expect_relative(w[29], 2.166571e-3, 1e-6);
  expect_relative(w[32], 5.248462e-4, 1e-6);
  expect_relative(w[34], 1.785078e-4, 1e-6);
  expect_relative(w[35], 9.556212e-5, 1e-6);
  expect_relative(w[63], 3.068926e-7, 1e-6);
}

TEST(RopeFrequencies, Llama3MatchesStepTable) {
  const RopeSpec rope{.kind = RopeKind::kLlama3,
                      .base = 5e6,
                      .fraction = 0.5,
                      .factor = 2,
                      .low_freq_factor = 1,
                      .high_freq_factor = 32,
                      .original_max_positions = 131072};
  const auto w = rope_frequencies(rope, 128, kF32).inverse;
  expect_relative(w[13], 1.899080768e-3, 1e-6);
  expect_relative(w[14], 1.030196122e-3, 1e-6);
  expect_relative(w[16], 2.836864388e-4, 1e-6);
  expect_relative(w[20], 3.289137091e-5, 1e-6);
  expect_relative(w[21], 2.008033431e-5, 1e-6);
  expect_relative(w[31], 1.619357782e-7, 1e-6);
}

TEST(RopeFrequencies, YarnMatchesMegatronTables) {
  RopeSpec rope{.kind = RopeKind::kYarn, .base = 1e4, .factor = 40, .original_max_positions = 4096};
  RopeFrequencies f = rope_frequencies(rope, 64, kF64);
  expect_relative(f.inverse[10], 0.05623413, 1e-6);
  expect_relative(f.inverse[11], 0.03900693, 1e-6);
  expect_relative(f.inverse[16], 0.0055, 1e-6);
  expect_relative(f.inverse[20], 7.905694e-4, 1e-6);
  expect_relative(f.inverse[23], 3.333804e-5, 1e-6);
  expect_relative(f.attention_factor, 1.36888795, 1e-8);
  rope = {.kind = RopeKind::kYarn,
          .base = 1.5e5,
          .factor = 32,
          .original_max_positions = 4096,
          .truncate = false};
  f = rope_frequencies(rope, 64, kF64);
  expect_relative(f.inverse[9], 0.03170570, 1e-6);
  expect_relative(f.inverse[16], 4.564839e-4, 1e-6);
  expect_relative(f.attention_factor, 1.34657359, 1e-8);
}

TEST(RopeFrequencies, YarnAttentionFactorRules) {
  RopeSpec rope{.kind = RopeKind::kYarn, .factor = 40, .original_max_positions = 4096};
  rope.mscale = 0.707;
  expect_relative(rope_frequencies(rope, 64, kF64).attention_factor, 1.36888795,
                  1e-8);  // one key alone is ignored
  rope.mscale_all_dim = 0.707;
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, 64, kF64).attention_factor, 1.0);
  rope.attention_factor = 0.5;
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, 64, kF64).attention_factor, 0.5);
}

TEST(RopeFrequencies, ProportionalKeepsTheHeadAsDenominator) {
  const RopeSpec rope{.kind = RopeKind::kProportional, .base = 1e6, .fraction = 0.25};
  const auto w = rope_frequencies(rope, 512, kF64).inverse;
  ASSERT_EQ(w.size(), 256u);
  expect_relative(w[1], 9.474635257e-1, 1e-9);
  expect_relative(w[32], 1.778279410e-1, 1e-9);
  expect_relative(w[63], 3.337624694e-2, 1e-9);
  for (int j = 64; j < 256; ++j) EXPECT_EQ(w[j], 0.0);
}

TEST(SectionAxes, FollowTheSlotRule) {
  RopeSpec rope;
  rope.sections = {2, 3, 3};
  EXPECT_EQ(section_axes(rope, 8), (std::vector<int64_t>{0, 0, 1, 1, 1, 2, 2, 2}));
  rope.sections = {3, 3, 2};
  rope.sections_interleaved = true;
  EXPECT_EQ(section_axes(rope, 8), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1}));
  rope.layout = RopeLayout::kInterleaved;
  EXPECT_EQ(section_axes(rope, 8), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1}))
      << "one rule for both layouts of channels";
}

}  // namespace
}  // namespace headway::spec
