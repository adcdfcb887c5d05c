// QK-Clip's row factors: worked examples, what they do to real layers of every layout, latent
// attention, shards of tensor-parallel ranks, errors.
// Not for: applying them to masters (tests/unit/engine/logit_watch_test.cpp).
#include "headway/nn/qk_clip.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/megatron_layout.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"

namespace headway::nn {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;

std::vector<double> etas_of(const std::vector<double>& max, int64_t groups, QkClip clip = {}) {
  return clip_etas(at::tensor(max, at::kDouble), static_cast<int64_t>(max.size()), groups, clip);
}

TEST(QkClip, WorkedExamples) {
  const auto near = [](double value) { return DoubleNear(value, 5e-6); };
  std::vector<double> factors;
  for (const double eta : etas_of({150, 160, 170, 180}, 4)) factors.push_back(std::sqrt(eta));
  EXPECT_THAT(factors, ElementsAre(near(.81650), near(.79057), near(.76696), near(.74536)));
  factors.clear();
  for (const double eta : etas_of({80, 150, 90, 200}, 4)) factors.push_back(std::sqrt(eta));
  EXPECT_THAT(factors, ElementsAre(1.0, near(.81650), 1.0, near(.70711)));
}

TEST(QkClip, AGroupTakesTheLargestOfItsHeads) {
  EXPECT_THAT(etas_of({50, 400, 10, 20}, 2), ElementsAre(0.25, 1.0));
  EXPECT_THAT(etas_of({50, 400, 10, 200}, 1, {50, 0.5}), ElementsAre(0.125));
}

/// Fix-11: upstream divides by maxima below zero and takes a root of the negative quotient.
TEST(QkClip, MaximaThatAreNotPositiveAreLeftAlone) {
  const double nothing = -std::numeric_limits<double>::infinity();
  EXPECT_THAT(etas_of({-300, 0, nothing, 100}, 4), ElementsAre(1, 1, 1, 1));
}

struct Layout {
  int64_t heads, groups;
  spec::GateKind gate;
  bool bias;
};

spec::ModelSpec model_of(const Layout& layout) {
  spec::AttentionSpec attention;
  attention.num_heads = layout.heads;
  attention.num_kv_heads = layout.groups;
  attention.head_dim = attention.v_head_dim = 6;
  attention.scale = 0.9;
  attention.rope = spec::RopeSpec{};
  attention.gate.kind = layout.gate;
  attention.qkv_bias = layout.bias;
  attention.gate_bias = layout.bias && layout.gate != spec::GateKind::kNone;
  spec::ModelSpec model;
  model.hidden_size = 16;
  model.max_positions = 64;
  model.embedding.vocab_size = 1;
  model.head.tied = true;
  spec::LayerSpec layer;
  layer.block = "only";
  layer.mixer = attention;
  layer.mlp = spec::DenseMlpSpec{.intermediate_size = 1};
  model.layers.push_back(layer);
  return model;
}

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const auto& [heads, groups] : {std::pair<int64_t, int64_t>{4, 4}, {8, 4}, {6, 1}}) {
    for (const auto gate :
         {spec::GateKind::kNone, spec::GateKind::kHeadWise, spec::GateKind::kElementWise}) {
      for (const bool bias : {false, true}) all.push_back({heads, groups, gate, bias});
    }
  }
  return all;
}

at::Tensor measured(const Attention& attention, const at::Tensor& x) {
  attention.max_logit().reset();
  attention.max_logit().observe(true);
  attention.forward({x, ops::packed_sequences({0, 11, x.size(0)})});
  attention.max_logit().observe(false);
  return attention.max_logit().value();
}

/// The claim of the method: measured again, every head's largest logit is η of its group times what
/// it was; values and gates stay as they were.
TEST(QkClip, LogitsOfEveryLayoutShrinkByExactlyEta) {
  const at::NoGradGuard no_grad;
  for (const Layout& layout : layouts()) {
    const spec::ModelSpec model = model_of(layout);
    Parameters parameters(model, at::kDouble, at::kCPU);
    uint64_t seed = 20;
    for (const at::Tensor& tensor : parameters.tensors()) {
      tensor.copy_(test::normal_tensor(tensor.sizes(), at::kDouble, ++seed));
    }
    const std::string prefix = "layers.0.mixer.";
    const spec::AttentionSpec& heads = *spec::attention_of(model.layers[0]);
    const Attention attention(
        heads, ParameterScope(parameters, prefix),
        std::make_shared<RotaryTable>(*heads.rope, heads.head_dim, spec::RopePrecision::kModelDtype,
                                      at::kDouble, at::kCPU));
    const at::Tensor x = test::normal_tensor({23, 16}, at::kDouble, 7);
    const at::Tensor before = measured(attention, x);
    // A threshold in the middle: some groups above, some below.
    const QkClip clip{before.median().item<double>() * 0.9, 0.3};
    const auto etas = clip_etas(before, heads.num_heads, heads.num_kv_heads, clip);
    const auto factors = clip_qk(attention, parameters, prefix, clip);
    EXPECT_FALSE(attention.max_logit().value().defined());
    EXPECT_EQ(factors.size(), layout.bias ? 2u : 1u);
    for (const auto& [name, rows] : factors) {
      const at::Tensor& tensor = parameters.get(name);
      tensor.mul_(tensor.dim() == 2 ? rows.unsqueeze(1) : rows);
      for (const spec::RowSegment& segment : parameters.spec_of(name).segments) {
        if (segment.name == "q" || segment.name == "k") continue;
        EXPECT_TRUE(rows.narrow(0, segment.begin, segment.rows).eq(1.0).all().item<bool>());
      }
    }
    const at::Tensor after = measured(attention, x);
    for (int64_t h = 0; h < heads.num_heads; ++h) {
      const double eta = etas[h / (heads.num_heads / heads.num_kv_heads)];
      EXPECT_NEAR(after[h].item<double>(), eta * before[h].item<double>(),
                  1e-12 * before[h].abs().item<double>())
          << "head " << h << " of " << layout.heads << ":" << layout.groups;
    }
    EXPECT_LE(after.max().item<double>(), clip.threshold * (1 + 1e-12));
  }
}

TEST(QkClip, BelowTheThresholdNothingIsWritten) {
  const spec::ModelSpec model = model_of(layouts()[0]);
  Parameters parameters(model, at::kFloat, at::kCPU);
  const Attention attention(*spec::attention_of(model.layers[0]),
                            ParameterScope(parameters, "layers.0.mixer."), nullptr);
  attention.max_logit().set(at::full({4}, 100.0));
  EXPECT_TRUE(clip_qk(attention, parameters, "layers.0.mixer.", QkClip{}).empty());
  EXPECT_FALSE(attention.max_logit().value().defined());
}

/// Scores of latent attention by hand: q·k over [nope | pe], the rotated key shared by all heads.
at::Tensor latent_scores(const LatentHeads& heads, const at::Tensor& q_up, const at::Tensor& kv_up,
                         const at::Tensor& k_pe) {
  const at::Tensor q = at::mm(test::normal_tensor({5, 7}, at::kDouble, 31), q_up.t())
                           .view({5, heads.num_heads, heads.nope_dim + heads.pe_dim});
  const at::Tensor kv = at::mm(test::normal_tensor({5, 9}, at::kDouble, 32), kv_up.t())
                            .view({5, heads.num_heads, heads.nope_dim + heads.value_dim});
  const at::Tensor nope =
      at::einsum("qhc,khc->hqk", {q.narrow(2, 0, heads.nope_dim), kv.narrow(2, 0, heads.nope_dim)});
  return nope + at::einsum("qhc,kc->hqk", {q.narrow(2, heads.nope_dim, heads.pe_dim), k_pe});
}

TEST(QkClip, LatentLogitsShrinkByExactlyEta) {
  const LatentHeads heads{3, 4, 2, 5};
  const at::Tensor q_up = test::normal_tensor({3 * 6, 7}, at::kDouble, 33);
  const at::Tensor kv_up = test::normal_tensor({3 * 9, 9}, at::kDouble, 34);
  const at::Tensor k_pe = test::normal_tensor({5, 2}, at::kDouble, 35);
  const at::Tensor before = latent_scores(heads, q_up, kv_up, k_pe);
  const at::Tensor max = before.amax({1, 2});
  const QkClip clip{max.median().item<double>() * 0.8, 0.4};
  const auto etas = clip_etas(max, 3, 3, clip);
  const at::Tensor rows = latent_key_factors(heads, etas, clip.alpha);
  const at::Tensor after =
      latent_scores(heads, q_up * latent_query_factors(heads, etas, clip.alpha).unsqueeze(1),
                    kv_up * rows.unsqueeze(1), k_pe);
  for (int64_t h = 0; h < 3; ++h) {
    EXPECT_TRUE(test::close(after[h], before[h] * etas[h], 1e-13)) << h;
    EXPECT_TRUE(rows.view({3, 9})[h].narrow(0, 4, 5).eq(1.0).all().item<bool>()) << h;
  }
  EXPECT_LT(*std::min_element(etas.begin(), etas.end()), 1.0);
}

/// Tensor-parallel ranks hold contiguous rows of Megatron's order, whole groups or fragments of one
/// (G < T): with maxima reduced over the ranks, clipping shards is clipping the whole.
TEST(QkClip, ShardsOfAnyRankAreSlicesOfTheClippedWhole) {
  const int64_t dim = 3, width = 4;
  for (const auto& [heads, groups, ranks] :
       {std::tuple<int64_t, int64_t, int64_t>{8, 4, 2}, {8, 2, 4}, {8, 1, 4}, {4, 4, 4}}) {
    const io::QkvHeads layout{heads, groups, dim, spec::GateKind::kNone};
    const int64_t rows = (heads + 2 * groups) * dim;
    const at::Tensor whole = test::normal_tensor({rows, width}, at::kDouble, 40);
    const at::Tensor max = test::normal_tensor({heads}, at::kDouble, 41).abs() * 100;
    const auto etas = clip_etas(max, heads, groups, {60, 0.5});
    spec::TensorSpec tensor;
    tensor.shape = {rows, width};
    tensor.segments = {{"q", 0, heads * dim, "", {}, true},
                       {"k", heads * dim, groups * dim, "", {}, true},
                       {"v", (heads + groups) * dim, groups * dim, "", {}, true}};
    spec::AttentionSpec attention;
    attention.num_heads = heads;
    attention.num_kv_heads = groups;
    attention.head_dim = dim;
    const at::Tensor factors =
        io::qkv_to_megatron(qkv_clip_factors(tensor, attention, etas, 0.5), layout);
    const at::Tensor clipped = whole * factors.unsqueeze(1);
    // Every element by its (group, segment), as §1.3.1 orders rows.
    const int64_t m = heads / groups, block = (m + 2) * dim;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t share = rows / ranks;
      for (int64_t row = rank * share; row < (rank + 1) * share; ++row) {
        const int64_t group = row / block, offset = row % block;
        const double eta = etas[group];
        const double want = offset < (m + 1) * dim ? std::sqrt(eta) : 1.0;
        EXPECT_TRUE(test::close(clipped[row], whole[row] * want, 1e-14)) << row;
      }
    }
  }
}

TEST(QkClip, ErrorsAndTheTrackerIsResetInEveryCase) {
  const spec::ModelSpec model = model_of(layouts()[0]);
  Parameters parameters(model, at::kFloat, at::kCPU);
  const Attention attention(*spec::attention_of(model.layers[0]),
                            ParameterScope(parameters, "layers.0.mixer."), nullptr);
  const auto clip = [&](std::optional<QkClip> with) {
    clip_qk(attention, parameters, "layers.0.mixer.", with);
  };
  attention.max_logit().set(at::ones({4}));
  EXPECT_THAT(message_of<ConfigError>([&] { clip(std::nullopt); }),
              HasSubstr("qk_clip option needs to be enabled"));
  EXPECT_THAT(message_of<ShapeError>([&] { clip(QkClip{}); }),
              HasSubstr("current_max_attn_logits is None"));
  for (const at::Tensor& wrong : {at::ones({3}), at::ones({2, 2})}) {
    attention.max_logit().set(wrong);
    EXPECT_THAT(message_of<ShapeError>([&] { clip(QkClip{}); }), HasSubstr("allowed [4]"));
    EXPECT_FALSE(attention.max_logit().value().defined());
  }
  EXPECT_THAT(message_of<NonFiniteError>([&] {
                etas_of({1, NAN, 1, 1}, 4);
              }),
              HasSubstr("[1] = nan"));
  EXPECT_THAT(message_of<NonFiniteError>([&] { etas_of({INFINITY}, 1); }), HasSubstr("[0] = inf"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                etas_of({1, 1, 1}, 2);
              }),
              HasSubstr("num_query_groups"));
  for (const double threshold : {0.0, -1.0, (double)NAN, (double)INFINITY}) {
    EXPECT_THAT(message_of<ConfigError>([&] {
                  etas_of({1}, 1, {threshold, 0.5});
                }),
                HasSubstr("qk_clip_threshold"));
  }
  for (const double alpha : {-0.1, 1.1, (double)NAN}) {
    EXPECT_THAT(message_of<ConfigError>([&] {
                  etas_of({1}, 1, {100, alpha});
                }),
                HasSubstr("qk_clip_alpha"));
  }
  LatentHeads absorbed{2, 4, 2, 4, true};
  EXPECT_THAT(
      message_of<ConfigError>([&] {
        latent_key_factors(absorbed, {1, 1}, 0.5);
      }),
      HasSubstr("not supported when cache_mla_latents is enabled and absorption is active"));
}

}  // namespace
}  // namespace headway::nn
