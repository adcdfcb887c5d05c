// Megatron's SelfAttention with a static inference context: one full forward, then the same tokens
// as a prefill and single steps on a cache.
// Legend: S sequence, B batch, D hidden, T = B·S packed tokens.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_input.h"
#include "headway/engine/probe_latent.h"
#include "headway/nn/linear.h"

namespace headway::engine {
namespace {

constexpr const char* kScope = "layers.0.mixer.";
constexpr const char* kProjectionScope = "layers.0.mixer.qkv.";

/// Keys before rotation and values of every token: what upstream's cache holds.
void add_cache_rows(const ProbedAttention& probed, const at::Tensor& hidden_SBD, ProbeOutput& out) {
  const nn::ParameterScope scope(*probed.parameters, kScope);
  const nn::Linear qkv(nn::ParameterScope(*probed.parameters, kProjectionScope));
  const nn::QkNorm norm(probed.attention, scope);
  const auto parts = qkv.forward_segments(packed_tokens(hidden_SBD));
  const auto rows = [&](const char* segment, int64_t dim) {
    return parts[qkv.segment(segment)].unflatten(1, {-1, dim});
  };
  const int64_t batch = hidden_SBD.size(1);
  out["key_cache"] = unpacked_tokens(norm.key(rows("k", probed.attention.head_dim)), batch);
  out["value_cache"] = unpacked_tokens(rows("v", probed.attention.v_head_dim), batch);
}

}  // namespace

std::vector<int64_t> prefill_steps(const ProbeInput& input, int64_t length) {
  const int64_t limit = input.integer("max_sequence_length", 1, INT64_MAX).value_or(length);
  if (length > limit) {
    throw ShapeError(fmt::format(
        "[probe] tokens = {}, allowed at most inference_max_seq_length (= {}, max_sequence_length)",
        length, limit));
  }
  const auto prefill = input.integer("prefill", 1, length);
  if (!prefill) {
    throw ConfigError(
        fmt::format("[probe] prefill: missing; allowed an integer in [1, {}]", length));
  }
  std::vector<int64_t> steps{*prefill};
  steps.insert(steps.end(), static_cast<size_t>(length - *prefill), 1);
  return steps;
}

ProbeOutput probe_static_cache(const ProbeInput& input) {
  input.refuse({"cu_seqlens"}, "packed sequences have no static cache");
  input.refuse({"attention_mask", "attention_bias"}, "a static cache takes no masks or biases");
  if (is_latent(input)) return probe_latent_cache(input);
  ProbeOutput out = probe_attention(input);
  const ProbedAttention probed = make_attention(input);
  if (probed.attention.mask != spec::MaskKind::kCausal) {
    throw UnsupportedError(
        "[probe] mask = " + input.text("mask") +
        ": a cache holds no keys of later tokens; allowed causal, window_size = [n, 0]");
  }
  const at::Tensor hidden_SBD = hidden_states(input, probed.config);
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> columns;
  for (int64_t b = 0; b < hidden_SBD.size(1); ++b) {
    nn::LayerState state = nn::KvCache(probed.attention.window);
    std::vector<at::Tensor> rows;
    int64_t past = 0;
    for (const int64_t count : prefill_steps(input, hidden_SBD.size(0))) {
      const at::Tensor x_TD = hidden_SBD.select(1, b).narrow(0, past, count).contiguous();
      const ops::Sequences sequences = ops::continued_sequences({past}, {count});
      rows.push_back(probed.module->forward({x_TD, sequences, &state}).out_TD);
      past += count;
    }
    columns.push_back(at::cat(rows));
  }
  out["out_incremental"] = at::stack(columns, 1);
  add_cache_rows(probed, hidden_SBD, out);
  return out;
}

}  // namespace headway::engine
