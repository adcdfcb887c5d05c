// Stages of cross-attention in the order they run. Not for: the attention kernel (ops).
#include "headway/nn/cross_attention.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/nn/sinks.h"

namespace headway::nn {
namespace {

constexpr const char* kWhere = "nn::CrossAttention";

ops::AttentionOptions core_options(const spec::CrossAttentionSpec& spec) {
  spec::validate(spec);
  ops::AttentionOptions options;
  options.scale = spec.scale;
  options.softcap = spec.logit_softcap.value_or(0.0);
  options.rule = {-1, -1};
  return options;
}

std::shared_ptr<RotaryTable> table_of(const spec::CrossAttentionSpec& spec,
                                      const ParameterScope& scope) {
  if (!spec.rope) return nullptr;
  const Parameters& parameters = scope.parameters();
  return std::make_shared<RotaryTable>(*spec.rope, spec.head_dim, spec::RopePrecision::kModelDtype,
                                       parameters.dtype(), parameters.device());
}

void check_rows(const char* name, const at::Tensor& x, int64_t width) {
  if (!x.defined()) {
    throw ShapeError(
        fmt::format("[{}] {} = undefined, allowed a tensor [tokens, {}]", kWhere, name, width));
  }
  if (x.dim() == 2 && x.size(1) == width) return;
  throw ShapeError(fmt::format("[{}] {} has {} axes, the last of {}, allowed [tokens, {}]", kWhere,
                               name, x.dim(), x.dim() > 0 ? x.size(-1) : 0, width));
}

}  // namespace

int64_t CrossContext::bytes() const {
  return k_SHK.defined() ? static_cast<int64_t>(k_SHK.nbytes() + v_SHV.nbytes()) : 0;
}

CrossContext CrossContext::select(const std::vector<int64_t>& order) const {
  CrossContext chosen;
  std::vector<at::Tensor> keys, values;
  for (const int64_t n : order) {
    if (n < 0 || n >= num_sequences()) {
      throw ShapeError(
          fmt::format("[nn::CrossContext] order has {}, allowed 0 to {}", n, num_sequences() - 1));
    }
    const int64_t rows = boundaries[n + 1] - boundaries[n];
    keys.push_back(k_SHK.narrow(0, boundaries[n], rows));
    values.push_back(v_SHV.narrow(0, boundaries[n], rows));
    chosen.boundaries.push_back(chosen.boundaries.back() + rows);
  }
  if (order.empty()) {
    keys.push_back(k_SHK.narrow(0, 0, 0));
    values.push_back(v_SHV.narrow(0, 0, 0));
  }
  chosen.k_SHK = at::cat(keys);
  chosen.v_SHV = at::cat(values);
  return chosen;
}

CrossAttention::CrossAttention(const spec::CrossAttentionSpec& spec, const ParameterScope& scope,
                               std::shared_ptr<RotaryTable> query_rotary,
                               std::shared_ptr<RotaryTable> key_rotary)
    : spec_(spec),
      q_(scope.child("q")),
      kv_(scope.child("kv")),
      out_(scope.child("out")),
      sinks_H_(take_sinks(spec.sinks, spec.num_heads, scope)),
      query_rotary_(std::move(query_rotary)),
      key_rotary_(std::move(key_rotary)),
      options_(core_options(spec)) {}

CrossAttention::CrossAttention(const spec::CrossAttentionSpec& spec, const ParameterScope& scope)
    : CrossAttention(spec, scope, table_of(spec, scope), nullptr) {
  key_rotary_ = query_rotary_;
}

CrossContext CrossAttention::context(const at::Tensor& states_SC,
                                     const ops::Sequences& layout) const {
  check_rows("key_value_states", states_SC, spec_.context_size);
  ops::check_sequences(layout, states_SC.size(0), layout.cu_k.back(), kWhere);
  const std::vector<at::Tensor> parts = kv_.forward_segments(states_SC);
  CrossContext result;
  result.k_SHK = parts[kv_.segment("k")].unflatten(1, {-1, spec_.head_dim});
  result.v_SHV = parts[kv_.segment("v")].unflatten(1, {-1, spec_.v_head_dim});
  if (key_rotary_) result.k_SHK = key_rotary_->rotate(result.k_SHK, key_rotary_->rows_of(layout));
  result.boundaries = layout.cu_q;
  return result;
}

at::Tensor CrossAttention::forward(const at::Tensor& x_TD, const ops::Sequences& queries,
                                   const CrossContext& context, const at::Tensor& mask) const {
  check_rows("hidden_states", x_TD, spec_.hidden_size);
  if (!context.k_SHK.defined()) {
    throw ShapeError(
        fmt::format("[{}] key_value_states = undefined, allowed a context of this layer", kWhere));
  }
  ops::Sequences sequences = queries;
  sequences.cu_k = context.boundaries;
  sequences.max_k = 0;
  for (size_t n = 0; n + 1 < context.boundaries.size(); ++n) {
    sequences.max_k = std::max(sequences.max_k, context.boundaries[n + 1] - context.boundaries[n]);
  }
  ops::check_sequences(sequences, x_TD.size(0), context.k_SHK.size(0), kWhere);
  at::Tensor q_THK = q_.forward(x_TD).unflatten(1, {-1, spec_.head_dim});
  if (query_rotary_) q_THK = query_rotary_->rotate(q_THK, query_rotary_->rows_of(queries));
  ops::AttentionOptions options = options_;
  options.mask = mask;
  max_logit_->add(q_THK, context.k_SHK, sequences, options);
  const at::Tensor core =
      ops::attention(q_THK, context.k_SHK, context.v_SHV, sinks_H_, sequences, options);
  return out_.forward(core.flatten(1));
}

}  // namespace headway::nn
