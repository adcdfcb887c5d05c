// Rotary tables of a layer or a model, grown on demand.
// Not for: frequencies (spec/rope_frequencies.h) or the rotation (ops/rope.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"
#include "headway/spec/model_spec.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::nn {

/// cos and sin [M, pairs] of one rotary spec. Angles are position·frequency in float32 for models
/// up to float32 (what Hugging Face computes), in double for float64 models.
class RotaryTable {
 public:
  RotaryTable(const spec::RopeSpec& rope, int64_t head_dim, spec::RopePrecision precision,
              at::ScalarType model_dtype, at::Device device);

  /// The table of given angles [M, pairs] (radians, without the factor) instead of a rotary spec's.
  static RotaryTable from_angles(const at::Tensor& angles_MP, double attention_factor,
                                 spec::RopeLayout layout);

  /// Of given angles: row t turns token t of the batch, whatever its position.
  void count_by_token() { by_token_ = true; }

  /// Rows of a table, and which of them turns each token.
  struct Rows {
    at::Tensor cos_MP;
    at::Tensor sin_MP;
    at::Tensor positions_T;  // int64 on the CPU
  };
  /// Rows for the tokens of `sequences`, growing the table to its position_limit first. With
  /// `positions_3T` (int64, time, height, width of every token; undefined = all of them the token's
  /// position) every pair turns by the position of its axis.
  /// Errors: ShapeError for positions_3T of another shape, negative, or without rope.sections.
  Rows rows_of(const ops::Sequences& sequences, const at::Tensor& positions_3T = {});
  /// Rotates x [T,H,K].
  at::Tensor rotate(const at::Tensor& x_THK, const Rows& rows) const;

  const spec::RopeSpec& spec() const { return rope_; }
  int64_t head_dim() const { return head_dim_; }
  const std::vector<double>& inverse_frequencies() const { return frequencies_.inverse; }
  double attention_factor() const { return frequencies_.attention_factor; }

 private:
  RotaryTable(at::ScalarType table_dtype, at::Device device)
      : table_dtype_(table_dtype), device_(device) {}
  void grow(int64_t rows);
  Rows rows_by_axis(const at::Tensor& positions_3T, int64_t tokens);

  spec::RopeSpec rope_;
  int64_t head_dim_ = 0;
  bool given_ = false;  // the angles were handed in: no further rows can be computed
  bool by_token_ = false;
  spec::RopeFrequencies frequencies_;
  at::ScalarType table_dtype_;
  at::Device device_;
  at::Tensor cos_;
  at::Tensor sin_;
};

/// The model-level tables: layers with equal rotary specs and head dims share one.
class SharedRotary {
 public:
  SharedRotary(spec::RopePrecision precision, at::ScalarType model_dtype, at::Device device)
      : precision_(precision), dtype_(model_dtype), device_(device) {}
  std::shared_ptr<RotaryTable> table(const spec::RopeSpec& rope, int64_t head_dim);
  const std::vector<std::shared_ptr<RotaryTable>>& tables() const { return tables_; }

 private:
  spec::RopePrecision precision_;
  at::ScalarType dtype_;
  at::Device device_;
  std::vector<std::shared_ptr<RotaryTable>> tables_;
};

}  // namespace headway::nn
