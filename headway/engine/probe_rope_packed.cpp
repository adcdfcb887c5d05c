// Entries of a rotary probe file about packed sequences, context-parallel slices and positions of
// three axes. Not for: plain tables and their application (probe_rope.cpp).
// Legend: N positions, B batch, H heads, K head dim, P rotated pairs, T packed tokens.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/config/part_checks.h"
#include "headway/engine/probe_input.h"
#include "headway/ops/rope.h"
#include "headway/ops/rope_rows.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::engine {
namespace {

constexpr int64_t kMostRows = 1 << 24;

struct PackedEntry {
  std::string op;
  Json rope = Json::object();
  int64_t dim = 0;
  int64_t heads = 1;
  int64_t n = 1;
  std::optional<std::vector<int64_t>> cu;
  std::optional<std::array<int64_t, 2>> cp;  // ranks, rank
  int64_t tail = 0;                          // tokens beyond the last boundary
  std::optional<int64_t> table_len;          // none = that of the longest sequence

  ops::ContextRank context() const {
    return cp ? ops::ContextRank{(*cp)[0], (*cp)[1]} : ops::ContextRank{};
  }

  template <class V>
  static void fields(V& v) {
    using E = PackedEntry;
    v.field("op", &E::op, "", one_of({"thd", "cp_slice"}).required());
    v.field("rope", &E::rope, "");
    v.field("dim", &E::dim, "", between(2, config::kMaxHeadDim).required());
    v.field("heads", &E::heads, "", between(1, config::kMaxHeads));
    v.field("n", &E::n, "", between(1, kMostRows));
    v.field("cu", &E::cu, "", between(0, kMostRows));
    v.field("cp", &E::cp, "", between(0, 1 << 20));
    v.field("tail", &E::tail, "", between(0, kMostRows));
    v.field("table_len", &E::table_len, "", between(1, kMostRows));
  }
};

struct AxisEntry {
  std::string op;
  int64_t dim = 0;
  double percent = 1.0;
  double base = 10000.0;
  bool interleaved = false;
  std::optional<double> interpolation;
  int64_t b = 1;
  int64_t n = 0;
  std::array<int64_t, 3> section{};
  bool interleaved_mrope = false;

  template <class V>
  static void fields(V& v) {
    using E = AxisEntry;
    v.field("op", &E::op, "", one_of({"mrope"}).required());
    v.field("dim", &E::dim, "", between(2, config::kMaxHeadDim).required());
    v.field("percent", &E::percent, "", above_up_to(0, 1));
    v.field("base", &E::base, "", above(0));
    v.field("interleaved", &E::interleaved, "");
    v.field("interpolation", &E::interpolation, "", above(0));
    v.field("b", &E::b, "", between(1, 1 << 20));
    v.field("n", &E::n, "", between(1, kMostRows).required());
    v.field("section", &E::section, "", between(0, config::kMaxHeadDim).required());
    v.field("interleaved_mrope", &E::interleaved_mrope, "");
  }
};

template <class E>
E parse(const Json& json, const std::string& path) {
  E entry;
  Problems problems;
  read_fields(json, path, entry, problems);
  problems.throw_if_any();
  return entry;
}

spec::RopePrecision precision_of(at::ScalarType dtype) {
  return dtype == at::kDouble ? spec::RopePrecision::kModelDtype : spec::RopePrecision::kFloat32;
}

int64_t longest(const std::vector<int64_t>& cu) {
  int64_t length = 1;
  for (size_t k = 0; k + 1 < cu.size(); ++k) length = std::max(length, cu[k + 1] - cu[k]);
  return length;
}

/// The tokens that the given context rank holds, turned by their rows of the table.
at::Tensor apply_packed(const PackedEntry& entry, const at::Tensor& x_THK,
                        const at::Tensor& angles_NP, double factor, bool in_pairs) {
  if (x_THK.dim() != 3 || x_THK.size(1) != entry.heads || x_THK.size(2) != entry.dim) {
    throw ShapeError("[probe] rope thd: t is allowed [tokens, heads, dim]");
  }
  const std::vector<int64_t>& cu = *entry.cu;
  int64_t tokens = entry.tail;
  for (size_t k = 0; k + 1 < cu.size(); ++k) tokens += (cu[k + 1] - cu[k]) / entry.context().ranks;
  if (x_THK.size(0) != tokens) {
    throw ShapeError(
        fmt::format("[probe] rope thd: t has {} tokens, allowed those of cu, cp and "
                    "tail (= {})",
                    x_THK.size(0), tokens));
  }
  // A table longer than any sequence has a row for every packed token, as upstream takes it.
  const bool per_token = angles_NP.size(0) > longest(cu);
  const auto rows = ops::packed_rope_rows(
      cu, tokens, entry.context(),
      {per_token ? ops::TableRows::kPerToken : ops::TableRows::kPerSequence, angles_NP.size(0)});
  return ops::rope(x_THK.contiguous(), at::cos(angles_NP) * factor, at::sin(angles_NP) * factor,
                   at::tensor(rows, at::kLong), in_pairs);
}

void add_packed(ProbeOutput& out, const ProbeInput& input, const PackedEntry& entry,
                const ProbeEntryName& name) {
  const ProbeRope given = parse_probe_rope(entry.rope, name.path + ".rope");
  const spec::RopeFrequencies frequencies =
      spec::rope_frequencies(given.rope, entry.dim, precision_of(input.dtype()));
  const bool in_pairs = given.rope.layout == spec::RopeLayout::kInterleaved;
  if (entry.op == "cp_slice") {
    const at::Tensor angles = rope_angles(at::arange(entry.n, at::kLong), given.interpolation,
                                          frequencies, input.dtype());
    const auto rows = ops::context_rope_rows(entry.n, entry.context());
    out[name.prefix + "emb"] = rope_table(angles, in_pairs);
    out[name.prefix + "out"] =
        rope_table(angles.index_select(0, at::tensor(rows, at::kLong)), in_pairs);
    return;
  }
  if (!entry.cu)
    throw ConfigError("[probe] " + name.path + ".cu: missing; op thd needs boundaries");
  const int64_t length = entry.table_len.value_or(longest(*entry.cu));
  const at::Tensor angles =
      rope_angles(at::arange(length, at::kLong), given.interpolation, frequencies, input.dtype());
  out[name.prefix + "emb"] = rope_table(angles, in_pairs);
  out[name.prefix + "out"] = apply_packed(entry, input.tensor(name.prefix + "t"), angles,
                                          frequencies.attention_factor, in_pairs);
}

void add_axes(ProbeOutput& out, const ProbeInput& input, const AxisEntry& entry,
              const ProbeEntryName& name) {
  spec::RopeSpec rope;
  rope.base = entry.base;
  rope.fraction = entry.percent;
  if (entry.interleaved) rope.layout = spec::RopeLayout::kInterleaved;
  rope.sections = entry.section;
  rope.sections_interleaved = entry.interleaved_mrope;
  Problems problems;
  config::check_rope(rope, entry.dim, name.path, problems);
  problems.throw_if_any();
  const at::Tensor positions = input.tensor(name.prefix + "position_ids");
  if (positions.sizes() != at::IntArrayRef({3, entry.b, entry.n})) {
    throw ShapeError("[probe] rope mrope: position_ids is allowed [3, b, n]");
  }
  const spec::RopeFrequencies frequencies =
      spec::rope_frequencies(rope, entry.dim, precision_of(input.dtype()));
  const auto pairs = static_cast<int64_t>(frequencies.inverse.size());
  const at::Tensor axes = at::tensor(spec::section_axes(rope, pairs), at::kLong);
  // [3,B,N] -> [N,B,P]: every pair with the position of its axis.
  const at::Tensor chosen = positions.to(at::kLong).index_select(0, axes).permute({2, 1, 0});
  const at::Tensor inverse = at::tensor(frequencies.inverse, at::kDouble).to(input.dtype());
  const at::Tensor scaled =
      chosen.to(input.dtype()) * (1.0 / entry.interpolation.value_or(1.0)) * inverse;
  const at::Tensor twice = entry.interleaved ? at::stack({scaled, scaled}, -1).flatten(2)
                                             : at::cat({scaled, scaled}, -1);
  out[name.prefix + "emb"] = twice.unsqueeze(2);
}

}  // namespace

bool add_packed_rope_entry(ProbeOutput& out, const ProbeInput& input, const Json& json,
                           const ProbeEntryName& name) {
  const Json op = json.is_object() ? json.value("op", Json()) : Json();
  if (op == "mrope") {
    add_axes(out, input, parse<AxisEntry>(json, name.path), name);
    return true;
  }
  if (op != "thd" && op != "cp_slice") return false;
  add_packed(out, input, parse<PackedEntry>(json, name.path), name);
  return true;
}

}  // namespace headway::engine
