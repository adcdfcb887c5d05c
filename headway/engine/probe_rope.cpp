// Rotary tables and their application, entry by entry of a probe file's config list.
// Legend: N positions, B batch, H heads, K head dim, P rotated pairs.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/engine/probe_input.h"
#include "headway/ops/rope.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::engine {
namespace {

/// Upstream's arguments of a rotary embedding.
struct RopeArguments {
  std::string kind = "rope";
  double percent = 1.0;
  double base = 10000.0;
  bool interleaved = false;
  std::optional<double> interpolation;
  bool rope_scaling = false;
  double rope_scaling_factor = 8.0;
  double scaling_factor = 1.0;
  double original_max_position_embeddings = 4096;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  std::optional<double> mscale = 1.0;
  std::optional<double> mscale_all_dim = 0.0;
  bool correction_range_round_to_int = true;

  template <class V>
  static void fields(V& v) {
    using R = RopeArguments;
    v.field("kind", &R::kind, "", one_of({"rope", "yarn"}));
    v.field("percent", &R::percent, "", above_up_to(0, 1));
    v.field("base", &R::base, "", above(0));
    v.field("interleaved", &R::interleaved, "");
    v.field("interpolation", &R::interpolation, "", above(0));
    v.field("rope_scaling", &R::rope_scaling, "");
    v.field("rope_scaling_factor", &R::rope_scaling_factor, "", above(0));
    v.field("scaling_factor", &R::scaling_factor, "", above(0));
    v.field("original_max_position_embeddings", &R::original_max_position_embeddings, "", above(0));
    v.field("beta_fast", &R::beta_fast, "", above(0));
    v.field("beta_slow", &R::beta_slow, "", above(0));
    v.field("mscale", &R::mscale, "", at_least(0));
    v.field("mscale_all_dim", &R::mscale_all_dim, "", at_least(0));
    v.field("correction_range_round_to_int", &R::correction_range_round_to_int, "");
  }
};

struct Entry {
  std::string op;
  Json rope = Json::object();
  int64_t dim = 0;
  int64_t n = 0;
  int64_t offset = 0;
  int64_t b = 1;
  int64_t heads = 1;
  bool mla = false;      // channels come as pairs: they are sorted into halves first
  bool restore = false;  // mla: and put back afterwards
  bool inverse = false;

  template <class V>
  static void fields(V& v) {
    v.field("op", &Entry::op, "",
            one_of({"table", "apply", "thd", "cp_slice", "mrope"}).required());
    v.field("rope", &Entry::rope, "");
    v.field("dim", &Entry::dim, "", between(2, config::kMaxHeadDim).required());
    v.field("n", &Entry::n, "", between(1, 1 << 24).required());
    v.field("offset", &Entry::offset, "", between(0, config::kMaxTokens));
    v.field("b", &Entry::b, "", between(1, 1 << 20));
    v.field("heads", &Entry::heads, "", between(1, config::kMaxHeads));
    v.field("mla", &Entry::mla, "");
    v.field("restore", &Entry::restore, "");
    v.field("inverse", &Entry::inverse, "");
  }
};

Entry parse_entry(const Json& json, const std::string& path) {
  Entry entry;
  Problems problems;
  read_fields(json, path, entry, problems);
  problems.throw_if_any();
  return entry;
}

bool interleaved(const ProbeRope& given) {
  return given.rope.layout == spec::RopeLayout::kInterleaved;
}

at::Tensor halves_from_pairs(const at::Tensor& x, int64_t width) {
  const at::Tensor turned = x.narrow(-1, 0, width).unflatten(-1, {width / 2, 2});
  const at::Tensor halves = turned.transpose(-1, -2).flatten(-2);
  return at::cat({halves, x.narrow(-1, width, x.size(-1) - width)}, -1);
}

at::Tensor pairs_from_halves(const at::Tensor& x, int64_t width) {
  const at::Tensor turned = x.narrow(-1, 0, width).unflatten(-1, {2, width / 2});
  const at::Tensor pairs = turned.transpose(-1, -2).flatten(-2);
  return at::cat({pairs, x.narrow(-1, width, x.size(-1) - width)}, -1);
}

at::Tensor apply(const Entry& entry, const at::Tensor& x_NBHK, const at::Tensor& angles_NP,
                 double factor, bool in_pairs) {
  if (x_NBHK.dim() != 4 || x_NBHK.size(0) != entry.n || x_NBHK.size(3) != entry.dim ||
      angles_NP.size(0) < entry.n || 2 * angles_NP.size(1) > entry.dim) {
    throw ShapeError("[probe] rope apply: t is allowed [n, b, heads, dim] and emb [n,1,1,rotated]");
  }
  const int64_t width = 2 * angles_NP.size(1);
  const at::Tensor x = entry.mla ? halves_from_pairs(x_NBHK, width) : x_NBHK;
  const at::Tensor cos = (at::cos(angles_NP) * factor).contiguous();
  at::Tensor sin = (at::sin(angles_NP) * factor).contiguous();
  if (entry.inverse) sin = -sin;
  const at::Tensor positions =
      at::arange(entry.n, at::TensorOptions(at::kLong)).repeat_interleave(x.size(1));
  const at::Tensor turned =
      ops::rope(x.flatten(0, 1).contiguous(), cos, sin, positions, in_pairs && !entry.mla);
  const at::Tensor shaped = turned.view(x.sizes());
  return entry.mla && entry.restore ? pairs_from_halves(shaped, width) : shaped;
}

void add_entry(ProbeOutput& out, const ProbeInput& input, const Json& json, size_t index) {
  const std::string path = index_path("config", index);
  const std::string name = fmt::format("e{}.", index);
  if (add_packed_rope_entry(out, input, json, {name, path})) return;
  const Entry entry = parse_entry(json, path);
  const ProbeRope given = parse_probe_rope(entry.rope, path + ".rope");
  const at::ScalarType dtype = input.dtype();
  const spec::RopeFrequencies frequencies = spec::rope_frequencies(
      given.rope, entry.dim,
      dtype == at::kDouble ? spec::RopePrecision::kModelDtype : spec::RopePrecision::kFloat32);
  const bool in_pairs = interleaved(given);
  const bool yarn = given.rope.kind == spec::RopeKind::kYarn;
  const bool handed_in = entry.op == "apply" && input.has(name + "emb");
  const at::Tensor angles = handed_in ? angles_of(input.tensor(name + "emb"), in_pairs)
                                      : rope_angles(at::arange(entry.offset, entry.offset + entry.n,
                                                               at::TensorOptions(at::kLong)),
                                                    given.interpolation, frequencies, dtype);
  out[name + "emb"] = rope_table(angles, in_pairs);
  if (entry.op == "table") {
    out[name + "mscale"] = at::scalar_tensor(frequencies.attention_factor, at::dtype(dtype));
    if (!yarn) out[name + "inv_freq"] = at::tensor(frequencies.inverse, at::kDouble).to(dtype);
    return;
  }
  out[name + "out"] =
      apply(entry, input.tensor(name + "t"), angles, frequencies.attention_factor, in_pairs);
}

}  // namespace

at::Tensor rope_angles(const at::Tensor& positions_N, double interpolation,
                       const spec::RopeFrequencies& frequencies, at::ScalarType dtype) {
  const at::Tensor inverse = at::tensor(frequencies.inverse, at::kDouble).to(dtype);
  at::Tensor positions = positions_N.to(dtype);
  if (interpolation != 1.0) positions = positions * (1.0 / interpolation);
  return at::outer(positions, inverse);
}

at::Tensor rope_table(const at::Tensor& angles_NP, bool in_pairs) {
  const at::Tensor twice = in_pairs ? at::stack({angles_NP, angles_NP}, -1).flatten(1)
                                    : at::cat({angles_NP, angles_NP}, -1);
  return twice.unsqueeze(1).unsqueeze(1);
}

ProbeRope parse_probe_rope(const Json& json, const std::string& path) {
  RopeArguments given;
  Problems problems;
  read_fields(json, path, given, problems);
  problems.throw_if_any();
  ProbeRope result;
  spec::RopeSpec& rope = result.rope;
  rope.base = given.base;
  rope.fraction = given.percent;
  if (given.interleaved) rope.layout = spec::RopeLayout::kInterleaved;
  result.interpolation = given.interpolation.value_or(1.0);
  if (given.kind == "yarn") {
    rope.kind = spec::RopeKind::kYarn;
    rope.factor = given.scaling_factor;
    rope.original_max_positions = given.original_max_position_embeddings;
    rope.beta_fast = given.beta_fast;
    rope.beta_slow = given.beta_slow;
    rope.truncate = given.correction_range_round_to_int;
    rope.attention_factor =
        spec::yarn_concentration(given.scaling_factor, given.mscale, given.mscale_all_dim);
    result.interpolation = 1.0;
  } else if (given.rope_scaling) {
    rope.kind = spec::RopeKind::kLlama3;
    rope.factor = given.rope_scaling_factor;
  }
  return result;
}

at::Tensor angles_of(const at::Tensor& table, bool in_pairs) {
  if (table.dim() != 4 || table.size(2) != 1 || table.size(3) % 2 != 0) {
    throw ShapeError(
        "[probe] rotary table: allowed [positions,1 or batch,1,rotated], rotated even");
  }
  // Rows of one sequence after the other, as tokens are packed.
  const at::Tensor flat = table.squeeze(2).transpose(0, 1).flatten(0, 1);
  const int64_t pairs = flat.size(1) / 2;
  return (in_pairs ? flat.unflatten(1, {pairs, 2}).select(2, 0) : flat.narrow(1, 0, pairs))
      .contiguous();
}

ProbeOutput probe_rope(const ProbeInput& input) {
  const Json entries = input.config();
  if (!entries.is_array()) {
    throw ConfigError("[probe] config = " + json_summary(entries) + ": allowed a list of entries");
  }
  ProbeOutput out;
  for (size_t i = 0; i < entries.size(); ++i) add_entry(out, input, entries[i], i);
  return out;
}

}  // namespace headway::engine
