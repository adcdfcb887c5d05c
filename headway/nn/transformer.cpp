// Builds the stack from its spec and runs it. Not for: optimisation or token choice.
#include "headway/nn/transformer.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/ops/embedding.h"
#include "headway/ops/linear.h"

namespace headway::nn {
namespace {

double rounded_scale(const spec::EmbeddingSpec& embedding, at::ScalarType dtype) {
  if (embedding.scale_rounding == spec::ScaleRounding::kExact) return embedding.scale;
  return at::scalar_tensor(embedding.scale, at::kDouble).to(dtype).item<double>();
}

}  // namespace

Transformer::Transformer(spec::ModelSpec spec, at::ScalarType dtype, at::Device device)
    : spec_(std::move(spec)),
      parameters_(spec_, dtype, device),
      embedding_scale_(rounded_scale(spec_.embedding, dtype)) {
  const ParameterScope root(parameters_, "");
  if (!spec_.rope_per_layer)
    rotary_ = std::make_unique<SharedRotary>(spec_.rope_precision, dtype, device);
  embedding_ = root.take("embedding.weight");
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    blocks_.emplace_back(spec_.layers[i], root.child("layers." + std::to_string(i)),
                         rotary_of(spec_.layers[i]));
  }
  final_norm_ = make_norm(spec_.head.final_norm, root, "final_norm");
  head_ = spec_.head.tied ? embedding_ : root.take("head.weight");
  if (const auto left = parameters_.untaken(); !left.empty()) {
    throw InternalError("[nn::Transformer] no module takes the tensor '" + left.front() +
                        "' of the inventory");
  }
}

std::shared_ptr<RotaryTable> Transformer::rotary_of(const spec::LayerSpec& layer) const {
  const spec::AttentionSpec* attention = spec::attention_of(layer);
  if (attention == nullptr || !attention->rope) return nullptr;
  if (rotary_) return rotary_->table(*attention->rope, attention->head_dim);
  return std::make_shared<RotaryTable>(*attention->rope, attention->head_dim, spec_.rope_precision,
                                       parameters_.dtype(), parameters_.device());
}

at::Tensor Transformer::forward(const at::Tensor& ids_T, const ops::Sequences& sequences,
                                const ForwardOptions& options) {
  ops::check_sequences(sequences, ids_T.numel(), sequences.cu_k.back(), "Transformer");
  ResidualStream stream(
      ops::embedding(ids_T, embedding_, embedding_scale_, spec_.embedding.padding_id.value_or(-1)));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    LayerState* state = options.state == nullptr ? nullptr : &options.state->layers[i];
    blocks_[i].forward(stream, {sequences, state, &options.context, static_cast<int64_t>(i)});
    if (options.hidden != nullptr) options.hidden->push_back(stream.value());
  }
  if (options.state != nullptr) options.state->num_tokens += ids_T.numel();
  return stream.normed(final_norm_);
}

at::Tensor Transformer::logits(const at::Tensor& hidden_TD) const {
  at::Tensor z = ops::linear(hidden_TD, head_, {});
  if (!spec_.head.softcap) return z;
  const at::ScalarType wide = z.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::tanh(z.to(wide) / *spec_.head.softcap) * *spec_.head.softcap;
}

ops::CrossEntropyResult Transformer::loss(const at::Tensor& hidden_TD, const at::Tensor& labels_T,
                                          const LossOptions& options) const {
  ops::CrossEntropyOptions cross_entropy;
  cross_entropy.softcap = spec_.head.softcap.value_or(0.0);
  cross_entropy.z_loss = options.z_loss;
  cross_entropy.divisor = options.divisor;
  return ops::linear_cross_entropy(hidden_TD, head_, labels_T, cross_entropy);
}

}  // namespace headway::nn
