// Builds the stack from its spec and runs it. Not for: optimisation or token choice.
#include "headway/nn/transformer.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/embedding.h"
#include "headway/ops/linear.h"
#include "headway/spec/kv_sharing.h"

namespace headway::nn {

Transformer::Transformer(spec::ModelSpec spec, at::ScalarType dtype, at::Device device,
                         std::shared_ptr<const spec::AdapterSpec> adapter)
    : spec_(std::move(spec)),
      parameters_(spec_, dtype, device, std::move(adapter)),
      embedding_scale_(rounded_scale(spec_.embedding.scale, spec_.embedding.scale_rounding, dtype)),
      kv_readers_(spec::kv_reader_counts(spec_)) {
  const ParameterScope root(parameters_, "");
  if (!spec_.rope_per_layer)
    rotary_ = std::make_unique<SharedRotary>(spec_.rope_precision, dtype, device);
  embedding_ = root.take("embedding.weight");
  if (spec_.per_layer_embedding) {
    per_layer_.emplace(*spec_.per_layer_embedding, spec::per_layer_count(spec_),
                       root.child("per_layer"));
  }
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    blocks_.emplace_back(spec_.layers[i], root.child("layers." + std::to_string(i)),
                         rotary_of(spec_.layers[i]));
  }
  final_norm_ = make_norm(spec_.head.final_norm, root, "final_norm");
  head_ = spec_.head.tied ? embedding_ : root.take("head.weight");
  if (spec_.mtp) {
    mtp_.emplace(spec_, root, [this](const spec::LayerSpec& layer) { return rotary_of(layer); });
  }
  if (const auto left = parameters_.untaken(); !left.empty()) {
    throw InternalError("[nn::Transformer] no module takes the tensor '" + left.front() +
                        "' of the inventory");
  }
}

std::shared_ptr<RotaryTable> Transformer::rotary_of(const spec::LayerSpec& layer) const {
  const spec::RotatedHead head = spec::rotated_head(layer);
  if (head.rope == nullptr) return nullptr;
  if (rotary_) return rotary_->table(*head.rope, head.dim);
  return std::make_shared<RotaryTable>(*head.rope, head.dim, spec_.rope_precision,
                                       parameters_.dtype(), parameters_.device());
}

at::Tensor Transformer::embed(const at::Tensor& ids_T) const {
  return ops::embedding(ids_T, embedding_, embedding_scale_,
                        spec_.embedding.padding_id.value_or(-1));
}

const Block& Transformer::block_at(int64_t index) const {
  const auto at = static_cast<size_t>(index);
  return at < blocks_.size() ? blocks_[at] : mtp_.value().blocks().at(at - blocks_.size());
}

at::Tensor Transformer::forward(const at::Tensor& ids_T, const ops::Sequences& sequences,
                                const ForwardOptions& options) {
  ops::check_sequences(sequences, ids_T.numel(), sequences.cu_k.back(), "Transformer");
  ResidualStream stream(embed(ids_T));
  SharedKv shared_kv(kv_readers_);
  const LayerInputs inputs{&shared_kv, per_layer_inputs(ids_T, stream.value())};
  if (checks_ != nullptr) {
    checks_->enter_layer(-1, "");
    checks_->tensor("embedding", stream.value(), {ids_T.numel(), spec_.hidden_size});
  }
  KeyChoice choice;
  ForwardContext context = options.context;
  context.choice = &choice;
  const bool whole_layers =
      at::GradMode::is_enabled() && options.state == nullptr && options.hidden == nullptr;
  for (size_t i = 0; i < blocks_.size();) {
    const auto end = static_cast<size_t>(
        recompute_.chunk_end(static_cast<int64_t>(i), static_cast<int64_t>(blocks_.size())));
    if (whole_layers && end > i) {
      recompute_layers({i, end}, stream, {sequences, nullptr, &context}, inputs);
      i = end;
      continue;
    }
    LayerState* state = options.state == nullptr ? nullptr : &options.state->layers[i];
    blocks_[i].forward(stream, {sequences, state, &context, static_cast<int64_t>(i),
                                inputs.shared_kv, inputs.per_layer[i]});
    if (options.hidden != nullptr) options.hidden->push_back(stream.value());
    ++i;
  }
  if (options.state != nullptr) options.state->num_tokens += ids_T.numel();
  const at::Tensor last_TD = stream.normed(final_norm_);
  if (options.mtp_hidden != nullptr && mtp_) {
    const bool residual = spec_.mtp->hidden == spec::MtpHidden::kResidual;
    *options.mtp_hidden = residual ? stream.value() : last_TD;
  }
  if (checks_ != nullptr) {
    checks_->enter_layer(-1, "");
    checks_->tensor("final norm", last_TD, {ids_T.numel(), spec_.hidden_size});
  }
  return last_TD;
}

std::vector<at::Tensor> Transformer::per_layer_inputs(const at::Tensor& ids_T,
                                                      const at::Tensor& embedded_TD) const {
  std::vector<at::Tensor> by_layer(blocks_.size());
  if (!per_layer_) return by_layer;
  const std::vector<at::Tensor> parts = per_layer_->forward(ids_T, embedded_TD);
  size_t next = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (spec_.layers[i].per_layer_input) by_layer[i] = parts.at(next++);
  }
  return by_layer;
}

void Transformer::set_row_sparse_gradients(bool on) {
  if (per_layer_) per_layer_->set_row_sparse(on);
}

void Transformer::set_recompute(const RecomputePlan& plan) {
  const auto whole = plan.chunk_layers > 0 ? static_cast<size_t>(plan.first_layers) : 0;
  for (size_t i = 0; i < std::min(whole, blocks_.size()); ++i) {
    if (spec::moe_of(spec_.layers[i]) != nullptr) {
      throw UnsupportedError("[train] recompute = full: layer " + std::to_string(i) +
                             " is a mixture of experts, whose routers count and lose once a "
                             "pass; allowed selective");
    }
    const auto* latent = std::get_if<LatentAttention>(&blocks_[i].mixer());
    if (latent != nullptr && (latent->indexer() || latent->spec().shared_choice)) {
      throw UnsupportedError("[train] recompute = full: layer " + std::to_string(i) +
                             " attends to keys that an indexer chooses and learns from once a "
                             "pass; allowed selective");
    }
  }
  recompute_ = plan;
  for (Block& block : blocks_) block.set_recompute(plan);
  if (mtp_) {
    for (Block& block : mtp_->blocks()) block.set_recompute(plan);
  }
}

void Transformer::set_checks(RealtimeChecks* checks) {
  checks_ = checks;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i].set_checks({checks, static_cast<int64_t>(i), spec_.hidden_size});
  }
  for (size_t i = 0; mtp_ && i < mtp_->blocks().size(); ++i) {
    const auto number = static_cast<int64_t>(blocks_.size() + i);
    mtp_->blocks()[i].set_checks({checks, number, spec_.hidden_size});
  }
}

void Transformer::set_delay_wgrad(bool on) {
  if (on && mtp_ && mtp_->spec().depths() > mtp_->spec().weight_sets()) {
    throw UnsupportedError(
        "[train] delay_wgrad = true: weights that several depths of model.mtp share leave more "
        "than one gradient a pass; allowed mtp.shared_weights = false");
  }
  parameters_.delayed()->on = on;
}

void Transformer::backward_dw() const {
  for (const auto& linear : parameters_.delayed()->linears) linear.add_oldest();
}

void Transformer::drop_dw() const {
  for (const auto& linear : parameters_.delayed()->linears) linear.drop_all();
}

at::Tensor Transformer::logits(const at::Tensor& hidden_TD, const at::Tensor& head) const {
  at::Tensor z = ops::linear(hidden_TD, head.defined() ? head : head_, {});
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
  const at::Tensor& head = options.head.defined() ? options.head : head_;
  return ops::linear_cross_entropy(hidden_TD, head, labels_T, cross_entropy);
}

}  // namespace headway::nn
