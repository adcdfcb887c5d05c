// Stages of the attention mixer in the order they run. Not for: the attention kernel (ops).
#include "headway/nn/attention.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/nn/recompute.h"
#include "headway/nn/sinks.h"
#include "headway/ops/gate.h"

namespace headway::nn {
namespace {

ops::AttentionOptions core_options(const spec::AttentionSpec& spec) {
  ops::AttentionOptions options;
  options.scale = spec.scale;
  options.softcap = spec.logit_softcap.value_or(0.0);
  options.rule.left = spec.window ? *spec.window - 1 : -1;
  options.rule.right = spec.mask == spec::MaskKind::kCausal ? 0 : spec.window_ahead.value_or(-1);
  options.dropout.probability = spec.dropout;
  return options;
}

}  // namespace

at::Tensor QkNorm::apply(const std::optional<Norm>& norm, const at::Tensor& x_THK) const {
  if (!norm) return x_THK;
  if (!across_heads_) return norm->forward(x_THK);
  return norm->forward(x_THK.flatten(1)).unflatten(1, {x_THK.size(1), x_THK.size(2)});
}

at::Tensor OutputGate::apply(const at::Tensor& core_THV, const at::Tensor& logits) const {
  switch (spec_.kind) {
    case spec::GateKind::kNone:
      return core_THV;
    case spec::GateKind::kHeadWise:
      return ops::sigmoid_gate(core_THV, logits);
    case spec::GateKind::kElementWise:
      return ops::sigmoid_gate(core_THV, logits.unflatten(1, {-1, v_head_dim_}));
  }
  throw InternalError("[nn::OutputGate] gate kind is not in the enum");
}

Attention::Attention(const spec::AttentionSpec& spec, const ParameterScope& scope,
                     std::shared_ptr<RotaryTable> rotary)
    : spec_(spec),
      qkv_(scope.child("qkv")),
      out_(scope.child("out")),
      qk_norm_(spec, scope),
      gate_(spec),
      sinks_H_(take_sinks(spec.sinks, spec.num_heads, scope)),
      rotary_(std::move(rotary)),
      options_(core_options(spec)) {}

Attention::Heads Attention::project(const at::Tensor& x_TD) const {
  const std::vector<at::Tensor> parts = qkv_.forward_segments(x_TD);
  const auto heads = [&parts, this](const char* segment, int64_t dim) {
    return parts[qkv_.segment(segment)].unflatten(1, {-1, dim});
  };
  Heads out{
      heads("q", spec_.head_dim), heads("k", spec_.head_dim), heads("v", spec_.v_head_dim), {}};
  if (const int gate = qkv_.segment("gate"); gate >= 0) out.gate = parts[gate];
  return out;
}

ops::AttentionOptions Attention::options_for(const MixerInput& input) const {
  ops::AttentionOptions options = options_;
  if (input.context != nullptr) {
    options.mask = input.context->attention_mask;
    options.bias = input.context->attention_bias;
  }
  options.dropout = dropout_for(input, spec_.dropout);
  return options;
}

at::Tensor Attention::core(const Heads& heads, const MixerInput& input) const {
  const ops::AttentionOptions options = options_for(input);
  if (input.state == nullptr) {
    // A repeated pass has been observed already.
    if (!is_replaying()) max_logit_->add(heads.q_THK, heads.k_TGK, input.sequences, options);
    return ops::attention(heads.q_THK, heads.k_TGK, heads.v_TGV, sinks_H_, input.sequences,
                          options);
  }
  if (options.rule.right != 0) {
    throw UnsupportedError(
        "[nn::Attention] mask = none: a state holds no keys of later tokens; allowed causal");
  }
  if (auto* pages = std::get_if<PagedKv>(input.state)) {
    return continue_many(heads, input.sequences, *pages, options);
  }
  return continue_one(heads, input.sequences, std::get<KvCache>(*input.state), options);
}

at::Tensor Attention::continue_one(const Heads& heads, const ops::Sequences& fresh, KvCache& cache,
                                   const ops::AttentionOptions& options) const {
  if (fresh.num_sequences() != 1) {
    throw ShapeError("[nn::Attention] sequences = " + std::to_string(fresh.num_sequences()) +
                     ", allowed 1 when a state is given");
  }
  const int64_t past = cache.length();
  const KvCache::View view = cache.append(heads.k_TGK, heads.v_TGV);
  if (checks_ != nullptr) {
    checks_->cache(past, heads.k_TGK.size(0), view.k_SGK.size(0), cache.capacity());
    checks_->cache(past, heads.v_TGV.size(0), view.v_SGV.size(0), cache.capacity());
  }
  ops::Sequences sequences = fresh;
  sequences.cu_k = {0, view.k_SGK.size(0)};
  sequences.max_k = past + fresh.max_q;
  max_logit_->add(heads.q_THK, view.k_SGK, sequences, options);
  return ops::attention(heads.q_THK, view.k_SGK, view.v_SGV, sinks_H_, sequences, options);
}

at::Tensor Attention::continue_many(const Heads& heads, const ops::Sequences& sequences,
                                    PagedKv& pages, const ops::AttentionOptions& options) const {
  if (max_logit_->observes()) {
    throw UnsupportedError("[nn::Attention] logits are not observed through pages in this build");
  }
  const ops::PagedKeys keys = pages.append(heads.k_TGK, heads.v_TGV);
  if (pages.cached() == CachedKeys::kRotated) {
    return ops::paged_attention(heads.q_THK, keys, sinks_H_, sequences, options);
  }
  // Every key from the start of its sequence, so that its row is its position.
  std::vector<ops::PageRows> rows;
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    rows.push_back({n, 0, sequences.cu_k[n + 1] - sequences.cu_k[n]});
  }
  at::Tensor k_SGK = ops::gather_pages(keys.k_PBGK, keys.block_table_NM, rows);
  const at::Tensor v_SGV = ops::gather_pages(keys.v_PBGV, keys.block_table_NM, rows);
  if (rotary_) {
    k_SGK = rotary_->rotate(k_SGK, rotary_->rows_of(ops::packed_sequences(sequences.cu_k)));
  }
  return ops::attention(heads.q_THK, k_SGK, v_SGV, sinks_H_, sequences, options);
}

void QkNorm::check(RealtimeChecks& checks, const at::Tensor& q_THK, const at::Tensor& k_TGK) const {
  const auto normed = [this](const at::Tensor& x) { return across_heads_ ? x.flatten(1) : x; };
  if (q_) checks.head_norm("q after its norm", normed(q_THK), q_->largest_rms());
  if (k_) checks.head_norm("k after its norm", normed(k_TGK), k_->largest_rms());
}

void Attention::check_heads(const Heads& heads, int64_t tokens) const {
  checks_->tensor("q", heads.q_THK, {tokens, spec_.num_heads, spec_.head_dim});
  checks_->tensor("k", heads.k_TGK, {tokens, spec_.num_kv_heads, spec_.head_dim});
  checks_->tensor("v", heads.v_TGV, {tokens, spec_.num_kv_heads, spec_.v_head_dim});
  if (!heads.gate.defined()) return;
  const int64_t width = spec_.gate.kind == spec::GateKind::kHeadWise ? 1 : spec_.v_head_dim;
  checks_->tensor("gate logits", heads.gate, {tokens, spec_.num_heads * width});
}

MixerOutput Attention::forward(const MixerInput& input) const {
  Heads heads = project(input.x_TD);
  if (checks_ != nullptr) check_heads(heads, input.x_TD.size(0));
  heads.q_THK = qk_norm_.query(heads.q_THK);
  heads.k_TGK = qk_norm_.key(heads.k_TGK);
  if (checks_ != nullptr) qk_norm_.check(*checks_, heads.q_THK, heads.k_TGK);
  if (rotary_) {
    const RotaryTable::Rows rows = rotary_->rows_of(
        input.sequences, input.context == nullptr ? at::Tensor() : input.context->positions_3T);
    heads.q_THK = rotary_->rotate(heads.q_THK, rows);
    const auto* pages = input.state ? std::get_if<PagedKv>(input.state) : nullptr;
    const bool later = pages != nullptr && pages->cached() == CachedKeys::kUnrotated;
    if (later && !rows.positions_T.is_same(input.sequences.positions)) {
      throw UnsupportedError(
          "[nn::Attention] keys cached before rotation turn by their own position only; allowed "
          "one position a token");
    }
    if (!later) heads.k_TGK = rotary_->rotate(heads.k_TGK, rows);
  }
  const at::Tensor core_THV = core(heads, input);
  const at::Tensor gated = gate_.apply(core_THV, heads.gate);
  if (checks_ != nullptr) {
    checks_->tensor("core output", core_THV,
                    {input.x_TD.size(0), spec_.num_heads, spec_.v_head_dim});
    if (!gated.is_same(core_THV)) checks_->gate(core_THV, gated);
  }
  const at::Tensor out_TD = out_.forward(gated.flatten(1));
  if (recompute_core_ && input.state == nullptr)
    forget_core(heads, input, {core_THV, gated}, out_TD);
  return {out_TD};
}

void Attention::forget_core(const Heads& heads, const MixerInput& input,
                            std::vector<at::Tensor> values, const at::Tensor& out_TD) const {
  if (values[1].is_same(values[0])) values.pop_back();
  const Heads kept{heads.q_THK.detach(), heads.k_TGK.detach(), heads.v_TGV.detach(),
                   heads.gate.defined() ? heads.gate.detach() : at::Tensor()};
  const std::optional<ForwardContext> context =
      input.context == nullptr ? std::nullopt : std::optional(*input.context);
  discard_until_backward(
      values, out_TD,
      [this, kept, context, sequences = input.sequences, layer = input.layer,
       count = values.size()]() -> std::vector<at::Tensor> {
        const at::Tensor none;
        const MixerInput same{none, sequences, nullptr, context ? &*context : nullptr, layer};
        const at::Tensor core_THV = core(kept, same);
        if (count == 1) return {core_THV};
        return {core_THV, gate_.apply(core_THV, kept.gate)};
      });
}

void Attention::backward_dw() const {
  backward_qkv_proj();
  backward_output_proj();
}

}  // namespace headway::nn
