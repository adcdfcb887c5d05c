// See rope_config.h. Not for: per-layer lists (step3p5.cpp).
#include "headway/io/hf/rope_config.h"

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

using spec::RopeKind;
using spec::RopeSpec;

std::string kind_key(const ConfigReader& rope) {
  return !rope.has("rope_type") && rope.has("type") ? "type" : "rope_type";
}

double original_positions(ConfigReader& rope, const RopeDefaults& defaults) {
  const auto nested = rope.optional_number("original_max_position_embeddings");
  if (defaults.original_positions) return *defaults.original_positions;
  return nested.value_or(defaults.max_positions);
}

/// beta_fast and beta_slow: the reference takes 0 for absent.
double beta(ConfigReader& rope, std::string_view key, double otherwise) {
  const double value = rope.number(key, otherwise, 0.0);
  return value == 0.0 ? otherwise : value;
}

void read_yarn(ConfigReader& rope, const RopeDefaults& defaults, RopeSpec& result) {
  result.original_max_positions = original_positions(rope, defaults);
  if (rope.is_present("factor") && !rope.has("factor")) {
    rope.mark("factor");
    result.factor = defaults.max_positions / result.original_max_positions;
  } else {
    result.factor = rope.required_number("factor");
  }
  result.beta_fast = beta(rope, "beta_fast", RopeSpec{}.beta_fast);
  result.beta_slow = beta(rope, "beta_slow", RopeSpec{}.beta_slow);
  result.truncate = rope.boolean("truncate", true);
  result.attention_factor = rope.optional_number("attention_factor");
  result.mscale = rope.optional_number("mscale", 0.0);
  result.mscale_all_dim = rope.optional_number("mscale_all_dim", 0.0);
}

void read_kind(ConfigReader& rope, const RopeDefaults& defaults, RopeSpec& result) {
  switch (result.kind) {
    case RopeKind::kDefault:
      return;
    case RopeKind::kLinear:
      result.factor = rope.required_number("factor");
      return;
    case RopeKind::kProportional:
      result.factor = rope.number("factor", 1.0);
      return;
    case RopeKind::kLlama3:
      result.factor = rope.required_number("factor");
      result.low_freq_factor = rope.required_number("low_freq_factor");
      result.high_freq_factor = rope.required_number("high_freq_factor");
      result.original_max_positions = original_positions(rope, defaults);
      return;
    case RopeKind::kYarn:
      read_yarn(rope, defaults, result);
      return;
  }
}

/// Whole heads only: `partial_rotary_factor` would be ignored or crash in the reference.
void require_full_rotation(ConfigReader& config, std::string_view key, const RopeSpec& rope,
                           const SingleRope& family) {
  if (family.partial) return;
  if (rope.fraction != 1.0 && rope.kind != RopeKind::kProportional) {
    config.problem_text(key, "partial_rotary_factor below 1 is not part of this family");
  }
}

}  // namespace

RopeSpec read_rope(ConfigReader& rope, const RopeDefaults& defaults) {
  RopeSpec result;
  if (const auto nested = rope.nested_object()) {
    rope.problem(*nested, "no object here: positions per layer type are not part of this family");
  }
  const std::string key = kind_key(rope);
  rope.mark("type");
  const std::string name = rope.text(key, "default");
  if (name == "dynamic" || name == "longrope" || name == "su") {
    throw UnsupportedError(
        fmt::format("[config.json] {} = \"{}\", allowed {}", key, name, enum_allowed<RopeKind>()));
  }
  const auto kind = enum_parse<RopeKind>(name);
  if (!kind) rope.problem(key, enum_allowed<RopeKind>());
  result.kind = kind.value_or(RopeKind::kDefault);
  result.base = rope.number("rope_theta", defaults.base);
  result.fraction = rope.number("partial_rotary_factor", defaults.fraction);
  if (result.fraction > 1.0) rope.problem("partial_rotary_factor", "a number in (0, 1]");
  read_kind(rope, defaults, result);
  return result;
}

RopeSpec read_single_rope(ConfigReader& config, int64_t max_positions, const SingleRope& family) {
  RopeDefaults defaults;
  defaults.base = family.base;
  defaults.fraction = family.fraction;
  defaults.base = config.number("rope_theta", defaults.base);
  defaults.fraction = config.number("partial_rotary_factor", defaults.fraction);
  defaults.max_positions = static_cast<double>(max_positions);
  defaults.original_positions = config.optional_number("original_max_position_embeddings");
  RopeSpec plain;
  plain.base = defaults.base;
  plain.fraction = defaults.fraction;
  auto parameters = config.object("rope_parameters");
  auto scaling = config.object("rope_scaling");
  std::optional<RopeSpec> result;
  if (parameters) {
    result = read_rope(*parameters, defaults);
    defaults.base = result->base;
    defaults.fraction = result->fraction;
    require_full_rotation(config, "rope_parameters", *result, family);
  }
  if (scaling && config.find("rope_scaling")->size() > 0) {
    const RopeSpec other = read_rope(*scaling, defaults);
    require_full_rotation(config, "rope_scaling", other, family);
    if (result && *result != other) {
      config.problem_text("rope_scaling", "differs from rope_parameters; keep one of the two");
    }
    result = other;
  }
  if (!result) require_full_rotation(config, "partial_rotary_factor", plain, family);
  return result.value_or(plain);
}

Json rope_scaling_json(const RopeSpec& rope) {
  Json json;
  if (rope.kind == RopeKind::kDefault) return json;
  json["rope_type"] = enum_name(rope.kind);
  json["factor"] = rope.factor;
  if (rope.kind == RopeKind::kProportional) json["partial_rotary_factor"] = rope.fraction;
  if (rope.kind == RopeKind::kLlama3 || rope.kind == RopeKind::kYarn) {
    const auto positions = static_cast<int64_t>(rope.original_max_positions);
    // The reference wants an integer here and only warns when it gets none.
    if (static_cast<double>(positions) == rope.original_max_positions) {
      json["original_max_position_embeddings"] = positions;
    } else {
      json["original_max_position_embeddings"] = rope.original_max_positions;
    }
  }
  if (rope.kind == RopeKind::kLlama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.kind == RopeKind::kYarn) {
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    if (!rope.truncate) json["truncate"] = false;
    if (rope.attention_factor) json["attention_factor"] = *rope.attention_factor;
    if (rope.mscale) json["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) json["mscale_all_dim"] = *rope.mscale_all_dim;
  }
  return json;
}

RopeSpec canonical_rope(const RopeSpec& rope) {
  RopeSpec result;
  result.kind = rope.kind;
  result.layout = rope.layout;
  result.base = rope.base;
  result.fraction = rope.fraction;
  if (rope.kind == RopeKind::kDefault) return result;
  result.factor = rope.factor;
  if (rope.kind == RopeKind::kLlama3) {
    result.low_freq_factor = rope.low_freq_factor;
    result.high_freq_factor = rope.high_freq_factor;
    result.original_max_positions = rope.original_max_positions;
  }
  if (rope.kind == RopeKind::kYarn) {
    const RopeSpec defaults = result;
    result = rope;
    result.low_freq_factor = defaults.low_freq_factor;
    result.high_freq_factor = defaults.high_freq_factor;
  }
  return result;
}

}  // namespace headway::io
