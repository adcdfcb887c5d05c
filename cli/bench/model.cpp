// Whole models: the shapes of the speed targets, without a baseline in C++ (tools/compare_hf.py has
// transformers).
#include <cmath>
#include <memory>

#include <ATen/Functions.h>

#include "headway/engine/generator.h"
#include "headway/nn/transformer.h"
#include "headway/spec/cost.h"
#include "headway/spec/kv_sharing.h"

#include "cli/bench/harness.h"

namespace headway::cli::bench {
namespace {

struct Tiny {
  const char* name;
  int64_t vocab;
  int64_t window;  // on layers that are not every fourth; 0 = none
  int64_t batch;
  int64_t length;
  bool is_gemma = false;
};

spec::ModelSpec tiny_spec(const Tiny& tiny) {
  spec::ModelSpec model;
  model.hidden_size = 256;
  model.max_positions = 8192;
  model.embedding.vocab_size = tiny.vocab;
  model.head.final_norm = spec::NormSpec{};
  for (int i = 0; i < 8; ++i) {
    spec::AttentionSpec attention;
    attention.num_heads = attention.num_kv_heads = 8;
    attention.head_dim = attention.v_head_dim = 32;
    attention.scale = 1.0 / std::sqrt(32.0);
    attention.rope = spec::RopeSpec{};
    if (tiny.window > 0 && i % 4 != 3) attention.window = tiny.window;
    spec::DenseMlpSpec mlp;
    mlp.intermediate_size = 688;
    spec::LayerSpec layer;
    layer.mixer = attention;
    layer.mlp = mlp;
    layer.pre_mixer_norm = layer.pre_mlp_norm = spec::NormSpec{};
    model.layers.push_back(layer);
  }
  return model;
}

/// Gemma-4-tiny: a per-layer embedding, the last layers reading keys and values of earlier ones,
/// norms around everything, windows on layers that are not every fourth.
spec::ModelSpec gemma_spec(const Tiny& tiny) {
  constexpr int64_t kPerLayer = 32, kShared = 3;
  spec::ModelSpec model = tiny_spec(tiny);
  const spec::NormSpec norm{.weight = spec::NormWeight::kFp32, .eps = 1e-6};
  const double width = static_cast<double>(model.hidden_size);
  model.embedding.scale = std::sqrt(width);
  model.head.tied = true;
  model.head.softcap = 30.0;
  model.head.final_norm = norm;
  model.per_layer_embedding = spec::PerLayerEmbeddingSpec{.vocab_size = tiny.vocab,
                                                          .size = kPerLayer,
                                                          .scale = std::sqrt(double{kPerLayer}),
                                                          .context_scale = 1.0 / std::sqrt(width),
                                                          .mix_scale = std::sqrt(0.5),
                                                          .norm = norm};
  for (spec::LayerSpec& layer : model.layers) {
    auto& attention = std::get<spec::AttentionSpec>(layer.mixer);
    attention.scale = 1.0;
    attention.q_norm = attention.k_norm = norm;
    attention.v_norm = spec::NormSpec{.weight = spec::NormWeight::kNone, .eps = 1e-6};
    std::get<spec::DenseMlpSpec>(layer.mlp).activation = spec::Activation::kGeluTanh;
    layer.pre_mixer_norm = layer.post_mixer_norm = layer.pre_mlp_norm = layer.post_mlp_norm = norm;
    layer.per_layer_input = spec::PerLayerInputSpec{spec::Activation::kGeluTanh, norm};
    layer.layer_scalar = true;
  }
  spec::share_last_layers(model, kShared);
  return model;
}

std::shared_ptr<nn::Transformer> make_model(const Tiny& tiny) {
  auto model =
      std::make_shared<nn::Transformer>(tiny.is_gemma ? gemma_spec(tiny) : tiny_spec(tiny));
  model->set_row_sparse_gradients(true);
  model->parameters().initialise(1);
  return model;
}

Case train_case(const Tiny& tiny) {
  const auto model = make_model(tiny);
  const int64_t tokens = tiny.batch * tiny.length;
  const at::Tensor ids = at::randint(tiny.vocab, {tokens}, at::kLong);
  const at::Tensor labels = at::randint(tiny.vocab, {tokens}, at::kLong);
  const auto sequences = ops::equal_sequences(tiny.batch, tiny.length);
  Case work;
  work.name = tiny.name;
  work.ours = [=] {
    model->loss(model->forward(ids, sequences), labels).loss.backward();
    for (const at::Tensor& tensor : model->parameters().tensors()) tensor.mutable_grad().reset();
  };
  work.tokens = static_cast<double>(tokens);
  work.flops =
      3.0 * work.tokens * spec::cost(model->spec(), {tiny.length, 4}).total.forward_flops();
  return work;
}

Case decode_case(const Tiny& tiny, int64_t new_tokens) {
  const auto model = make_model(tiny);
  std::vector<int64_t> prompt(tiny.length);
  for (int64_t t = 0; t < tiny.length; ++t) prompt[t] = (t * 31 + 7) % tiny.vocab;
  engine::GenerateOptions options;
  options.max_new_tokens = new_tokens;
  options.sampler.temperature = 0.0;
  Case work;
  work.name = tiny.name;
  work.ours = [=] { engine::Generator(*model, nullptr).run(prompt, options); };
  work.tokens = static_cast<double>(new_tokens);
  return work;
}

}  // namespace

std::vector<Case> train_cases() {
  return {train_case({"Llama-tiny 2x512, vocabulary 8192", 8192, 0, 2, 512}),
          train_case({"window 256 on 6 of 8 layers, 1x4096", 8192, 256, 1, 4096}),
          train_case({"vocabulary 262144, 1x1024", 262144, 0, 1, 1024}),
          train_case({"Gemma-4-tiny, 1x4096", 8192, 256, 1, 4096, true})};
}

std::vector<Case> decode_cases() {
  return {decode_case({"Llama-tiny, prompt 512, 64 new tokens", 8192, 0, 1, 512}, 64),
          decode_case(
              {"window 256 on 6 of 8 layers, prompt 2048, 64 new tokens", 8192, 256, 1, 2048}, 64)};
}

}  // namespace headway::cli::bench
