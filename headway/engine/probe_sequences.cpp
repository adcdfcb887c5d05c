// Masks, boundaries and positions of a probe file, as this library takes them.
// Not for: parameters or configs (probe.cpp).
// Legend: B batch, S sequence, T = B·S packed tokens.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_input.h"

namespace headway::engine {
namespace {

spec::MegatronMask mask_of(const ProbeInput& input) {
  const std::string text = input.text("mask");
  // The second is how files of packed sequences call it.
  if (text.empty() || text == "causal per packed sequence") return spec::MegatronMask::kCausal;
  const auto mask = enum_parse<spec::MegatronMask>(text);
  if (!mask) {
    throw ConfigError("[probe] mask = " + shorten(text) + ", allowed " +
                      enum_allowed<spec::MegatronMask>());
  }
  return *mask;
}

/// [1 or B, heads or 1, 1 or S, 1 or S]
at::Tensor pair_tensor(const ProbeInput& input, const char* name, const ProbeBatch& batch) {
  if (!input.has(name)) return {};
  if (input.has("cu_seqlens")) {
    throw UnsupportedError(
        fmt::format("[probe] tensor {}: not in this build together with cu_seqlens", name));
  }
  const at::Tensor given = input.tensor(name);
  const auto fits = [&](int64_t dim, int64_t full) {
    return given.size(dim) == 1 || given.size(dim) == full;
  };
  if (given.dim() != 4 || !fits(0, batch.count) || !fits(2, batch.length) ||
      !fits(3, batch.length)) {
    throw ShapeError(fmt::format("[probe] {}: allowed [{}, heads, {}, {}] or 1 in any place", name,
                                 batch.count, batch.length, batch.length));
  }
  return given;
}

}  // namespace

void set_probe_rule(const ProbeInput& input, const spec::MegatronConfig& config,
                    int64_t layer_number, spec::AttentionSpec& attention) {
  attention.window.reset();
  attention.window_ahead.reset();
  attention.mask = is_causal(mask_of(input)) ? spec::MaskKind::kCausal : spec::MaskKind::kNone;
  const auto window = spec::layer_window(config, layer_number);
  if (!window) return;
  // Upstream's eager window replaces the mask type, so it may look ahead.
  const auto [left, right] = *window;
  attention.mask = right == 0 ? spec::MaskKind::kCausal : spec::MaskKind::kNone;
  if (left >= 0) attention.window = left + 1;
  if (right > 0) attention.window_ahead = right;
}

void require_causal(const ProbeInput& input) {
  if (is_causal(mask_of(input))) return;
  throw UnsupportedError("[probe] mask = " + shorten(input.text("mask")) +
                         ": allowed causal with multi-latent attention");
}

ops::Sequences probe_sequences(const ProbeInput& input, const ProbeBatch& batch) {
  if (!input.has("cu_seqlens")) return ops::equal_sequences(batch.count, batch.length);
  const at::Tensor given = input.tensor("cu_seqlens").to(at::kLong).contiguous();
  std::vector<int64_t> boundaries(given.data_ptr<int64_t>(),
                                  given.data_ptr<int64_t>() + given.numel());
  if (batch.count != 1 || boundaries.empty() || boundaries.back() != batch.length) {
    throw ShapeError(
        fmt::format("[probe] cu_seqlens: allowed only for a batch of 1, ending at its tokens "
                    "(= {})",
                    batch.length));
  }
  return ops::packed_sequences(std::move(boundaries));
}

nn::ForwardContext probe_context(const ProbeInput& input, const ProbeBatch& batch) {
  nn::ForwardContext context;
  context.attention_mask = pair_tensor(input, "attention_mask", batch);
  if (context.attention_mask.defined() && context.attention_mask.scalar_type() != at::kBool) {
    throw ShapeError("[probe] attention_mask: allowed dtype bool, true = dropped");
  }
  if (mask_of(input) == spec::MegatronMask::kArbitrary && !context.attention_mask.defined()) {
    throw CheckpointError("[probe] tensor attention_mask: missing; mask = arbitrary needs it");
  }
  const at::Tensor bias = pair_tensor(input, "attention_bias", batch);
  if (bias.defined()) context.attention_bias = bias.detach().clone().set_requires_grad(true);
  if (!input.has("position_ids")) return context;
  const at::Tensor positions = input.tensor("position_ids");
  if (positions.dim() != 3) return context;  // of one axis: probe_gpt looks at them
  if (positions.sizes() != at::IntArrayRef({3, batch.count, batch.length}) ||
      positions.scalar_type() != at::kLong) {
    throw ShapeError(
        "[probe] position_ids: allowed int64 [3, batch, sequence] or [batch, sequence]");
  }
  context.positions_3T = positions.flatten(1).contiguous();
  return context;
}

}  // namespace headway::engine
