// Recompute changes no bit of loss or gradients of any model, and lowers the peak of memory.
// Not for: the node itself (tests/unit/nn/recompute_test.cpp).
#include "headway/nn/recompute.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"
#include "headway/ops/tensor_memory.h"

#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

struct NamedPlan {
  std::string name;
  RecomputePlan plan;
};

RecomputePlan layers(int64_t chunk, int64_t first) {
  RecomputePlan plan;
  plan.chunk_layers = chunk;
  plan.first_layers = first;
  return plan;
}

RecomputePlan parts(bool core, bool norms, bool mlp) {
  RecomputePlan plan;
  plan.core_attention = core;
  plan.norms = norms;
  plan.mlp = mlp;
  return plan;
}

std::vector<NamedPlan> plans() {
  return {{"core_attn", parts(true, false, false)},
          {"layernorm", parts(false, true, false)},
          {"mlp", parts(false, false, true)},
          {"core_attn layernorm", parts(true, true, false)},
          {"all parts", parts(true, true, true)},
          {"uniform 1", layers(1, 99)},
          {"uniform 2", layers(2, 99)},
          {"uniform all", layers(99, 99)},
          {"block 1", layers(1, 1)},
          {"block 2", layers(1, 2)}};
}

at::Tensor ids(int64_t count, int64_t vocab, int64_t step) {
  return at::arange(0, count, at::kLong).mul(step).add(step / 2).remainder(vocab);
}

/// The tiny models, and one that drops attention probabilities.
std::vector<test::NamedSpec> specs() {
  std::vector<test::NamedSpec> all = test::tiny_specs();
  spec::ModelSpec drops = test::tiny_step();
  for (spec::LayerSpec& layer : drops.layers) {
    std::get<spec::AttentionSpec>(layer.mixer).dropout = 0.25;
  }
  all.push_back({"dropout", drops});
  return all;
}

/// Loss and all gradients after two micro-batches of packed documents.
std::vector<at::Tensor> train(Transformer& model, const std::vector<int64_t>& cu) {
  std::vector<at::Tensor> results;
  for (const at::Tensor& tensor : model.parameters().tensors()) tensor.mutable_grad().reset();
  const int64_t vocab = model.spec().embedding.vocab_size;
  for (const int64_t step : {5, 7}) {
    ForwardOptions options;
    options.context.random = RandomStream{3, static_cast<uint64_t>(step), 0};
    const at::Tensor hidden =
        model.forward(ids(cu.back(), vocab, step), ops::packed_sequences(cu), options);
    const at::Tensor loss = model.loss(hidden, ids(cu.back(), vocab, step + 4), {1e-3}).loss;
    loss.backward();
    results.push_back(loss.detach());
  }
  for (const at::Tensor& tensor : model.parameters().tensors()) {
    if (tensor.requires_grad()) results.push_back(tensor.grad().clone());
  }
  return results;
}

TEST(RecomputeProperty, NoBitOfLossOrGradientsChanges) {
  for (const auto& [name, spec] : specs()) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      Transformer model(spec, type);
      model.parameters().initialise(3);
      const std::vector<int64_t> cu = {0, 9, 10, 31, 40};
      const auto want = train(model, cu);
      const std::vector<NamedPlan> all = plans();
      for (size_t n = 0; n < all.size(); ++n) {
        // Every plan in float32; every third of them in each of the other dtypes.
        const size_t turn = type == at::kDouble ? 0 : 1;
        if (type != at::kFloat && n % 3 != turn) continue;
        const NamedPlan& plan = all[n];
        SCOPED_TRACE(name + " " + c10::toString(type) + " " + plan.name);
        // Layers with experts are not recomputed whole: routers count once a pass.
        const bool routed = std::ranges::any_of(
            spec.layers, [](const auto& layer) { return spec::moe_of(layer) != nullptr; });
        const bool whole = plan.plan.chunk_layers > 0;
        if (whole && spec::moe_of(spec.layers[0]) != nullptr) {
          EXPECT_THROW(model.set_recompute(plan.plan), UnsupportedError);
        }
        if (whole && routed) continue;
        model.set_recompute(plan.plan);
        const auto got = train(model, cu);
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(test::same_bits(got[i], want[i])) << i;
      }
      model.set_recompute({});
    }
  }
}

/// A bias that all layers share is an input of every chunk: it is back-propagated once a layer, to
/// the same bits where a chunk is one layer, else to the same sum in another order.
TEST(RecomputeProperty, ASharedBiasGetsTheGradientsOfAllLayers) {
  Transformer model(test::tiny_llama(3), at::kDouble);
  model.parameters().initialise(3);
  const at::Tensor values = test::normal_tensor({1, 4, 8, 8}, at::kDouble, 5);
  const auto gradient = [&](const RecomputePlan& plan) {
    model.set_recompute(plan);
    const at::Tensor bias = values.clone().set_requires_grad(true);
    ForwardOptions options;
    options.context.attention_bias = bias;
    const at::Tensor hidden = model.forward(ids(8, 23, 3), ops::equal_sequences(1, 8), options);
    hidden.square().sum().backward();
    return bias.grad();
  };
  const at::Tensor want = gradient({});
  EXPECT_GT(want.abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(test::same_bits(gradient(layers(1, 99)), want));
  EXPECT_TRUE(test::same_bits(gradient(parts(true, true, true)), want));
  EXPECT_TRUE(test::close(gradient(layers(2, 99)), want, 1e-13));
  EXPECT_TRUE(test::close(gradient(layers(99, 99)), want, 1e-13));
}

TEST(RecomputeProperty, EvaluationAndGenerationDoNotNotice) {
  Transformer model(test::tiny_step(), at::kFloat);
  model.parameters().initialise(3);
  const at::Tensor tokens = ids(12, 29, 5);
  at::NoGradGuard no_grad;
  const at::Tensor want = model.forward(tokens, ops::equal_sequences(1, 12));
  for (const NamedPlan& plan : plans()) {
    model.set_recompute(plan.plan);
    EXPECT_TRUE(test::same_bits(model.forward(tokens, ops::equal_sequences(1, 12)), want));
    ModelState state = make_state(model.spec());
    EXPECT_EQ(model.forward(tokens, ops::equal_sequences(1, 12), {&state}).sizes(), want.sizes());
    EXPECT_EQ(state.num_tokens, 12);
  }
}

TEST(RecomputeProperty, HiddenStatesAreStillHandedOut) {
  Transformer model(test::tiny_llama(3), at::kFloat);
  model.parameters().initialise(3);
  model.set_recompute(layers(2, 99));
  std::vector<at::Tensor> hidden;
  ForwardOptions options;
  options.hidden = &hidden;
  model.forward(ids(8, 23, 3), ops::equal_sequences(1, 8), options);
  EXPECT_EQ(hidden.size(), 3u);
}

/// Most bytes of tensors alive at once during one training step.
int64_t peak_of(Transformer& model, ops::TensorMemory& memory, int64_t length) {
  const std::vector<int64_t> cu = {0, length};
  memory.start();
  const at::Tensor hidden = model.forward(ids(length, 29, 5), ops::packed_sequences(cu));
  model.loss(hidden, ids(length, 29, 9)).loss.backward();
  return memory.peak_bytes();
}

TEST(RecomputeProperty, LowersThePeakOfMemory) {
  ops::TensorMemory memory;
  spec::ModelSpec spec = test::tiny_step();
  const std::vector<spec::LayerSpec> four = spec.layers;
  spec.layers.insert(spec.layers.end(), four.begin(), four.end());
  Transformer model(spec, at::kFloat);
  model.parameters().initialise(3);
  constexpr int64_t kLength = 256;
  train(model, {0, kLength});  // tables and gradients exist before the measurement
  std::map<std::string, int64_t> peaks;
  for (const NamedPlan& plan : plans()) {
    model.set_recompute(plan.plan);
    peaks[plan.name] = peak_of(model, memory, kLength);
  }
  model.set_recompute({});
  const int64_t plain = peak_of(model, memory, kLength);
  int64_t core = 0;  // bytes of core outputs, before and after the gate
  for (const spec::LayerSpec& layer : spec.layers) {
    const auto& attention = *spec::attention_of(layer);
    core += 2 * kLength * attention.num_heads * attention.v_head_dim * 4;
  }
  const auto count = static_cast<int64_t>(spec.layers.size());
  const int64_t norms = 2 * count * kLength * spec.hidden_size * 4;
  // What the last layer saved is there again when its backward pass, the peak, begins.
  EXPECT_LE(peaks["core_attn"], plain - core * (count - 2) / count);
  EXPECT_LE(peaks["layernorm"], plain - norms * (count - 2) / count);
  EXPECT_LT(peaks["mlp"], plain - norms);
  EXPECT_LT(peaks["all parts"], peaks["mlp"]);
  EXPECT_LT(peaks["all parts"], peaks["core_attn"]);
  EXPECT_LT(peaks["uniform 1"], plain / 2);
  EXPECT_LT(peaks["uniform 2"], peaks["block 2"]);
  EXPECT_LT(peaks["block 2"], peaks["block 1"]);
  EXPECT_LT(peaks["block 1"], plain);
}

}  // namespace
}  // namespace headway::nn
