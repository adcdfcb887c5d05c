// Cuts of self-attention: row segments first, everything else from them. Not for: files.
#include "headway/io/megatron_shards.h"

#include <algorithm>
#include <set>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

constexpr int64_t kMost = 1 << 20;  // heads, channels, ranks: products of two and a bit fit
constexpr const char* kProjection = "linear_proj.weight";
constexpr const char* kSinks = "core_attention.softmax_offset";

bool is_qkv(const std::string& name) {
  return name == "linear_qkv.weight" || name == "linear_qkv.bias";
}

/// State of Transformer Engine that has no meaning here.
bool is_extra_state(const std::string& name) { return name.ends_with("_extra_state"); }

bool has_head_gate(const QkvHeads& heads) { return heads.gate == spec::GateKind::kHeadWise; }

/// Rows of the groups: queries, channel gates, keys and values.
int64_t grouped_rows(const QkvHeads& heads) {
  const int64_t per_group = heads.num_heads / heads.num_kv_heads;
  const int64_t parts = heads.gate == spec::GateKind::kElementWise ? 2 : 1;
  return heads.num_kv_heads * (parts * per_group + 2) * heads.head_dim;
}

int64_t gate_rows(const QkvHeads& heads) { return has_head_gate(heads) ? heads.num_heads : 0; }

void check_cut(const QkvHeads& heads, const TensorRank& rank) {
  const int64_t h = heads.num_heads, g = heads.num_kv_heads, t = rank.size;
  const std::string where = fmt::format(
      "[megatron_shards] num_attention_heads = {}, num_query_groups = {}, "
      "tensor_model_parallel_size = {}: ",
      h, g, t);
  for (const int64_t number : {h, g, heads.head_dim, t}) {
    if (number >= 1 && number <= kMost) continue;
    throw ConfigError(fmt::format("{}allowed numbers in [1, {}]", where, kMost));
  }
  if (rank.rank < 0 || rank.rank >= t) {
    throw ConfigError(fmt::format("{}rank {} is not one of them", where, rank.rank));
  }
  if (h % g != 0) throw ConfigError(where + "groups must divide heads");
  if (h % t != 0) throw ConfigError(where + "ranks must divide heads");
  if (g % t != 0 && t % g != 0) {
    throw ConfigError(where + "groups must be a multiple or divisor of ranks");
  }
  if (has_head_gate(heads) && g < t) {
    throw ConfigError(where + "head-wise gates need at least as many groups as ranks");
  }
  if (grouped_rows(heads) % t != 0) {
    throw ConfigError(fmt::format("{}the {} rows of linear_qkv do not divide by the ranks", where,
                                  grouped_rows(heads)));
  }
}

/// Segments of the whole matrix, head by head.
std::vector<QkvRowSegment> whole_segments(const QkvHeads& heads) {
  const int64_t per_group = heads.num_heads / heads.num_kv_heads;
  std::vector<QkvRowSegment> segments;
  int64_t row = 0;
  const auto add = [&](QkvPart part, int64_t head, int64_t rows) {
    segments.push_back({part, head, 0, row, rows, row});
    row += rows;
  };
  const auto add_heads = [&](QkvPart part, int64_t first) {
    for (int64_t i = 0; i < per_group; ++i) add(part, first + i, heads.head_dim);
  };
  for (int64_t g = 0; g < heads.num_kv_heads; ++g) {
    add_heads(QkvPart::kQuery, g * per_group);
    if (heads.gate == spec::GateKind::kElementWise) {
      add_heads(QkvPart::kChannelGate, g * per_group);
    }
    add(QkvPart::kKey, g, heads.head_dim);
    add(QkvPart::kValue, g, heads.head_dim);
  }
  for (int64_t h = 0; h < gate_rows(heads); ++h) add(QkvPart::kHeadGate, h, 1);
  return segments;
}

/// Rows [first, first + rows) of the whole matrix, appended as the next rows of a rank.
void append_cut(const std::vector<QkvRowSegment>& whole, int64_t first, int64_t rows,
                std::vector<QkvRowSegment>& out) {
  for (const QkvRowSegment& segment : whole) {
    const int64_t begin = std::max(segment.global, first);
    const int64_t end = std::min(segment.global + segment.rows, first + rows);
    if (begin >= end) continue;
    const int64_t row = out.empty() ? 0 : out.back().begin + out.back().rows;
    out.push_back({segment.part, segment.head, begin - segment.global, row, end - begin, begin});
  }
}

[[noreturn]] void fail_shape(const std::string& name, const at::Tensor& got,
                             const std::string& allowed) {
  throw ShapeError(fmt::format("[megatron_shards] {} = {} rows{}, allowed {}", name,
                               got.dim() > 0 ? got.size(0) : 0,
                               got.dim() > 1 ? fmt::format(" of {}", got.size(1)) : "", allowed));
}

void check_rows(const std::string& name, const at::Tensor& tensor, int64_t rows) {
  if (tensor.dim() < 1 || tensor.size(0) != rows) {
    fail_shape(name, tensor, fmt::format("{} rows", rows));
  }
}

void check_columns(const at::Tensor& tensor, int64_t columns) {
  if (tensor.dim() != 2 || tensor.size(1) != columns) {
    fail_shape(kProjection, tensor, fmt::format("{} columns", columns));
  }
}

at::Tensor index_of(const std::vector<int64_t>& rows, const at::Tensor& like) {
  return at::tensor(rows, at::kLong).to(like.device());
}

/// How a tensor is cut.
enum class Cut { kQkvRows, kHeadColumns, kHeads, kNone };

Cut cut_of(const std::string& name) {
  if (is_qkv(name)) return Cut::kQkvRows;
  if (name == kProjection) return Cut::kHeadColumns;
  if (name == kSinks) return Cut::kHeads;
  for (const char* prefix :
       {"linear_proj.bias", "q_layernorm.", "k_layernorm.", "linear_qkv.layer_norm_"}) {
    if (name.starts_with(prefix)) return Cut::kNone;
  }
  throw ShapeError("[megatron_shards] tensor = " + name +
                   ", allowed linear_qkv.*, linear_proj.*, q_layernorm.*, k_layernorm.*, " +
                   kSinks);
}

at::Tensor shard_of(const std::string& name, const at::Tensor& whole, const QkvHeads& heads,
                    const TensorRank& rank) {
  const int64_t local = heads.num_heads / rank.size;
  switch (cut_of(name)) {
    case Cut::kQkvRows:
      check_rows(name, whole, grouped_rows(heads) + gate_rows(heads));
      return whole.index_select(0, index_of(megatron_rank_rows(heads, rank), whole));
    case Cut::kHeadColumns:
      check_columns(whole, heads.num_heads * heads.head_dim);
      return whole.narrow(1, rank.rank * local * heads.head_dim, local * heads.head_dim)
          .contiguous();
    case Cut::kHeads:
      check_rows(name, whole, heads.num_heads);
      return whole.narrow(0, rank.rank * local, local).contiguous();
    case Cut::kNone:
      return whole;
  }
  throw InternalError("[megatron_shards] cut is not in the enum");
}

at::Tensor joined_rows(const std::string& name, const std::vector<at::Tensor>& shards,
                       const QkvHeads& heads) {
  std::vector<int64_t> shape = shards.front().sizes().vec();
  if (!shape.empty()) shape.front() = grouped_rows(heads) + gate_rows(heads);
  at::Tensor whole = at::empty(shape, shards.front().options());
  const auto size = static_cast<int64_t>(shards.size());
  for (int64_t rank = 0; rank < size; ++rank) {
    const std::vector<int64_t> rows = megatron_rank_rows(heads, {size, rank});
    check_rows(name, shards[rank], static_cast<int64_t>(rows.size()));
    whole.index_copy_(0, index_of(rows, whole), shards[rank]);
  }
  return whole;
}

at::Tensor replicated(const std::string& name, const std::vector<at::Tensor>& shards) {
  for (size_t rank = 1; rank < shards.size(); ++rank) {
    if (at::equal(shards[rank], shards.front())) continue;
    const bool comparable = shards[rank].sizes() == shards.front().sizes();
    throw CheckpointError(fmt::format(
        "[megatron_shards] {} of rank {} and rank 0: allowed equal tensors; got {}", name, rank,
        comparable ? fmt::format("a largest difference of {}",
                                 (shards[rank] - shards.front()).abs().max().item<double>())
                   : std::string("other shapes")));
  }
  return shards.front();
}

at::Tensor whole_of(const std::string& name, const std::vector<at::Tensor>& shards,
                    const QkvHeads& heads) {
  const int64_t local = heads.num_heads / static_cast<int64_t>(shards.size());
  switch (cut_of(name)) {
    case Cut::kQkvRows:
      return joined_rows(name, shards, heads);
    case Cut::kHeadColumns:
      for (const at::Tensor& shard : shards) check_columns(shard, local * heads.head_dim);
      return at::cat(shards, 1);
    case Cut::kHeads:
      for (const at::Tensor& shard : shards) check_rows(name, shard, local);
      return at::cat(shards, 0);
    case Cut::kNone:
      return replicated(name, shards);
  }
  throw InternalError("[megatron_shards] cut is not in the enum");
}

}  // namespace

std::vector<QkvRowSegment> qkv_row_segments(const QkvHeads& heads, const TensorRank& rank) {
  check_cut(heads, rank);
  const std::vector<QkvRowSegment> whole = whole_segments(heads);
  const int64_t rows = grouped_rows(heads) / rank.size;
  const int64_t gates = gate_rows(heads) / rank.size;
  std::vector<QkvRowSegment> segments;
  append_cut(whole, rank.rank * rows, rows, segments);
  append_cut(whole, grouped_rows(heads) + rank.rank * gates, gates, segments);
  return segments;
}

std::vector<int64_t> megatron_rank_rows(const QkvHeads& heads, const TensorRank& rank) {
  std::vector<int64_t> rows;
  for (const QkvRowSegment& segment : qkv_row_segments(heads, rank)) {
    for (int64_t i = 0; i < segment.rows; ++i) rows.push_back(segment.global + i);
  }
  return rows;
}

AttentionTensors attention_shard(const AttentionTensors& whole, const QkvHeads& heads,
                                 const TensorRank& rank) {
  check_cut(heads, rank);
  AttentionTensors shard;
  for (const auto& [name, tensor] : whole) {
    if (!is_extra_state(name)) shard[name] = shard_of(name, tensor, heads, rank);
  }
  return shard;
}

AttentionTensors attention_whole(const std::vector<AttentionTensors>& shards,
                                 const QkvHeads& heads) {
  check_cut(heads, {static_cast<int64_t>(shards.size()), 0});
  std::set<std::string> names;
  for (const AttentionTensors& shard : shards) {
    for (const auto& [name, tensor] : shard) {
      if (!is_extra_state(name)) names.insert(name);
    }
  }
  AttentionTensors whole;
  for (const std::string& name : names) {
    std::vector<at::Tensor> parts;
    for (size_t rank = 0; rank < shards.size(); ++rank) {
      const auto found = shards[rank].find(name);
      if (found == shards[rank].end()) {
        throw CheckpointError(
            fmt::format("[megatron_shards] {} of rank {}: missing; another rank "
                        "has it",
                        name, rank));
      }
      parts.push_back(found->second);
    }
    whole[name] = whole_of(name, parts, heads);
  }
  return whole;
}

AttentionTensors to_checkpoint_keys(const AttentionTensors& shard, const QkvHeads& heads,
                                    const TensorRank& rank) {
  check_cut(heads, rank);
  if (!has_head_gate(heads)) return shard;
  const int64_t rows = grouped_rows(heads) / rank.size;
  const int64_t gates = gate_rows(heads) / rank.size;
  AttentionTensors file;
  for (const auto& [name, tensor] : shard) {
    if (!is_qkv(name)) {
      file[name] = tensor;
      continue;
    }
    check_rows(name, tensor, rows + gates);
    file[name + "._qkv"] = tensor.narrow(0, 0, rows).contiguous();
    file[name + "._gate"] = tensor.narrow(0, rows, gates).contiguous();
  }
  return file;
}

AttentionTensors from_checkpoint_keys(const AttentionTensors& file, const QkvHeads& heads,
                                      const TensorRank& rank) {
  check_cut(heads, rank);
  if (!has_head_gate(heads)) return file;
  const int64_t rows = grouped_rows(heads) / rank.size;
  const int64_t gates = gate_rows(heads) / rank.size;
  AttentionTensors shard;
  for (const auto& [name, tensor] : file) {
    const std::string whole = name.substr(0, name.rfind("._"));
    const bool part = name == whole + "._qkv" || name == whole + "._gate";
    if (!is_qkv(whole)) {
      shard[name] = tensor;
    } else if (part) {
      const auto qkv = file.find(whole + "._qkv"), gate = file.find(whole + "._gate");
      if (qkv == file.end() || gate == file.end() || file.contains(whole)) {
        throw CheckpointError("[megatron_shards] " + name + ": allowed " + whole + "._qkv and " +
                              whole + "._gate together, without " + whole);
      }
      check_rows(qkv->first, qkv->second, rows);
      check_rows(gate->first, gate->second, gates);
      shard[whole] = at::cat({qkv->second, gate->second}, 0);
    } else if (rank.size > 1) {
      throw CheckpointError(fmt::format(
          "[megatron_shards] {} of rank {} of {}: allowed {}._qkv and {}._gate; one tensor does "
          "not say where it was cut",
          name, rank.rank, rank.size, name, name));
    } else {
      check_rows(name, tensor, rows + gates);
      shard[name] = tensor;
    }
  }
  return shard;
}

}  // namespace headway::io
