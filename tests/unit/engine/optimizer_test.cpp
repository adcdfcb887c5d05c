// AdamW against scalar loops in double: decay by segment, clipping, master weights, saved state.
#include "headway/engine/optimizer.h"

#include <cmath>
#include <limits>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/gradient_norm.h"

#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

config::OptimizerConfig options_with(double clip) {
  config::OptimizerConfig options;
  options.clip = clip;
  return options;
}

nn::Parameters make_parameters(at::ScalarType type) {
  nn::Parameters parameters(test::tiny_step(), type, at::kCPU);
  parameters.initialise(3);
  return parameters;
}

void set_gradients(nn::Parameters& parameters, uint64_t seed) {
  for (const at::Tensor& tensor : parameters.tensors()) {
    at::Tensor parameter = tensor;
    if (!parameter.requires_grad()) continue;
    parameter.mutable_grad() =
        test::normal_tensor(parameter.sizes(), parameter.scalar_type(), seed++);
  }
}

/// The update rule, element by element.
struct ScalarAdamW {
  std::vector<double> weight, first, second, decay;

  void step(const std::vector<double>& gradient, double scale, int64_t t, double lr,
            const config::OptimizerConfig& o) {
    for (size_t i = 0; i < weight.size(); ++i) {
      const double g = gradient[i] * scale;
      first[i] = o.betas[0] * first[i] + (1 - o.betas[0]) * g;
      second[i] = o.betas[1] * second[i] + (1 - o.betas[1]) * g * g;
      const double m = first[i] / (1 - std::pow(o.betas[0], t));
      const double v = second[i] / (1 - std::pow(o.betas[1], t));
      weight[i] -= lr * decay[i] * weight[i] + lr * m / (std::sqrt(v) + o.eps);
    }
  }
};

ScalarAdamW scalar_of(const spec::TensorSpec& spec, const at::Tensor& parameter, double decay) {
  ScalarAdamW scalar{test::to_doubles(parameter), {}, {}, {}};
  const size_t count = scalar.weight.size();
  scalar.first.resize(count);
  scalar.second.resize(count);
  scalar.decay.resize(count);
  const size_t row = count / spec.shape.front();
  for (const spec::RowSegment& segment : spec.segments) {
    for (size_t i = segment.begin * row; i < (segment.begin + segment.rows) * row; ++i) {
      scalar.decay[i] = segment.decay ? decay : 0.0;
    }
  }
  return scalar;
}

double expected_norm(const nn::Parameters& parameters) {
  double sum = 0.0;
  for (const at::Tensor& tensor : parameters.tensors()) {
    if (!tensor.grad().defined()) continue;
    for (const double g : test::to_doubles(tensor.grad())) sum += g * g;
  }
  return std::sqrt(sum);
}

void compare_with_scalars(at::ScalarType type, double clip, double tolerance) {
  nn::Parameters parameters = make_parameters(type);
  const auto options = options_with(clip);
  std::vector<ScalarAdamW> scalars;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    scalars.push_back(
        scalar_of(parameters.specs()[i], parameters.tensors()[i], options.weight_decay));
  }
  Optimizer optimizer(parameters, options);
  for (int64_t step = 1; step <= 4; ++step) {
    set_gradients(parameters, 100 * step);
    const double norm = expected_norm(parameters);
    const double scale = norm > clip ? clip / (norm + 1e-6) : 1.0;
    const double lr = 0.01 * static_cast<double>(step);
    for (size_t i = 0; i < scalars.size(); ++i) {
      if (!parameters.tensors()[i].requires_grad()) continue;
      scalars[i].step(test::to_doubles(parameters.tensors()[i].grad()), scale, step, lr, options);
    }
    EXPECT_NEAR(optimizer.clip(), norm, 1e-9 * norm);
    optimizer.step(step, lr);
  }
  for (size_t i = 0; i < scalars.size(); ++i) {
    const at::Tensor& got = parameters.tensors()[i];
    const at::Tensor want = at::tensor(scalars[i].weight, at::kDouble).reshape(got.sizes());
    EXPECT_TRUE(test::close(got, want, tolerance)) << parameters.specs()[i].name;
  }
}

TEST(Optimizer, AgreesWithScalarLoops) {
  compare_with_scalars(at::kDouble, 1e9, 1e-12);
  compare_with_scalars(at::kFloat, 1e9, 3e-6);
}

TEST(Optimizer, ClipsByTheGlobalNorm) {
  compare_with_scalars(at::kDouble, 0.5, 1e-12);
  compare_with_scalars(at::kFloat, 0.5, 3e-6);
}

TEST(Optimizer, SpecOfThisTestHasBothKindsOfSegments) {
  const nn::Parameters parameters = make_parameters(at::kFloat);
  bool decayed = false, plain = false;
  for (const auto& spec : parameters.specs()) {
    for (const auto& segment : spec.segments) (segment.decay ? decayed : plain) = true;
  }
  EXPECT_TRUE(decayed);
  EXPECT_TRUE(plain);
}

TEST(Optimizer, SixteenBitWeightsAreRoundingsOfTheirMaster) {
  nn::Parameters parameters = make_parameters(at::kBFloat16);
  Optimizer optimizer(parameters, options_with(1e9));
  const std::string name = parameters.specs().front().name;
  const auto state = optimizer.state();
  const at::Tensor& master = state.at("master." + name);
  const at::Tensor before = master.clone();
  for (int64_t step = 1; step <= 20; ++step) {
    set_gradients(parameters, 7);
    optimizer.step(step, 1e-5);  // far below a bfloat16 rounding of most weights
  }
  EXPECT_EQ(master.scalar_type(), at::kFloat);
  EXPECT_NEAR((master - before).abs().mean().item<double>(), 20e-5, 5e-5);
  EXPECT_TRUE(test::same_bits(parameters.tensors().front(), master.to(at::kBFloat16)));
}

TEST(Optimizer, StateFilledInPlaceContinuesBitForBit) {
  nn::Parameters straight = make_parameters(at::kFloat), resumed = make_parameters(at::kFloat);
  Optimizer first(straight, options_with(0.5));
  for (int64_t step = 1; step <= 2; ++step) {
    set_gradients(straight, step);
    first.clip();
    first.step(step, 1e-3);
  }
  Optimizer second(resumed, options_with(0.5));
  {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < straight.tensors().size(); ++i) {
      resumed.tensors()[i].detach().copy_(straight.tensors()[i]);
    }
    for (auto& [name, tensor] : second.state()) tensor.copy_(first.state().at(name));
  }
  for (auto [parameters, optimizer] :
       {std::pair(&straight, &first), std::pair(&resumed, &second)}) {
    set_gradients(*parameters, 9);
    optimizer->clip();
    optimizer->step(3, 1e-3);
  }
  for (size_t i = 0; i < straight.tensors().size(); ++i) {
    EXPECT_TRUE(test::same_bits(resumed.tensors()[i], straight.tensors()[i]));
  }
}

TEST(Optimizer, LeavesWhatIsFrozenOrHasNoGradient) {
  nn::Parameters parameters = make_parameters(at::kFloat);
  at::Tensor frozen = parameters.tensors()[0], idle = parameters.tensors()[1];
  frozen.set_requires_grad(false);
  const at::Tensor frozen_before = frozen.clone(), idle_before = idle.detach().clone();
  Optimizer optimizer(parameters, options_with(1.0));
  set_gradients(parameters, 5);
  idle.mutable_grad() = at::Tensor();
  const at::Tensor moving_before = parameters.tensors()[2].detach().clone();
  optimizer.step(1, 0.1);
  EXPECT_TRUE(test::same_bits(frozen, frozen_before));
  EXPECT_TRUE(test::same_bits(idle, idle_before));
  EXPECT_FALSE(test::same_bits(parameters.tensors()[2], moving_before));
  EXPECT_EQ(optimizer.state().count("exp_avg." + parameters.specs()[0].name), 0u);
  optimizer.zero_grad();
  for (const at::Tensor& tensor : parameters.tensors()) EXPECT_FALSE(tensor.grad().defined());
}

TEST(Optimizer, NamesTheGradientThatIsNotFinite) {
  nn::Parameters parameters = make_parameters(at::kFloat);
  Optimizer optimizer(parameters, options_with(1.0));
  set_gradients(parameters, 5);
  const std::string name = parameters.specs()[3].name;
  parameters.tensors()[3].grad().view(-1)[1].fill_(NAN);
  try {
    optimizer.clip();
    FAIL() << "no error";
  } catch (const NonFiniteError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(name));
  }
}

TEST(Optimizer, GradientsOf16BitsAddUpInFloat32) {
  nn::Parameters parameters = make_parameters(at::kBFloat16);
  Optimizer optimizer(parameters, options_with(1e9));
  at::Tensor parameter = parameters.tensors().front();
  for (int64_t i = 0; i < 512; ++i) {  // in bfloat16 the sum would stay at 256
    parameter.mutable_grad() = at::ones_like(parameter.detach());
    optimizer.collect();
    EXPECT_FALSE(parameter.grad().defined());
  }
  EXPECT_NEAR(optimizer.clip(), 512.0 * std::sqrt(parameter.numel()), 1e-6);
}

TEST(GradientNorm, HasTheSameBitsForEveryNumberOfThreads) {
  const std::vector<at::Tensor> gradients = {test::normal_tensor({300, 1001}, at::kFloat, 1),
                                             {},
                                             test::normal_tensor({77}, at::kBFloat16, 2)};
  double sum = 0.0;
  for (const size_t i : {0, 2}) {
    for (const double g : test::to_doubles(gradients[i])) sum += g * g;
  }
  const int threads = at::get_num_threads();
  const double norm = gradient_norm(gradients);
  at::set_num_threads(1);
  EXPECT_EQ(gradient_norm(gradients), norm);
  at::set_num_threads(3);
  EXPECT_EQ(gradient_norm(gradients), norm);
  at::set_num_threads(threads);
  EXPECT_NEAR(norm, std::sqrt(sum), 1e-12 * norm);
  EXPECT_EQ(gradient_norm({}), 0.0);
}

TEST(GradientNorm, OneBadElementShows) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const at::Tensor gradient = at::zeros({100000});
    gradient[99999] = bad;
    EXPECT_FALSE(std::isfinite(gradient_norm({gradient})));
  }
  // A sum of squares that float32 could not hold is fine.
  EXPECT_NEAR(gradient_norm({at::full({4}, 1e30f)}), 2e30, 1e24);
}

}  // namespace
}  // namespace headway::engine
