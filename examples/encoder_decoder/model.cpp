// Layers of Headway put together as an encoder and a decoder. Not for: training (reverse_task.h).
#include "model.h"

#include <cmath>
#include <string>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/embedding.h"
#include "headway/ops/linear.h"
#include "headway/ops/linear_cross_entropy.h"
#include "headway/spec/cross_attention.h"

namespace example {
namespace {

namespace nn = headway::nn;
namespace ops = headway::ops;
namespace spec = headway::spec;

/// An encoder looks both ways, a decoder back.
spec::AttentionSpec self_attention(const Shape& shape, bool decoder) {
  spec::AttentionSpec attention;
  attention.num_heads = attention.num_kv_heads = shape.num_heads;
  attention.head_dim = attention.v_head_dim = shape.head_dim;
  attention.scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  attention.rope = spec::RopeSpec{.base = 100.0};
  attention.qkv_bias = true;
  attention.mask = decoder ? spec::MaskKind::kCausal : spec::MaskKind::kNone;
  return attention;
}

/// The parameters of a stack are those of a decoder-only model of the same shape.
spec::ModelSpec stack_spec(const Shape& shape) {
  spec::LayerSpec layer;
  layer.block = "layer";
  layer.mixer = self_attention(shape, true);
  layer.mlp = spec::DenseMlpSpec{.intermediate_size = shape.intermediate_size};
  layer.pre_mixer_norm = layer.pre_mlp_norm = spec::NormSpec{};
  spec::ModelSpec model;
  model.hidden_size = shape.hidden_size;
  model.max_positions = 64;
  model.embedding.vocab_size = shape.vocab_size;
  model.layers.assign(static_cast<size_t>(shape.num_layers), layer);
  model.head.tied = true;
  model.head.final_norm = spec::NormSpec{};
  model.init.std = 0.1;
  return model;
}

spec::CrossAttentionSpec cross_spec(const Shape& shape) {
  return spec::cross_attention(self_attention(shape, true), shape.hidden_size, shape.hidden_size);
}

std::string layer_prefix(const std::string& stack, int64_t layer) {
  return stack + "layers." + std::to_string(layer) + ".";
}

std::vector<spec::TensorSpec> all_tensors(const Shape& shape) {
  std::vector<spec::TensorSpec> all;
  for (const std::string stack : {"encoder.", "decoder."}) {
    for (spec::TensorSpec tensor : spec::tensors(stack_spec(shape))) {
      tensor.name = stack + tensor.name;
      all.push_back(std::move(tensor));
    }
  }
  for (int64_t i = 0; i < shape.num_layers; ++i) {
    const std::string prefix = layer_prefix("decoder.", i);
    for (spec::TensorSpec tensor : spec::cross_attention_tensors(
             cross_spec(shape), stack_spec(shape).init, shape.num_layers, prefix + "cross.")) {
      all.push_back(std::move(tensor));
    }
    spec::TensorSpec norm;
    norm.name = prefix + "cross_norm.weight";
    norm.shape = {shape.hidden_size};
    norm.segments = {
        {"weight", 0, shape.hidden_size, norm.name, {spec::InitKind::kOnes, 0.0}, false}};
    all.push_back(std::move(norm));
  }
  return all;
}

}  // namespace

EncoderDecoder::EncoderDecoder(const Shape& shape, at::ScalarType dtype)
    : shape_(shape),
      parameters_(all_tensors(shape), dtype, at::kCPU),
      encoder_(make_stack("encoder.", false)),
      decoder_(make_stack("decoder.", true)) {}

EncoderDecoder::Stack EncoderDecoder::make_stack(const std::string& prefix, bool decoder) {
  const spec::ModelSpec model = stack_spec(shape_);
  const nn::ParameterScope root(parameters_, prefix);
  const spec::AttentionSpec attention = self_attention(shape_, decoder);
  Stack stack;
  stack.embedding = root.take("embedding.weight");
  for (int64_t i = 0; i < shape_.num_layers; ++i) {
    const nn::ParameterScope scope(parameters_, layer_prefix(prefix, i));
    const spec::LayerSpec& layer = model.layers[static_cast<size_t>(i)];
    const auto rotary = std::make_shared<nn::RotaryTable>(
        *attention.rope, attention.head_dim, spec::RopePrecision::kModelDtype, parameters_.dtype(),
        parameters_.device());
    Layer made{nn::make_norm(layer.pre_mixer_norm, scope, "pre_mixer_norm"),
               {},
               nn::make_norm(layer.pre_mlp_norm, scope, "pre_mlp_norm"),
               nn::Attention(attention, scope.child("mixer"), rotary),
               {},
               nn::DenseMlp(std::get<spec::DenseMlpSpec>(layer.mlp), scope.child("mlp"))};
    if (decoder) {
      made.cross_norm = nn::make_norm(spec::NormSpec{}, scope, "cross_norm");
      made.cross.emplace(cross_spec(shape_), scope.child("cross"));
    }
    stack.layers.push_back(std::move(made));
  }
  stack.final_norm = nn::make_norm(model.head.final_norm, root, "final_norm");
  return stack;
}

at::Tensor EncoderDecoder::run(const Stack& stack, const at::Tensor& ids,
                               const ops::Sequences& tokens,
                               const std::vector<nn::CrossContext>* contexts,
                               std::vector<nn::LayerState>* caches) const {
  at::Tensor h = ops::embedding(ids, stack.embedding, 1.0, -1);
  for (size_t i = 0; i < stack.layers.size(); ++i) {
    const Layer& layer = stack.layers[i];
    const at::Tensor x = layer.self_norm->forward(h);
    h = h + layer.self.forward({x, tokens, caches ? &(*caches)[i] : nullptr}).out_TD;
    if (layer.cross) {
      h = h + layer.cross->forward(layer.cross_norm->forward(h), tokens, (*contexts)[i]);
    }
    h = h + layer.mlp.forward(layer.mlp_norm->forward(h));
  }
  return stack.final_norm->forward(h);
}

at::Tensor EncoderDecoder::encode(const at::Tensor& ids_S, const ops::Sequences& sources) const {
  return run(encoder_, ids_S, sources, nullptr, nullptr);
}

std::vector<nn::CrossContext> EncoderDecoder::contexts(const at::Tensor& states_SD,
                                                       const ops::Sequences& sources) const {
  ops::Sequences from_the_end = sources;
  from_the_end.positions = sources.positions.clone();
  int64_t* position = from_the_end.positions.data_ptr<int64_t>();
  for (int64_t n = 0; n < sources.num_sequences(); ++n) {
    for (int64_t j = sources.cu_q[n]; j < sources.cu_q[n + 1]; ++j) {
      position[j] = sources.cu_q[n + 1] - 1 - j;
    }
  }
  std::vector<nn::CrossContext> result;
  for (const Layer& layer : decoder_.layers) {
    result.push_back(layer.cross->context(states_SD, from_the_end));
  }
  return result;
}

at::Tensor EncoderDecoder::decode(const at::Tensor& ids_T, const ops::Sequences& targets,
                                  const std::vector<nn::CrossContext>& contexts) const {
  return run(decoder_, ids_T, targets, &contexts, nullptr);
}

DecodeState EncoderDecoder::start(const std::vector<nn::CrossContext>& contexts,
                                  int64_t index) const {
  DecodeState state;
  for (const nn::CrossContext& context : contexts) {
    state.contexts.push_back(context.select({index}));
    state.caches.emplace_back(nn::KvCache(self_attention(shape_, true).window));
  }
  return state;
}

at::Tensor EncoderDecoder::decode_step(const at::Tensor& ids_T, DecodeState& state) const {
  ops::Sequences tokens = ops::continued_sequences({state.num_tokens}, {ids_T.numel()});
  tokens.cu_k = tokens.cu_q;  // the caches know the keys before these tokens
  const at::Tensor hidden = run(decoder_, ids_T, tokens, &state.contexts, &state.caches);
  state.num_tokens += ids_T.numel();
  return hidden;
}

at::Tensor EncoderDecoder::logits(const at::Tensor& hidden_TD) const {
  return ops::linear(hidden_TD, decoder_.embedding, {});
}

at::Tensor EncoderDecoder::loss(const at::Tensor& hidden_TD, const at::Tensor& labels_T) const {
  return ops::linear_cross_entropy(hidden_TD, decoder_.embedding, labels_T, {}).loss;
}

}  // namespace example
