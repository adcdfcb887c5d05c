// Stages of the indexer in the order they run. Not for: arithmetic (ops).
#include "headway/nn/indexer.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/nn/recompute.h"
#include "headway/ops/index_rounding.h"
#include "headway/ops/linear.h"
#include "headway/ops/rope.h"
#include "headway/spec/latent_attention.h"

namespace headway::nn {

Indexer::Indexer(const spec::IndexerSpec& spec, const ParameterScope& scope)
    : spec_(spec),
      q_(scope.child("q")),
      k_(scope.child("k")),
      k_norm_(spec::index_key_norm(spec), scope.child("k_norm")),
      weights_(scope.child("weights")) {}

at::Tensor Indexer::prepared(at::Tensor x_THI, const RotaryTable::Rows* turns) const {
  if (turns != nullptr) {
    x_THI = ops::rope(x_THI, turns->cos_MP, turns->sin_MP, turns->positions_T,
                      spec_.rope_layout == spec::RopeLayout::kInterleaved);
  }
  if (spec_.hadamard) x_THI = ops::hadamard(x_THI);
  if (spec_.precision == spec::IndexPrecision::kFp8) x_THI = ops::round_to_fp8_blocks(x_THI);
  return x_THI;
}

ops::IndexInputs Indexer::project(const at::Tensor& x_TD, const at::Tensor& latent_TQ,
                                  const RotaryTable::Rows* turns) const {
  const at::Tensor x = x_TD.detach();
  ops::IndexInputs index;
  index.q_TND = prepared(q_.forward(latent_TQ.detach()).unflatten(1, {spec_.num_heads, -1}), turns);
  index.k_SD = prepared(k_norm_.forward(k_.forward(x)).unsqueeze(1), turns).squeeze(1);
  // Weights decide as much as they multiply: in float32 also beside 16-bit layers.
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto pairs = static_cast<double>(spec_.num_heads * spec_.head_dim);
  index.w_TN = ops::linear(x.to(wide), weights_.weight().to(wide), {}) / std::sqrt(pairs);
  return index;
}

bool Indexer::learns(const MixerInput& input) const {
  // A repeated pass has added its loss already.
  return spec_.loss > 0 && input.state == nullptr && input.context != nullptr &&
         input.context->routing != nullptr && at::GradMode::is_enabled() && !is_replaying();
}

void Indexer::learn(const ops::IndexInputs& index, const ops::IndexTarget& target,
                    const at::Tensor& chosen_TJ, const MixerInput& input) const {
  const bool all = spec_.loss_keys == spec::IndexLossKeys::kVisible;
  const at::Tensor sum =
      ops::index_loss(index, target, all ? at::Tensor() : chosen_TJ, input.sequences, spec_.relu);
  const bool sums = input.context->sum_index_loss;
  const double tokens = sums ? 1.0 : static_cast<double>(input.x_TD.size(0));
  input.context->routing->add_index_loss(sum * (spec_.loss / tokens));
}

}  // namespace headway::nn
