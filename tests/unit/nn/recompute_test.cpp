// The node that repeats a forward pass, and memory given back until the backward pass.
// Not for: whole models (tests/property/nn/recompute_test.cpp).
#include "headway/nn/recompute.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "headway/base/error.h"
#include "headway/ops/tensor_memory.h"

#include "tests/support/tensors.h"

namespace headway::nn {
namespace {

using test::normal_tensor;
using test::same_bits;

at::Tensor leaf(at::IntArrayRef shape, uint64_t seed) {
  return normal_tensor(shape, at::kFloat, seed).set_requires_grad(true);
}

TEST(Recompute, GivesTheValuesAndGradientsOfTheBody) {
  int calls = 0;
  const at::Tensor weight = leaf({5, 5}, 1);
  const TensorBody body = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    ++calls;
    const at::Tensor h = at::tanh(at::mm(in[0], weight)) * in[1];
    return {h, at::exp(h)};
  };
  const auto run = [&](bool again) {
    const at::Tensor x = leaf({4, 5}, 2), scale = leaf({4, 5}, 3);
    weight.mutable_grad().reset();
    const auto out = again ? recompute(body, {x, scale}, {weight}) : body({x, scale});
    (out[0].sum() + (out[1] * out[0]).sum()).backward();
    return std::vector<at::Tensor>{out[0].detach(), out[1].detach(), x.grad(), scale.grad(),
                                   weight.grad().clone()};
  };
  const auto want = run(false);
  EXPECT_EQ(calls, 1);
  const auto got = run(true);
  EXPECT_EQ(calls, 3);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[i])) << i;
}

TEST(Recompute, OnlyWhatNeedsAGradientGetsOne) {
  const at::Tensor weight = leaf({3, 3}, 1);
  const at::Tensor frozen = normal_tensor({2, 3}, at::kFloat, 2);
  const TensorBody body = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    return {at::mm(in[0], weight), in[0] * 2};
  };
  const auto out = recompute(body, {frozen}, {weight});
  out[0].sum().backward();
  EXPECT_TRUE(weight.grad().defined());
  EXPECT_FALSE(frozen.grad().defined());
  // An output that nobody used, and one that leads nowhere.
  weight.mutable_grad().reset();
  const auto more = recompute(body, {frozen}, {weight});
  (more[0].sum() + more[1].sum()).backward();
  EXPECT_TRUE(weight.grad().defined());
}

TEST(Recompute, WithoutGradientsItIsTheBodyAndNothingReplays) {
  int replays = 0;
  const TensorBody body = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    replays += is_replaying() ? 1 : 0;
    return {in[0] * 3};
  };
  const at::Tensor x = leaf({3}, 1);
  {
    at::NoGradGuard no_grad;
    EXPECT_FALSE(recompute(body, {x}, {})[0].requires_grad());
  }
  EXPECT_FALSE(recompute(body, {x.detach()}, {})[0].requires_grad());
  const at::Tensor y = recompute(body, {x}, {})[0];
  EXPECT_EQ(replays, 0);
  y.sum().backward();
  EXPECT_EQ(replays, 1);
  EXPECT_FALSE(is_replaying());
}

TEST(Recompute, KeepsOnlyItsInputs) {
  const TensorBody body = [](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    at::Tensor h = in[0];
    for (int i = 0; i < 8; ++i) h = at::exp(h * 0.1);
    return {h};
  };
  ops::TensorMemory memory;
  const at::Tensor x = leaf({100, 10}, 1);
  memory.start();
  const at::Tensor kept = body({x})[0];
  const int64_t plain = memory.bytes();
  memory.start();
  const at::Tensor y = recompute(body, {x}, {})[0];
  EXPECT_EQ(memory.bytes(), y.nbytes());
  EXPECT_GE(plain, 8 * memory.bytes());
}

TEST(Recompute, GradientsOfGradientsAreRefused) {
  const TensorBody body = [](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    return {in[0] * in[0]};
  };
  const at::Tensor x = leaf({3}, 1);
  const at::Tensor y = recompute(body, {x}, {})[0].sum();
  try {
    torch::autograd::grad({y}, {x}, {}, true, /*create_graph=*/true);
    FAIL();
  } catch (const UnsupportedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("gradients of gradients"));
  }
}

TEST(RecomputePlan, ChunksOfLayers) {
  const auto chunks = [](const RecomputePlan& plan, int64_t layers) {
    std::vector<int64_t> ends;
    for (int64_t i = 0; i < layers;) {
      const int64_t end = plan.chunk_end(i, layers);
      ends.push_back(end);
      i = std::max(end, i + 1);
    }
    return ends;
  };
  using testing::ElementsAre;
  EXPECT_THAT(chunks({}, 3), ElementsAre(0, 1, 2));
  RecomputePlan uniform;
  uniform.chunk_layers = 2;
  uniform.first_layers = 5;
  EXPECT_THAT(chunks(uniform, 5), ElementsAre(2, 4, 5));
  RecomputePlan block;
  block.chunk_layers = 1;
  block.first_layers = 2;
  EXPECT_THAT(chunks(block, 4), ElementsAre(1, 2, 2, 3));
  block.first_layers = 9;
  EXPECT_THAT(chunks(block, 2), ElementsAre(1, 2));
  uniform.chunk_layers = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(chunks(uniform, 5), ElementsAre(5));
}

TEST(DiscardUntilBackward, FreesAndFillsAgain) {
  const at::Tensor x = leaf({50, 4}, 1);
  const at::Tensor weight = leaf({4, 4}, 2);
  const auto middle = [](const at::Tensor& in) { return at::tanh(in) * 2; };
  at::mm(middle(x), weight).sum().backward();
  const at::Tensor want_x = x.grad().clone(), want_w = weight.grad().clone();
  x.mutable_grad().reset();
  weight.mutable_grad().reset();

  int calls = 0;
  at::Tensor out;
  at::Tensor seen;
  {
    const at::Tensor h = middle(x);
    out = at::mm(h, weight);
    discard_until_backward({h}, out, [&calls, in = x.detach(), middle] {
      ++calls;
      EXPECT_TRUE(is_replaying());
      EXPECT_FALSE(at::GradMode::is_enabled());
      return std::vector<at::Tensor>{middle(in)};
    });
    EXPECT_EQ(h.storage().nbytes(), 0u);
    seen = h.detach();
  }
  EXPECT_EQ(calls, 0);
  out.sum().backward();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(same_bits(seen, middle(x.detach())));
  EXPECT_TRUE(same_bits(x.grad(), want_x));
  EXPECT_TRUE(same_bits(weight.grad(), want_w));
}

TEST(DiscardUntilBackward, MemoryIsFreeBetweenTheTwoPasses) {
  ops::TensorMemory memory;
  const at::Tensor x = leaf({1000, 4}, 1);
  const at::Tensor weight = leaf({4, 1}, 2);
  memory.start();
  at::Tensor out;
  {
    const at::Tensor h = x * 2;
    out = at::mm(h, weight);
    discard_until_backward({h}, out, [in = x.detach()] { return std::vector<at::Tensor>{in * 2}; });
  }
  EXPECT_EQ(memory.bytes(), out.nbytes());
  out.sum().backward();
  EXPECT_TRUE(same_bits(weight.grad(), at::mm((x.detach() * 2).t(), at::ones({1000, 1}))));
}

TEST(DiscardUntilBackward, LeavesSharedMemoryAndPassesWithoutGradientAlone) {
  const at::Tensor x = leaf({6, 4}, 1);
  const auto never = []() -> std::vector<at::Tensor> { throw InternalError("called"); };
  const at::Tensor wide = x * 2;
  const at::Tensor part = wide.narrow(0, 0, 3);
  const at::Tensor out = part * 3;
  discard_until_backward({part}, out, never);
  EXPECT_GT(part.storage().nbytes(), 0u);
  out.sum().backward();
  at::NoGradGuard no_grad;
  const at::Tensor h = x * 2;
  discard_until_backward({h}, h * 2, never);
  EXPECT_GT(h.storage().nbytes(), 0u);
}

}  // namespace
}  // namespace headway::nn
