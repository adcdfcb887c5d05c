// Builds the TensorSpecs of one scope of a model: projections made of row segments, vectors,
// tables, norms. Not for: which tensors a layer has (tensor_inventory.cpp).
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::spec::internal {

inline InitRule normal(double std) { return {InitKind::kNormal, std}; }

/// Collects the tensors of one scope: module names get `module_prefix`, disk names `disk_prefix`.
class Collector {
 public:
  Collector(std::vector<TensorSpec>& out, std::string module_prefix, std::string disk_prefix,
            int64_t layer)
      : out_(out),
        module_(std::move(module_prefix)),
        disk_(std::move(disk_prefix)),
        layer_(layer) {}

  struct Rows {
    std::string segment;
    int64_t rows;
    std::string disk;  // without the `.weight` / `.bias` ending
    InitRule weight;
    bool bias;
    InitRule bias_init = {InitKind::kZeros};
  };

  /// A projection [Σ rows, columns] and its bias, which covers all segments when any has one.
  void projection(const std::string& name, int64_t columns, const std::vector<Rows>& parts,
                  ShardAxis shard) {
    TensorSpec weight = make(name + ".weight", shard);
    TensorSpec bias = make(name + ".bias", shard == ShardAxis::kRows ? shard : ShardAxis::kNone);
    int64_t weight_rows = 0;
    int64_t bias_rows = 0;
    for (const Rows& part : parts) {
      append(weight, weight_rows, part.segment, part.rows, part.disk + ".weight", part.weight,
             true);
      if (part.bias)
        append(bias, bias_rows, part.segment, part.rows, part.disk + ".bias", part.bias_init,
               false);
    }
    weight.shape = {weight_rows, columns};
    weight.projection = true;
    bias.shape = {bias_rows};
    out_.push_back(std::move(weight));
    if (bias_rows > 0) out_.push_back(std::move(bias));
  }

  /// A matrix that its module multiplies in its own way.
  void not_a_projection(const std::string& name) {
    for (size_t i = out_.size(); i-- > 0;) {
      if (out_[i].name != module_ + name) continue;
      out_[i].projection = false;
      return;
    }
  }

  /// The projections of all experts, one below the other: segments `e<number>.<segment>`, disk
  /// names with `{e}` for the number. `used` of them meet a token.
  void experts(const std::string& name, int64_t columns, const std::vector<Rows>& parts,
               int64_t count, int64_t used) {
    std::vector<Rows> rows;
    for (int64_t e = 0; e < count; ++e) {
      const std::string number = std::to_string(e);
      for (const Rows& part : parts) {
        rows.push_back(part);
        rows.back().segment = "e" + number + (part.segment.empty() ? "" : "." + part.segment);
        rows.back().disk.replace(part.disk.find("{e}"), 3, number);
      }
    }
    const size_t first = out_.size();
    projection(name, columns, rows, ShardAxis::kRows);
    for (size_t i = first; i < out_.size(); ++i) {
      out_[i].experts = count;
      out_[i].used_experts = used;
      out_[i].projection = false;
    }
  }

  /// A vector that stays in float32 and is not trained by gradients.
  void wide_vector(const std::string& name, int64_t size, const std::string& disk) {
    vector(name, size, disk, {InitKind::kZeros}, ShardAxis::kNone, /*trainable=*/false);
    out_.back().wide = true;
  }

  void vector(const std::string& name, int64_t size, const std::string& disk, InitRule init,
              ShardAxis shard = ShardAxis::kNone, bool trainable = true) {
    TensorSpec tensor = make(name, shard);
    int64_t rows = 0;
    append(tensor, rows, "weight", size, disk, init, false);
    tensor.shape = {size};
    tensor.trainable = trainable;
    out_.push_back(std::move(tensor));
  }

  /// Taps [Σ rows, 1, taps] of a depthwise convolution, uniform in ±taps^-½ as PyTorch draws them,
  /// and its bias.
  void convolution(const std::string& name, int64_t taps, bool bias,
                   const std::vector<std::pair<std::string, int64_t>>& parts) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(taps));
    const InitRule init{InitKind::kUniform, -bound, bound};
    TensorSpec weight = make(name + ".weight", ShardAxis::kRows);
    TensorSpec offset = make(name + ".bias", ShardAxis::kRows);
    int64_t rows = 0, offsets = 0;
    for (const auto& [segment, count] : parts) {
      const std::string disk = "linear_attn." + segment + "_conv1d";
      append(weight, rows, segment, count, disk + ".weight", init, true);
      append(offset, offsets, segment, count, disk + ".bias", init, false);
    }
    weight.shape = {rows, 1, taps};
    offset.shape = {offsets};
    out_.push_back(std::move(weight));
    if (bias) out_.push_back(std::move(offset));
  }

  void table(const std::string& name, int64_t rows, int64_t columns, const std::string& disk,
             double std, bool decay) {
    TensorSpec tensor = make(name, ShardAxis::kRows);
    int64_t held = 0;
    append(tensor, held, "weight", rows, disk, normal(std), decay);
    tensor.shape = {rows, columns};
    out_.push_back(std::move(tensor));
  }

  void norm(const std::optional<NormSpec>& spec, const std::string& name, int64_t size,
            const std::string& disk) {
    if (!spec) return;
    const bool centred = spec->weight == NormWeight::kZeroCentered;
    if (spec->weight != NormWeight::kNone) {
      vector(name + ".weight", size, disk + ".weight",
             {centred ? InitKind::kZeros : InitKind::kOnes});
    }
    if (spec->bias) vector(name + ".bias", size, disk + ".bias", {InitKind::kZeros});
  }

  /// Look-ups alone reach the tensor added last.
  void mark_row_sparse() { out_.back().row_sparse = true; }

 private:
  TensorSpec make(const std::string& name, ShardAxis shard) const {
    TensorSpec tensor;
    tensor.name = module_ + name;
    tensor.shard = shard;
    tensor.layer = layer_;
    return tensor;
  }

  void append(TensorSpec& tensor, int64_t& held, const std::string& segment, int64_t rows,
              const std::string& disk, InitRule init, bool decay) const {
    tensor.segments.push_back({segment, held, rows, disk_ + disk, init, decay});
    held = checked_add<ConfigError>(held, rows, tensor.name);
  }

  std::vector<TensorSpec>& out_;
  std::string module_;
  std::string disk_;
  int64_t layer_;
};

}  // namespace headway::spec::internal
