// See per_layer_embedding.h. Not for: arithmetic beyond products of ops.
#include "headway/nn/per_layer_embedding.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/nn/mlp.h"
#include "headway/ops/embedding.h"
#include "headway/ops/linear.h"

namespace headway::nn {
namespace {

/// norm(s·x; eps) is norm(x; eps / s²), so that the factor costs no pass over memory.
spec::NormSpec scaled_norm(const spec::PerLayerEmbeddingSpec& spec) {
  spec::NormSpec norm = spec.norm;
  norm.eps /= spec.context_scale * spec.context_scale;
  return norm;
}

}  // namespace

PerLayerEmbedding::PerLayerEmbedding(const spec::PerLayerEmbeddingSpec& spec, int64_t layers,
                                     const ParameterScope& scope)
    : spec_(spec),
      widths_(static_cast<size_t>(layers), spec.size),
      scale_(rounded_scale(spec.scale, spec.scale_rounding, scope.parameters().dtype())),
      table_(scope.child("table").take("weight")),
      projection_(scope.child("projection")),
      norm_(scaled_norm(spec), scope.child("norm")) {
  const Parameters& parameters = scope.parameters();
  mix_scale_ =
      at::full({1}, spec.mix_scale, at::dtype(parameters.dtype()).device(parameters.device()));
}

std::vector<at::Tensor> PerLayerEmbedding::forward(const at::Tensor& ids_T,
                                                   const at::Tensor& embedded_TD) const {
  const int64_t padding = spec_.padding_id.value_or(-1);
  const at::Tensor rows = row_sparse_ ? ops::row_sparse_embedding(ids_T, table_, scale_, padding)
                                      : ops::embedding(ids_T, table_, scale_, padding);
  const at::Tensor projected = projection_.forward(embedded_TD).unflatten(1, {-1, spec_.size});
  const at::Tensor context = norm_.forward(projected).flatten(1);
  return ops::split_columns(ops::scaled_residual(context, rows, mix_scale_), widths_);
}

PerLayerInput::PerLayerInput(const spec::PerLayerInputSpec& spec, const ParameterScope& scope)
    : activation_(activation_kind(spec.activation)),
      gate_(scope.child("gate")),
      out_(scope.child("out")),
      norm_(make_norm(spec.norm, scope, "norm")) {}

at::Tensor PerLayerInput::forward(const at::Tensor& h_TD, const at::Tensor& u_TP) const {
  const at::Tensor gated = ops::activation(gate_.forward(h_TD), activation_) * u_TP;
  const at::Tensor out = out_.forward(gated);
  return norm_ ? norm_->forward(out) : out;
}

}  // namespace headway::nn
