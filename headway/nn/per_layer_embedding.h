// A second embedding with channels for every layer, and how a layer adds its own to the stream.
// Not for: the token embedding (transformer.h).
// Legend: T tokens, D hidden, P channels for a layer, N layers that take part.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/ops/activation.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// u = mix_scale·( norm(context_scale·e Bᵀ) + scale·A[ids] ), cut into one part a layer.
class PerLayerEmbedding {
 public:
  /// Takes table, projection and norm of the scope.
  PerLayerEmbedding(const spec::PerLayerEmbeddingSpec& spec, int64_t layers,
                    const ParameterScope& scope);

  /// ids int64 [T], embedded [T,D] -> N tensors [T,P], views of one [T, N·P].
  /// Errors: ShapeError for an id beyond the table.
  std::vector<at::Tensor> forward(const at::Tensor& ids_T, const at::Tensor& embedded_TD) const;

  /// Whether the table's gradient holds the rows of the tokens only (ops/embedding.h); otherwise it
  /// is dense.
  void set_row_sparse(bool on) { row_sparse_ = on; }

 private:
  spec::PerLayerEmbeddingSpec spec_;
  std::vector<int64_t> widths_;
  double scale_;
  at::Tensor table_;
  Linear projection_;
  Norm norm_;
  at::Tensor mix_scale_;
  bool row_sparse_ = false;
};

/// What a layer adds to its stream h: norm( (act(h Gᵀ) ∘ u) Oᵀ ).
class PerLayerInput {
 public:
  /// Takes gate, out and norm of the scope.
  PerLayerInput(const spec::PerLayerInputSpec& spec, const ParameterScope& scope);
  /// h [T,D], u [T,P] -> [T,D].
  at::Tensor forward(const at::Tensor& h_TD, const at::Tensor& u_TP) const;

 private:
  ops::ActivationKind activation_;
  Linear gate_;
  Linear out_;
  std::optional<Norm> norm_;
};

}  // namespace headway::nn
