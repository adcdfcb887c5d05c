// Checks and parameters of cross-attention. Not for: its forward (nn/cross_attention.h).
#include "headway/spec/cross_attention.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/fields.h"
#include "headway/base/text_util.h"
#include "headway/config/part_checks.h"
#include "headway/spec/spec_fields.h"

namespace headway {

template <>
struct FieldsOf<spec::CrossAttentionSpec> {
  template <class V>
  static void visit(V& v) {
    using C = spec::CrossAttentionSpec;
    v.field("hidden_size", &C::hidden_size, "D", between(1, config::kMaxWidth).required());
    v.field("context_size", &C::context_size, "C", between(1, config::kMaxWidth).required());
    v.field("num_heads", &C::num_heads, "H", between(1, config::kMaxHeads).required());
    v.field("head_dim", &C::head_dim, "K", between(1, config::kMaxHeadDim).required());
    v.field("v_head_dim", &C::v_head_dim, "V", between(1, config::kMaxHeadDim).required());
    v.field("rope", &C::rope, "rotary positions");
    v.field("scale", &C::scale, "multiplies q·k", above(0).required());
    v.field("logit_softcap", &C::logit_softcap, "soft cap of the scores", above(0));
    v.field("sinks", &C::sinks, "extra softmax logit");
    v.field("qkv_bias", &C::qkv_bias, "biases of q, k, v");
    v.field("output_bias", &C::output_bias, "bias of the output projection");
  }
};

}  // namespace headway

namespace headway::spec {
namespace {

constexpr const char* kWhere = "cross_attention";

struct Segment {
  const char* name;
  int64_t rows;
  double std;
};

/// A tensor of consecutive segments; without columns a bias.
TensorSpec tensor_of(const std::string& name, const std::vector<Segment>& segments,
                     std::optional<int64_t> columns, ShardAxis shard) {
  TensorSpec tensor;
  tensor.name = name;
  tensor.shard = shard;
  int64_t rows = 0;
  for (const Segment& segment : segments) {
    const InitRule init =
        columns ? InitRule{InitKind::kNormal, segment.std} : InitRule{InitKind::kZeros};
    const std::string disk = segments.size() == 1 ? name : name + "." + segment.name;
    tensor.segments.push_back({segment.name, rows, segment.rows, disk, init, columns.has_value()});
    rows = checked_add<ConfigError>(rows, segment.rows, name);
  }
  tensor.shape = {rows};
  if (columns) tensor.shape.push_back(*columns);
  return tensor;
}

}  // namespace

CrossAttentionSpec cross_attention(const AttentionSpec& self, int64_t hidden_size,
                                   int64_t context_size) {
  Problems problems;
  if (self.num_kv_heads != self.num_heads) {
    problems.add(join_path(kWhere, "num_kv_heads"),
                 fmt::format("Group query attention is not currently supported in cross attention "
                             "(num_query_groups = {}, num_attention_heads = {})",
                             self.num_kv_heads, self.num_heads));
  }
  const auto refuse = [&problems](const char* field, std::string_view got, const char* what) {
    problems.add_value(join_path(kWhere, field), got,
                       fmt::format("none: {} are for self-attention only", what));
  };
  if (self.gate.kind != GateKind::kNone) refuse("gate", enum_name(self.gate.kind), "gates");
  if (self.q_norm || self.k_norm) refuse("qk_norm", "set", "query and key norms");
  if (self.dropout > 0) {
    refuse("dropout", format_double(self.dropout), "dropped probabilities");
  }
  if (self.window) refuse("window", std::to_string(*self.window), "windows");
  problems.throw_if_any();
  CrossAttentionSpec cross;
  cross.hidden_size = hidden_size;
  cross.context_size = context_size;
  cross.num_heads = self.num_heads;
  cross.head_dim = self.head_dim;
  cross.v_head_dim = self.v_head_dim;
  cross.rope = self.rope;
  cross.scale = self.scale;
  cross.logit_softcap = self.logit_softcap;
  cross.sinks = self.sinks;
  cross.qkv_bias = self.qkv_bias;
  cross.output_bias = self.output_bias;
  return cross;
}

void validate(const CrossAttentionSpec& spec) {
  Problems problems;
  check_fields(spec, kWhere, problems);
  if (spec.rope && !problems.touches(join_path(kWhere, "head_dim"))) {
    config::check_rope(*spec.rope, spec.head_dim, join_path(kWhere, "rope"), problems);
  }
  problems.throw_if_any();
}

std::vector<TensorSpec> cross_attention_tensors(const CrossAttentionSpec& spec,
                                                const InitSpec& init, int64_t num_layers,
                                                const std::string& prefix) {
  validate(spec);
  if (num_layers < 1) {
    throw ConfigError(fmt::format("{}.num_layers = {}: allowed >= 1", kWhere, num_layers));
  }
  const double std = init.std;
  const double residual =
      init.scale_residual ? std / std::sqrt(2.0 * static_cast<double>(num_layers)) : std;
  const int64_t key_rows = spec.num_heads * spec.head_dim;
  const int64_t value_rows = spec.num_heads * spec.v_head_dim;
  std::vector<TensorSpec> tensors;
  const auto projection = [&](const char* name, const std::vector<Segment>& segments,
                              int64_t columns, bool bias, ShardAxis shard) {
    tensors.push_back(tensor_of(prefix + name + ".weight", segments, columns, shard));
    if (!bias) return;
    const ShardAxis split = shard == ShardAxis::kRows ? shard : ShardAxis::kNone;
    tensors.push_back(tensor_of(prefix + name + ".bias", segments, std::nullopt, split));
  };
  projection("q", {{"q", key_rows, std}}, spec.hidden_size, spec.qkv_bias, ShardAxis::kRows);
  projection("kv", {{"k", key_rows, std}, {"v", value_rows, std}}, spec.context_size, spec.qkv_bias,
             ShardAxis::kRows);
  projection("out", {{"weight", spec.hidden_size, residual}}, value_rows, spec.output_bias,
             ShardAxis::kColumns);
  if (spec.sinks == SinkKind::kLearnable) {
    TensorSpec sinks = tensor_of(prefix + "sinks", {{"weight", spec.num_heads, std}}, std::nullopt,
                                 ShardAxis::kRows);
    sinks.segments.front().init = {InitKind::kNormal, std};
    tensors.push_back(std::move(sinks));
  }
  return tensors;
}

}  // namespace headway::spec
