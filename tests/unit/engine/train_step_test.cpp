// Accumulated gradients equal those of one batch; what is not finite is found and named.
#include "headway/engine/train_step.h"

#include <limits>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<at::Tensor> gradients(const nn::Transformer& model) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : model.parameters().tensors()) result.push_back(tensor.grad());
  return result;
}

template <class Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const NonFiniteError& error) {
    return error.what();
  }
  return "no NonFiniteError";
}

TEST(TrainStep, MicroBatchesOfUnequalLabelCountsEqualOneBatch) {
  nn::Transformer whole = tiny_model(at::kDouble);
  nn::Transformer split = tiny_model(at::kDouble);
  const StepLoss one = accumulate_gradients(whole, {tiny_batch(4, 12, 0)}, {1e-3});
  // 12 and 36 tokens: counts of labels that differ, so a mean of means would be wrong.
  const StepLoss two =
      accumulate_gradients(split, {tiny_batch(1, 12, 0), tiny_batch(3, 12, 12)}, {1e-3});
  EXPECT_EQ(one.num_counted, two.num_counted);
  EXPECT_NEAR(one.loss, two.loss, 1e-12);
  const auto expected = gradients(whole);
  const auto got = gradients(split);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::allclose(expected[i], got[i], 1e-10, 1e-13))
        << whole.parameters().specs()[i].name;
    EXPECT_GT(expected[i].abs().max().item<double>(), 0) << whole.parameters().specs()[i].name;
  }
}

TEST(TrainStep, ANonFiniteWeightIsNamedWithItsSegment) {
  nn::Transformer model = tiny_model(at::kFloat);
  {
    at::NoGradGuard no_grad;
    const auto& spec = model.parameters().spec_of("layers.1.mixer.qkv.weight");
    ASSERT_EQ(spec.segments[1].name, "k");
    model.parameters().get(spec.name)[spec.segments[1].begin][0].fill_(kNan);
  }
  const std::string text = message_of([&] { accumulate_gradients(model, {tiny_batch(2, 8, 0)}); });
  EXPECT_NE(text.find("the weights layers.1.mixer.qkv.weight (segment k)"), std::string::npos)
      << text;
}

TEST(TrainStep, TheFirstLayerThatOverflowsIsNamed) {
  nn::Transformer model = tiny_model(at::kFloat);
  {
    at::NoGradGuard no_grad;
    model.parameters().get("layers.1.mlp.down.weight").fill_(1e38);
    model.parameters().get("layers.1.mlp.up.weight").fill_(1e3);
  }
  const std::string text = message_of([&] { accumulate_gradients(model, {tiny_batch(2, 8, 0)}); });
  EXPECT_NE(text.find("the output of layers.1 (block local)"), std::string::npos) << text;
}

}  // namespace
}  // namespace headway::engine
