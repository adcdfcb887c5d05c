// Keys and values that several layers read, one sum of their gradients, and spans of image tokens.
// Not for: whole models (tests/property/nn go over tiny_gemma4, which shares).
#include "headway/nn/shared_kv.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/image_spans.h"
#include "headway/nn/transformer.h"
#include "headway/ops/fan_out.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

using ::testing::HasSubstr;
using testing_support::message_of;

TEST(FanOut, GradientsOfSixteenBitsAddUpInFloat32) {
  const at::Tensor x = at::zeros({1}, at::kBFloat16).set_requires_grad(true);
  const auto views = ops::fan_out(x, 5);
  // 256 + 1 + 1 + 1 rounds to 256 at every step of a sum in bfloat16.
  at::Tensor sum = views[0] * 256.0;
  for (size_t i = 1; i < 4; ++i) sum = sum + views[i];
  sum.sum().backward();
  // 259, rounded once; the view nobody read adds nothing.
  EXPECT_EQ(x.grad().item<double>(), 260.0);
}

TEST(FanOut, ViewsShareMemoryAndCountIsChecked) {
  const at::Tensor x = at::ones({2, 3});
  for (const at::Tensor& view : ops::fan_out(x, 2)) EXPECT_EQ(view.data_ptr(), x.data_ptr());
  EXPECT_THAT(message_of<ShapeError>([&] { ops::fan_out(x, 0); }), HasSubstr("count = 0"));
}

KeysValues rows_of(double value) {
  KeysValues kv;
  kv.k_SGK = kv.v_SGV = at::full({2, 1, 1}, value);
  return kv;
}

TEST(SharedKv, HandsOutOncePerReader) {
  SharedKv shared({2, 0, 0});
  EXPECT_EQ(shared.put(0, rows_of(3)).k_SGK.sum().item<double>(), 6.0);
  shared.put(1, rows_of(5));
  EXPECT_EQ(shared.take(0).v_SGV.sum().item<double>(), 6.0);
  EXPECT_EQ(shared.take(0).v_SGV.sum().item<double>(), 6.0);
  EXPECT_THAT(message_of<InternalError>([&] { shared.take(0); }), HasSubstr("layer 0"));
  EXPECT_THAT(message_of<InternalError>([&] { shared.take(1); }), HasSubstr("layer 1"));
}

TEST(SharedKv, TwoLivingGraphsDoNotMix) {
  Transformer model(test::tiny_gemma4(), at::kDouble);
  model.parameters().initialise(4);
  const auto ids = [](int64_t step) {
    return at::arange(0, 12, at::kLong).mul(step).remainder(31);
  };
  const at::Tensor weight = model.parameters().get("layers.2.mixer.qkv.weight");
  const auto gradient = [&](const at::Tensor& loss) {
    weight.mutable_grad().reset();
    loss.backward();
    return weight.grad().clone();
  };
  const auto loss = [&](int64_t step) {
    const at::Tensor h = model.forward(ids(step), ops::equal_sequences(1, 12));
    return model.loss(h, ids(step + 1)).loss;
  };
  const at::Tensor alone = gradient(loss(3));
  const at::Tensor first = loss(3), second = loss(5);
  gradient(second);
  EXPECT_TRUE(test::same_bits(gradient(first), alone));
}

TEST(ImageSpans, AreRunsOfImageAndVideoTokensWithinASequence) {
  const at::Tensor types = at::tensor({0, 1, 2, 0, 3, 1, 1, 1, 0}, at::kLong);
  const at::Tensor spans = image_spans(types, ops::packed_sequences({0, 6, 9}));
  EXPECT_EQ(test::to_integers(spans), (std::vector<int64_t>{0, 1, 1, 0, 0, 2, 3, 3, 0}));
  EXPECT_THAT(message_of<ShapeError>([&] {
                image_spans(types.narrow(0, 0, 4), ops::packed_sequences({0, 6, 9}));
              }),
              HasSubstr("allowed int64 [9]"));
}

TEST(ImageSpans, MaskShowsTheOwnSpanBesideEarlierKeys) {
  const at::Tensor spans = at::tensor({1, 1, 0, 2, 2}, at::kLong);
  ops::Sequences sequences = ops::packed_sequences({0, 5});
  sequences.cu_k = {0, 7};  // two keys from a cache
  const at::Tensor mask = span_mask(spans, sequences);
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 7; ++j) {
      const int64_t own = spans[i].item<int64_t>(), key = j - 2;
      const bool same = key >= 0 && own > 0 && spans[key].item<int64_t>() == own;
      EXPECT_EQ(mask[0][0][i][j].item<bool>(), !(key <= i || same)) << i << " " << j;
    }
  }
}

/// One local layer that lets spans see themselves, and what changes with the last image token.
TEST(ImageSpans, TokensOfAnImageSeeLaterOnesInLayersThatSaySo) {
  spec::ModelSpec spec = test::tiny_gemma();
  for (size_t i : {size_t{0}, size_t{2}}) {
    std::get<spec::AttentionSpec>(spec.layers[i].mixer).bidirectional_spans = true;
  }
  Transformer model(spec, at::kDouble);
  model.parameters().initialise(4);
  at::Tensor ids = at::arange(0, 8, at::kLong).mul(3).remainder(31);
  const auto sequences = ops::equal_sequences(1, 8);
  const at::NoGradGuard no_grad;
  const auto run = [&](const at::Tensor& types) {
    ForwardOptions options;
    if (types.defined()) options.context.image_spans_T = image_spans(types, sequences);
    return model.forward(ids, sequences, options);
  };
  const at::Tensor text = at::zeros({8}, at::kLong);
  const at::Tensor image = at::tensor({0, 0, 1, 1, 1, 0, 0, 0}, at::kLong);
  const at::Tensor plain = run({});
  EXPECT_LT((run(text) - plain).abs().max().item<double>(), 1e-12);
  const at::Tensor before = run(image);
  EXPECT_LT((before - plain).narrow(0, 0, 2).abs().max().item<double>(), 1e-12);
  EXPECT_GT((before - plain)[2].abs().max().item<double>(), 1e-6);
  ids[4] = 30;  // the last token of the image
  const at::Tensor after = run(image);
  EXPECT_LT((after - before).narrow(0, 0, 2).abs().max().item<double>(), 1e-12);
  EXPECT_GT((after - before)[2].abs().max().item<double>(), 1e-6);
}

}  // namespace
}  // namespace headway::nn
