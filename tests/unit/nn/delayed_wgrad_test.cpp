// Delayed weight gradients: nothing before backward_dw(), the same bits after it.
// Not for: the training loop that flushes them (tests/unit/engine).
#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/nn/transformer.h"

#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

using test::same_bits;

at::Tensor ids(int64_t vocab, int64_t step) {
  return at::arange(0, 20, at::kLong).mul(step).add(step / 2).remainder(vocab);
}

void backward(Transformer& model, int64_t step) {
  const int64_t vocab = model.spec().embedding.vocab_size;
  const at::Tensor hidden = model.forward(ids(vocab, step), ops::packed_sequences({0, 13, 20}));
  model.loss(hidden, ids(vocab, step + 3)).loss.backward();
}

void forget(Transformer& model) {
  for (const at::Tensor& tensor : model.parameters().tensors()) tensor.mutable_grad().reset();
}

std::vector<at::Tensor> gradients(const Transformer& model) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : model.parameters().tensors()) {
    all.push_back(tensor.grad().defined() ? tensor.grad().clone() : at::Tensor());
  }
  return all;
}

/// Weights and biases of projections: what waits. Those of routed experts are one op of their own.
bool waits(const spec::TensorSpec& tensor) {
  if (tensor.name.find(".experts.") != std::string::npos) return false;
  for (const char* name : {".qkv.", ".in.", ".gate_up.", ".decay_up.", ".kv_up.", ".q_up.",
                           "per_layer.projection.", ".per_layer.gate.", ".out.", ".up.", ".down.",
                           ".shared.gate.", ".latent_down.", ".latent_up."}) {
    if (tensor.name.find(name) != std::string::npos) return true;
  }
  return false;
}

void expect_same(const Transformer& model, const std::vector<at::Tensor>& got,
                 const std::vector<at::Tensor>& want) {
  for (size_t i = 0; i < want.size(); ++i) {
    const std::string& name = model.parameters().specs()[i].name;
    ASSERT_EQ(got[i].defined(), want[i].defined()) << name;
    if (want[i].defined()) {
      EXPECT_TRUE(same_bits(got[i], want[i])) << name;
    }
  }
}

TEST(DelayedWgrad, UndefinedBeforeAndTheSameBitsAfterOneAndThreeMicroBatches) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      for (const std::vector<int64_t>& steps :
           {std::vector<int64_t>{5}, std::vector<int64_t>{5, 7, 11}}) {
        SCOPED_TRACE(name + " " + c10::toString(type) + " " + std::to_string(steps.size()));
        Transformer model(spec, type);
        model.parameters().initialise(3);
        for (const int64_t step : steps) backward(model, step);
        const auto want = gradients(model);
        forget(model);
        model.set_delay_wgrad(true);
        for (const int64_t step : steps) backward(model, step);
        const auto before = gradients(model);
        for (size_t i = 0; i < before.size(); ++i) {
          const auto& tensor = model.parameters().specs()[i];
          EXPECT_EQ(before[i].defined(), want[i].defined() && !waits(tensor)) << tensor.name;
        }
        for (size_t n = 0; n < steps.size(); ++n) model.backward_dw();
        expect_same(model, gradients(model), want);
        model.backward_dw();  // nothing waits any more
        expect_same(model, gradients(model), want);
      }
    }
  }
}

TEST(DelayedWgrad, OneEntryAMicroBatchInOrder) {
  Transformer model(test::tiny_llama(), at::kDouble);
  model.parameters().initialise(3);
  backward(model, 5);
  const auto first = gradients(model);
  forget(model);
  model.set_delay_wgrad(true);
  backward(model, 5);
  backward(model, 7);
  model.backward_dw();
  const auto got = gradients(model);
  for (size_t i = 0; i < got.size(); ++i) {
    const auto& tensor = model.parameters().specs()[i];
    if (waits(tensor)) {
      EXPECT_TRUE(same_bits(got[i], first[i])) << tensor.name;
    }
  }
}

TEST(DelayedWgrad, AttentionFlushesItsProjectionsOneByOne) {
  Transformer model(test::tiny_odd(), at::kFloat);
  model.parameters().initialise(3);
  model.set_delay_wgrad(true);
  backward(model, 5);
  const auto grad = [&](const char* name) {
    return model.parameters().get(std::string("layers.0.mixer.") + name).grad();
  };
  const auto& attention = std::get<Attention>(model.blocks()[0].mixer());
  EXPECT_FALSE(grad("qkv.weight").defined());
  attention.backward_qkv_proj();
  EXPECT_TRUE(grad("qkv.weight").defined());
  EXPECT_TRUE(grad("qkv.bias").defined());
  EXPECT_FALSE(grad("out.weight").defined());
  attention.backward_output_proj();
  EXPECT_TRUE(grad("out.weight").defined());
  EXPECT_TRUE(grad("out.bias").defined());
  backward(model, 7);
  attention.backward_dw();
  EXPECT_FALSE(model.parameters().get("layers.1.mixer.out.weight").grad().defined());
}

TEST(DelayedWgrad, OffItDoesNothing) {
  Transformer model(test::tiny_llama(), at::kFloat);
  model.parameters().initialise(3);
  backward(model, 5);
  const auto want = gradients(model);
  model.backward_dw();
  std::get<Attention>(model.blocks()[0].mixer()).backward_dw();
  expect_same(model, gradients(model), want);
}

TEST(DelayedWgrad, WhatWaitsCanBeDropped) {
  Transformer model(test::tiny_llama(), at::kFloat);
  model.parameters().initialise(3);
  model.set_delay_wgrad(true);
  backward(model, 5);
  model.drop_dw();
  model.backward_dw();
  EXPECT_FALSE(model.parameters().get("layers.0.mlp.up.weight").grad().defined());
}

TEST(DelayedWgrad, FrozenWeightsLeaveNothingWaiting) {
  Transformer model(test::tiny_odd(), at::kFloat);
  model.parameters().initialise(3);
  model.parameters().get("layers.0.mlp.up.weight").set_requires_grad(false);
  model.parameters().get("layers.0.mlp.up.bias").set_requires_grad(false);
  model.parameters().get("layers.0.mlp.down.weight").set_requires_grad(false);
  backward(model, 5);
  const auto want = gradients(model);
  forget(model);
  model.set_delay_wgrad(true);
  backward(model, 5);
  model.backward_dw();
  expect_same(model, gradients(model), want);
}

TEST(DelayedWgrad, GoesTogetherWithRecompute) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    Transformer model(spec, at::kFloat);
    model.parameters().initialise(3);
    backward(model, 5);
    const auto want = gradients(model);
    RecomputePlan parts;
    parts.core_attention = parts.norms = parts.mlp = true;
    RecomputePlan whole;
    whole.chunk_layers = 2;
    whole.first_layers = 99;
    for (const RecomputePlan& plan : {parts, whole}) {
      const bool experts = std::ranges::any_of(
          spec.layers, [](const auto& layer) { return spec::moe_of(layer) != nullptr; });
      if (plan.chunk_layers > 0 && experts) continue;  // refused: recompute_test.cpp
      forget(model);
      model.set_recompute(plan);
      model.set_delay_wgrad(true);
      backward(model, 5);
      model.backward_dw();
      expect_same(model, gradients(model), want);
    }
  }
}

}  // namespace
}  // namespace headway::nn
