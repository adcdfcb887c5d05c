// What families with mixtures of experts share: which features each of them can say, and the rules
// of layouts that several of them use.
// Not for: keys, which differ from family to family.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headway/io/hf/reasons.h"
#include "headway/io/rules.h"
#include "headway/spec/model_spec.h"

namespace headway::io {

/// The mixtures a family can hold; what is not named here must be absent.
struct MoeForm {
  spec::RouterScore score = spec::RouterScore::kSoftmax;
  bool expert_bias = false;       // always there, or never
  std::optional<bool> normalize;  // unset: a key says it
  bool scale = false;             // weights may be scaled
  bool groups = false;            // choices may be limited to groups
  bool shared = false;            // always a shared expert, or never
  bool shared_gate = false;       // with a gate on it, or never
  bool limits = false;            // clamps, layer by layer
  bool biases = false;            // of router and experts, always both, or never
  bool clamped_input = false;     // always a limit before quick_gelu and an offset of 1, or never
};

/// The first layer with experts; null without one.
const spec::MoeSpec* first_moe(const spec::ModelSpec& spec);

/// Why the mixtures of a model do not fit: features outside `form`, and differences between layers.
/// Losses and update rates belong to training and are no reason.
void moe_reasons(const spec::ModelSpec& spec, const MoeForm& form, Reasons& reasons);

/// Reads fused stacks `….gate_up_proj` [E,2F,D] and `….down_proj` [E,D,F] below `experts` (with
/// `{}` for the layer), as transformers holds them in memory, where a folder has them.
std::vector<Rule> fused_expert_rules(const std::string& experts);

}  // namespace headway::io
