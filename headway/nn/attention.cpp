// Stages of the attention mixer in the order they run. Not for: the attention kernel (ops).
#include "headway/nn/attention.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
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

at::Tensor sinks_of(const spec::AttentionSpec& spec, const ParameterScope& scope) {
  switch (spec.sinks) {
    case spec::SinkKind::kNone:
      return {};
    case spec::SinkKind::kLearnable:
      return scope.take("sinks");
    case spec::SinkKind::kOffByOne: {
      const Parameters& parameters = scope.parameters();
      return at::zeros({spec.num_heads}, at::dtype(parameters.dtype()).device(parameters.device()));
    }
  }
  throw InternalError("[nn::Attention] sink kind is not in the enum");
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
      sinks_H_(sinks_of(spec, scope)),
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
  if (input.context == nullptr || !input.context->random) {
    options.dropout = {};
  } else {
    const RandomStream& random = *input.context->random;
    options.dropout.key = ops::dropout_key(random.seed, random.step, random.micro_batch,
                                           static_cast<uint64_t>(input.layer));
  }
  return options;
}

at::Tensor Attention::core(const Heads& heads, const MixerInput& input) const {
  const ops::AttentionOptions options = options_for(input);
  if (input.state == nullptr) {
    max_logit_->add(heads.q_THK, heads.k_TGK, input.sequences, options);
    return ops::attention(heads.q_THK, heads.k_TGK, heads.v_TGV, sinks_H_, input.sequences,
                          options);
  }
  if (options.rule.right != 0) {
    throw UnsupportedError(
        "[nn::Attention] mask = none: a state holds no keys of later tokens; allowed causal");
  }
  if (input.sequences.num_sequences() != 1) {
    throw ShapeError(
        "[nn::Attention] sequences = " + std::to_string(input.sequences.num_sequences()) +
        ", allowed 1 when a state is given");
  }
  auto& cache = std::get<KvCache>(*input.state);
  const int64_t past = cache.length();
  const KvCache::View view = cache.append(heads.k_TGK, heads.v_TGV);
  ops::Sequences sequences = input.sequences;
  sequences.cu_k = {0, view.k_SGK.size(0)};
  sequences.max_k = past + input.sequences.max_q;
  max_logit_->add(heads.q_THK, view.k_SGK, sequences, options);
  return ops::attention(heads.q_THK, view.k_SGK, view.v_SGV, sinks_H_, sequences, options);
}

MixerOutput Attention::forward(const MixerInput& input) const {
  Heads heads = project(input.x_TD);
  heads.q_THK = qk_norm_.query(heads.q_THK);
  heads.k_TGK = qk_norm_.key(heads.k_TGK);
  if (rotary_) {
    const RotaryTable::Rows rows = rotary_->rows_of(
        input.sequences, input.context == nullptr ? at::Tensor() : input.context->positions_3T);
    heads.q_THK = rotary_->rotate(heads.q_THK, rows);
    heads.k_TGK = rotary_->rotate(heads.k_TGK, rows);
  }
  const at::Tensor gated = gate_.apply(core(heads, input), heads.gate);
  return {out_.forward(gated.flatten(1))};
}

}  // namespace headway::nn
