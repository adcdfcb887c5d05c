// Stages of the attention mixer in the order they run. Not for: the attention kernel (ops).
#include "headway/nn/attention.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/nn/image_spans.h"
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
  Heads out;
  out.q_THK = heads("q", spec_.head_dim);
  if (!spec_.kv_source) {
    out.k_TGK = heads("k", spec_.head_dim);
    out.v_TGV = spec_.shared_key_value ? out.k_TGK : heads("v", spec_.v_head_dim);
  }
  if (const int gate = qkv_.segment("gate"); gate >= 0) out.gate = parts[gate];
  return out;
}

void Attention::norm(Heads& heads) const {
  heads.q_THK = qk_norm_.query(heads.q_THK);
  if (spec_.kv_source) return;
  // Before rotation: values that come from the key projection are never turned.
  heads.v_TGV = qk_norm_.value(heads.v_TGV);
  heads.k_TGK = qk_norm_.key(heads.k_TGK);
}

void Attention::rotate(Heads& heads, const MixerInput& input) const {
  const RotaryTable::Rows rows = rotary_->rows_of(
      input.sequences, input.context == nullptr ? at::Tensor() : input.context->positions_3T);
  heads.q_THK = rotary_->rotate(heads.q_THK, rows);
  if (spec_.kv_source) return;
  const auto* pages = input.state ? std::get_if<PagedKv>(input.state) : nullptr;
  const bool later = pages != nullptr && pages->cached() == CachedKeys::kUnrotated;
  if (later && !rows.positions_T.is_same(input.sequences.positions)) {
    throw UnsupportedError(
        "[nn::Attention] keys cached before rotation turn by their own position only; allowed "
        "one position a token");
  }
  if (!later) heads.k_TGK = rotary_->rotate(heads.k_TGK, rows);
}

ops::AttentionOptions Attention::options_for(const MixerInput& input,
                                             const ops::Sequences& rows) const {
  ops::AttentionOptions options = options_;
  if (input.context != nullptr) {
    options.mask = input.context->attention_mask;
    options.bias = input.context->attention_bias;
    if (spec_.bidirectional_spans && input.context->image_spans_T.defined()) {
      const at::Tensor causal =
          span_mask(input.context->image_spans_T, rows).to(input.x_TD.device());
      options.mask = options.mask.defined() ? options.mask.logical_or(causal) : causal;
      options.rule.right = -1;
    }
  }
  options.dropout = dropout_for(input, spec_.dropout);
  return options;
}

KeysValues Attention::keys_and_values(const Heads& heads, const MixerInput& input) const {
  if (spec_.kv_source) {
    if (input.shared_kv != nullptr) return input.shared_kv->take(*spec_.kv_source);
    throw InternalError("[nn::Attention] a layer that reads another's keys and values ran alone");
  }
  if (input.state != nullptr && options_.rule.right != 0) {
    throw UnsupportedError(
        "[nn::Attention] mask = none: a state holds no keys of later tokens; allowed causal");
  }
  KeysValues own;
  if (input.state == nullptr) {
    own.k_SGK = heads.k_TGK;
    own.v_SGV = heads.v_TGV;
  } else if (auto* pages = std::get_if<PagedKv>(input.state)) {
    own.pages = pages->append(heads.k_TGK, heads.v_TGV);
    own.cached = pages->cached();
  } else {
    own = append(heads, input.sequences, std::get<KvCache>(*input.state));
  }
  return input.shared_kv == nullptr ? own : input.shared_kv->put(input.layer, own);
}

KeysValues Attention::append(const Heads& heads, const ops::Sequences& fresh,
                             KvCache& cache) const {
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
  KeysValues own;
  own.k_SGK = view.k_SGK;
  own.v_SGV = view.v_SGV;
  own.sequences = fresh;
  own.sequences->cu_k = {0, view.k_SGK.size(0)};
  own.sequences->max_k = past + fresh.max_q;
  return own;
}

at::Tensor Attention::core(const at::Tensor& q_THK, const KeysValues& kv,
                           const MixerInput& input) const {
  const ops::Sequences& rows = kv.sequences ? *kv.sequences : input.sequences;
  const ops::AttentionOptions options = options_for(input, rows);
  if (kv.pages) return core_of_pages(q_THK, kv, input.sequences, options);
  // A repeated pass has been observed already.
  if (!is_replaying()) max_logit_->add(q_THK, kv.k_SGK, rows, options);
  return ops::attention(q_THK, kv.k_SGK, kv.v_SGV, sinks_H_, rows, options);
}

at::Tensor Attention::core_of_pages(const at::Tensor& q_THK, const KeysValues& kv,
                                    const ops::Sequences& sequences,
                                    const ops::AttentionOptions& options) const {
  if (max_logit_->observes()) {
    throw UnsupportedError("[nn::Attention] logits are not observed through pages in this build");
  }
  const ops::PagedKeys& keys = *kv.pages;
  if (kv.cached == CachedKeys::kRotated) {
    return ops::paged_attention(q_THK, keys, sinks_H_, sequences, options);
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
  return ops::attention(q_THK, k_SGK, v_SGV, sinks_H_, sequences, options);
}

void QkNorm::check(RealtimeChecks& checks, const at::Tensor& q_THK, const at::Tensor& k_TGK) const {
  const auto normed = [this](const at::Tensor& x) { return across_heads_ ? x.flatten(1) : x; };
  if (q_) checks.head_norm("q after its norm", normed(q_THK), q_->largest_rms());
  if (k_) checks.head_norm("k after its norm", normed(k_TGK), k_->largest_rms());
}

void Attention::check_heads(const Heads& heads, int64_t tokens) const {
  checks_->tensor("q", heads.q_THK, {tokens, spec_.num_heads, spec_.head_dim});
  if (heads.k_TGK.defined()) {
    checks_->tensor("k", heads.k_TGK, {tokens, spec_.num_kv_heads, spec_.head_dim});
    checks_->tensor("v", heads.v_TGV, {tokens, spec_.num_kv_heads, spec_.v_head_dim});
  }
  if (!heads.gate.defined()) return;
  const int64_t width = spec_.gate.kind == spec::GateKind::kHeadWise ? 1 : spec_.v_head_dim;
  checks_->tensor("gate logits", heads.gate, {tokens, spec_.num_heads * width});
}

MixerOutput Attention::forward(const MixerInput& input) const {
  Heads heads = project(input.x_TD);
  if (checks_ != nullptr) check_heads(heads, input.x_TD.size(0));
  norm(heads);
  if (checks_ != nullptr) qk_norm_.check(*checks_, heads.q_THK, heads.k_TGK);
  if (rotary_) rotate(heads, input);
  const KeysValues kv = keys_and_values(heads, input);
  const at::Tensor core_THV = core(heads.q_THK, kv, input);
  const at::Tensor gated = gate_.apply(core_THV, heads.gate);
  if (checks_ != nullptr) {
    checks_->tensor("core output", core_THV,
                    {input.x_TD.size(0), spec_.num_heads, spec_.v_head_dim});
    if (!gated.is_same(core_THV)) checks_->gate(core_THV, gated);
  }
  const at::Tensor out_TD = out_.forward(gated.flatten(1));
  if (recompute_core_ && input.state == nullptr)
    forget_core(heads, kv, input, {core_THV, gated}, out_TD);
  return {out_TD};
}

void Attention::forget_core(const Heads& heads, const KeysValues& kv, const MixerInput& input,
                            std::vector<at::Tensor> values, const at::Tensor& out_TD) const {
  if (values[1].is_same(values[0])) values.pop_back();
  KeysValues kept = kv;
  kept.k_SGK = kv.k_SGK.detach();
  kept.v_SGV = kv.v_SGV.detach();
  const std::optional<ForwardContext> context =
      input.context == nullptr ? std::nullopt : std::optional(*input.context);
  discard_until_backward(values, out_TD,
                         [this, kept, context, q_THK = heads.q_THK.detach(),
                          gate = heads.gate.defined() ? heads.gate.detach() : at::Tensor(),
                          sequences = input.sequences, layer = input.layer,
                          count = values.size()]() -> std::vector<at::Tensor> {
                           // Only the device of x is looked at.
                           const MixerInput same{q_THK,   sequences,
                                                 nullptr, context ? &*context : nullptr,
                                                 nullptr, layer};
                           const at::Tensor core_THV = core(q_THK, kept, same);
                           if (count == 1) return {core_THV};
                           return {core_THV, gate_.apply(core_THV, gate)};
                         });
}

void Attention::backward_dw() const {
  backward_qkv_proj();
  backward_output_proj();
}

}  // namespace headway::nn
