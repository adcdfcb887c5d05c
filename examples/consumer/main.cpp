// Uses Headway's layers from another program: describes a two-layer heterogeneous model, computes a
// loss and its gradients, takes one step of plain gradient descent and shows that the loss fell.
// Not for: real training (see headway/engine) or reading checkpoints (see headway/io).
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <exception>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"
#include "headway/ops/sequences.h"
#include "headway/spec/model_spec.h"

namespace {

namespace spec = headway::spec;

constexpr int64_t kVocab = 64;
constexpr int64_t kTokens = 32;

// Four query heads over two key/value heads; `window` makes the layer a sliding one, and `base` is
// its own rotary base.
spec::LayerSpec layer(int64_t num_heads, std::optional<int64_t> window, double base) {
  spec::AttentionSpec attention;
  attention.num_heads = num_heads;
  attention.num_kv_heads = 2;
  attention.head_dim = 16;
  attention.v_head_dim = 16;
  attention.scale = 0.25;
  attention.window = window;
  attention.rope = spec::RopeSpec{.base = base};
  attention.gate = {.kind = spec::GateKind::kHeadWise};

  spec::LayerSpec result;
  result.block = window ? "local" : "global";
  result.mixer = attention;
  result.mlp = spec::DenseMlpSpec{.intermediate_size = 128};
  result.pre_mixer_norm = spec::NormSpec{};
  result.pre_mlp_norm = spec::NormSpec{};
  return result;
}

spec::ModelSpec tiny_model() {
  spec::ModelSpec model;
  model.hidden_size = 48;
  model.max_positions = kTokens;
  model.embedding.vocab_size = kVocab;
  model.layers = {layer(4, std::nullopt, 1e6), layer(6, 8, 1e4)};
  model.head.tied = true;
  model.head.final_norm = spec::NormSpec{};
  return model;
}

void run() {
  headway::nn::Transformer model(tiny_model());
  model.parameters().initialise(/*seed=*/1);

  // The sequence 0, 1, 2, …: every token predicts the next one.
  const at::Tensor ids = at::arange(kTokens, at::kLong);
  const at::Tensor labels = at::arange(1, kTokens + 1, at::kLong);
  const auto sequences = headway::ops::equal_sequences(/*count=*/1, kTokens);

  const auto before = model.loss(model.forward(ids, sequences), labels);
  before.loss.backward();
  {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : model.parameters().tensors()) {
      parameter.sub_(parameter.grad(), 0.1);
    }
  }
  const auto after = model.loss(model.forward(ids, sequences), labels);
  std::printf("loss %.4f before one step, %.4f after\n", before.loss.item<double>(),
              after.loss.item<double>());
}

}  // namespace

int main() {
  try {
    run();
  } catch (const headway::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "unexpected: %s\n", error.what());
    return 70;
  }
}
