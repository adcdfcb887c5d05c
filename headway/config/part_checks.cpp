// The texts and conditions of rules that configs and specs share.
// Not for: single-field ranges.
#include "headway/config/part_checks.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "headway/base/fields.h"
#include "headway/base/text_util.h"

namespace headway::config {

int64_t rotated_width(const RopeConfig& rope, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * rope.fraction);
}

void check_norm(const NormConfig& norm, const std::string& path, Problems& problems) {
  if (norm.bias && (norm.kind != NormKind::kLayer || norm.weight == NormWeight::kNone)) {
    problems.add_value(path + ".bias", "true", "false unless kind is layer and it has a weight");
  }
  if (norm.kind == NormKind::kLayer && norm.weight == NormWeight::kZeroCentered) {
    problems.add_value(path + ".weight", "zero_centered", "plain | fp32 | none for kind layer");
  }
}

namespace {

/// Sections cover the rotated pairs (V18).
void check_sections(const RopeConfig& rope, int64_t pairs, const std::string& path,
                    Problems& problems) {
  if (!rope.sections) {
    if (rope.sections_interleaved) {
      problems.add_value(path + ".sections_interleaved", "true", "only with sections");
    }
    return;
  }
  const std::array<int64_t, 3>& given = *rope.sections;
  const std::string text = fmt::format("[{}, {}, {}]", given[0], given[1], given[2]);
  const bool fits =
      std::all_of(given.begin(), given.end(), [&](int64_t n) { return n >= 0 && n <= pairs; }) &&
      given[0] + given[1] + given[2] == pairs;
  if (!fits) {
    problems.add_value(path + ".sections", text,
                       fmt::format("three integers >= 0 whose sum is half the rotated channels "
                                   "(= {})",
                                   pairs));
  } else if (rope.sections_interleaved && given != even_sections(pairs)) {
    const auto even = even_sections(pairs);
    problems.add_value(
        path + ".sections", text,
        fmt::format("[{}, {}, {}] with sections_interleaved", even[0], even[1], even[2]));
  }
  if (rope.kind != RopeKind::kDefault && rope.kind != RopeKind::kLinear) {
    problems.add_value(path + ".kind", std::string(enum_name(rope.kind)),
                       "default | linear with sections");
  }
}

}  // namespace

std::array<int64_t, 3> even_sections(int64_t pairs) {
  return {(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3};
}

void check_rope(const RopeConfig& rope, int64_t head_dim, const std::string& path,
                Problems& problems) {
  const int64_t width = rotated_width(rope, head_dim);
  const bool proportional = rope.kind == RopeKind::kProportional;
  const bool bad_width =
      proportional ? width < 2 || head_dim % 2 != 0 : width < 2 || width % 2 != 0;
  if (bad_width && !problems.touches(path + ".fraction")) {
    problems.add_value(path + ".fraction", format_double(rope.fraction),
                       fmt::format("a fraction that rotates an even, positive number of channels; "
                                   "int(head_dim x fraction) = int({} x {}) = {}",
                                   head_dim, format_double(rope.fraction), width));
  }
  if (rope.kind == RopeKind::kYarn) {
    if (rope.layout == RopeLayout::kInterleaved) {
      problems.add_value(path + ".layout", "interleaved", "half for kind yarn");
    }
    if (rope.base <= 1.0 && !problems.touches(path + ".base")) {
      problems.add_value(path + ".base", format_double(rope.base), "a number > 1 for kind yarn");
    }
    if (rope.beta_fast < rope.beta_slow) {
      problems.add_value(path + ".beta_fast", format_double(rope.beta_fast),
                         fmt::format("at least beta_slow (= {})", format_double(rope.beta_slow)));
    }
  }
  check_sections(rope, width / 2, path, problems);
  if (rope.kind == RopeKind::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    problems.add_value(
        path + ".high_freq_factor", format_double(rope.high_freq_factor),
        fmt::format("more than low_freq_factor (= {})", format_double(rope.low_freq_factor)));
  }
}

void check_unused_rope_fields(const RopeConfig& rope, const std::string& path, Problems& problems) {
  struct Use {
    std::string_view field;
    std::vector<RopeKind> kinds;
  };
  using enum RopeKind;
  static const std::vector<Use> kUses = {
      {"factor", {kLinear, kLlama3, kYarn, kProportional}},
      {"low_freq_factor", {kLlama3}},
      {"high_freq_factor", {kLlama3}},
      {"original_max_positions", {kLlama3, kYarn}},
      {"beta_fast", {kYarn}},
      {"beta_slow", {kYarn}},
      {"truncate", {kYarn}},
      {"attention_factor", {kYarn}},
      {"mscale", {kYarn}},
      {"mscale_all_dim", {kYarn}},
  };
  const Json given = write_fields(rope);
  const Json preset = write_fields(RopeConfig{});
  for (const Use& use : kUses) {
    const std::string field(use.field);
    const bool is_read =
        std::find(use.kinds.begin(), use.kinds.end(), rope.kind) != use.kinds.end();
    if (is_read || given[field] == preset[field]) continue;
    std::vector<std::string> kinds;
    for (const RopeKind kind : use.kinds) kinds.emplace_back(enum_name(kind));
    problems.add_value(
        join_path(path, field), json_summary(given[field]),
        fmt::format("only with kind {} (kind = {})", join(kinds, " | "), enum_name(rope.kind)));
  }
}

void check_gate(const GateConfig& gate, bool gate_bias, const std::string& path,
                Problems& problems) {
  const std::string gate_path = path + ".gate";
  const std::string init(enum_name(gate.init));
  if (gate.kind == GateKind::kNone) {
    if (gate.init != GateInit::kNormal) {
      problems.add_value(gate_path + ".init", init, "only with kind head_wise | element_wise");
    }
    if (gate_bias) {
      problems.add_value(path + ".gate_bias", "true", "only with gate head_wise | element_wise");
    }
  }
  if (gate.init_value != 0.0 && gate.init != GateInit::kConstant) {
    problems.add_value(gate_path + ".value", format_double(gate.init_value),
                       fmt::format("only with init constant (init = {})", init));
  }
  const bool constant = gate.kind != GateKind::kNone && gate.init == GateInit::kConstant;
  if (constant && !gate_bias) {
    problems.add_value(gate_path + ".init", init,
                       "normal | zero without a gate bias; set gate_bias: true");
  }
}

void check_mask(MaskKind mask, const std::optional<int64_t>& window_ahead, const std::string& path,
                Problems& problems) {
  if (mask != MaskKind::kCausal || !window_ahead) return;
  problems.add_value(path + ".window_ahead", std::to_string(*window_ahead),
                     "only with mask none (mask = causal)");
}

void check_gated_delta_net(const GatedDeltaNetConfig& mixer, const std::string& path,
                           Problems& problems) {
  check_norm(mixer.norm, path + ".norm", problems);
  if (mixer.norm.kind != NormKind::kRms) {
    problems.add_value(path + ".norm.kind", std::string(enum_name(mixer.norm.kind)), "rms");
  }
}

void check_shared_key_value(bool shared, int64_t head_dim, int64_t v_head_dim,
                            const std::string& path, Problems& problems) {
  if (!shared || head_dim == v_head_dim || problems.touches(path + ".v_head_dim")) return;
  problems.add_value(path + ".v_head_dim", std::to_string(v_head_dim),
                     fmt::format("head_dim (= {}) with shared_key_value", head_dim));
}

void check_spans(bool spans, MaskKind mask, const std::string& path, Problems& problems) {
  if (!spans || mask == MaskKind::kCausal) return;
  problems.add_value(path + ".bidirectional_spans", "true", "only with mask causal");
}

void check_mlp(const MlpConfig& mlp, const std::string& path, Problems& problems) {
  if (mlp.limit && !mlp.gated) {
    problems.add_value(path + ".limit", format_double(*mlp.limit), "only with gated true");
  }
}

void check_base_count(size_t bases, size_t layers, const std::string& path, Problems& problems) {
  if (bases == layers) return;
  problems.add(path, fmt::format("rotary_base_per_layer length ({}) must equal num_layers ({})",
                                 bases, layers));
}

std::string no_base_text(size_t layer, const std::string& block) {
  return fmt::format(
      "layer {} (block {}) has position type \"none\", which has no base; rotary_base_per_layer is "
      "only supported with \"rope\", \"yarn\" and \"mrope\"; write null for this layer",
      layer, block);
}

}  // namespace headway::config
