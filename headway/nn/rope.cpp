// Rotary tables: computed once, shared or owned by a layer. Not for: the rotation itself (ops).
#include "headway/nn/rope.h"

#include <algorithm>
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/rope.h"

namespace headway::nn {
namespace {

constexpr int64_t kSmallestTable = 256;
constexpr int64_t kMostPositions = int64_t{1} << 24;  // of tokens whose positions are given

/// Fills rows [0, rows) of cos and sin; `Real` is the type angles are rounded to.
template <class Real>
void fill_table(const spec::RopeFrequencies& frequencies, int64_t rows, at::Tensor& cos,
                at::Tensor& sin) {
  const auto pairs = static_cast<int64_t>(frequencies.inverse.size());
  Real* cos_out = cos.data_ptr<Real>();
  Real* sin_out = sin.data_ptr<Real>();
  const Real factor = static_cast<Real>(frequencies.attention_factor);
  for (int64_t position = 0; position < rows; ++position) {
    for (int64_t j = 0; j < pairs; ++j) {
      const Real angle = static_cast<Real>(position) * static_cast<Real>(frequencies.inverse[j]);
      cos_out[position * pairs + j] = std::cos(angle) * factor;
      sin_out[position * pairs + j] = std::sin(angle) * factor;
    }
  }
}

}  // namespace

RotaryTable::RotaryTable(const spec::RopeSpec& rope, int64_t head_dim,
                         spec::RopePrecision precision, at::ScalarType model_dtype,
                         at::Device device)
    : rope_(rope),
      head_dim_(head_dim),
      frequencies_(spec::rope_frequencies(
          rope, head_dim, model_dtype == at::kDouble ? precision : spec::RopePrecision::kFloat32)),
      table_dtype_(model_dtype == at::kDouble ? at::kDouble : at::kFloat),
      device_(device) {}

RotaryTable RotaryTable::from_angles(const at::Tensor& angles_MP, double attention_factor,
                                     spec::RopeLayout layout) {
  const at::ScalarType dtype = angles_MP.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  RotaryTable table(dtype, angles_MP.device());
  table.rope_.layout = layout;
  table.given_ = true;
  table.frequencies_.attention_factor = attention_factor;
  const at::Tensor angles = angles_MP.to(dtype);
  table.cos_ = (at::cos(angles) * attention_factor).contiguous();
  table.sin_ = (at::sin(angles) * attention_factor).contiguous();
  return table;
}

void RotaryTable::grow(int64_t rows) {
  const int64_t held = cos_.defined() ? cos_.size(0) : 0;
  if (held >= rows) return;
  if (given_) {
    throw ShapeError("[nn::RotaryTable] positions up to " + std::to_string(rows - 1) +
                     ", allowed below the rows of the given angles (= " + std::to_string(held) +
                     ")");
  }
  const int64_t size = std::max({rows, 2 * held, kSmallestTable});
  at::NoGradGuard no_grad;
  at::Tensor cos =
      at::empty({size, static_cast<int64_t>(frequencies_.inverse.size())}, table_dtype_);
  at::Tensor sin = at::empty_like(cos);
  if (table_dtype_ == at::kDouble) {
    fill_table<double>(frequencies_, size, cos, sin);
  } else {
    fill_table<float>(frequencies_, size, cos, sin);
  }
  cos_ = cos.to(device_);
  sin_ = sin.to(device_);
}

RotaryTable::Rows RotaryTable::rows_of(const ops::Sequences& sequences,
                                       const at::Tensor& positions_3T) {
  if (by_token_) {
    grow(sequences.num_tokens());
    return {cos_, sin_, at::arange(sequences.num_tokens(), at::kLong)};
  }
  if (given_) {
    grow(sequences.position_limit);
    return {cos_, sin_, sequences.positions};
  }
  if (positions_3T.defined()) return rows_by_axis(positions_3T, sequences.num_tokens());
  grow(sequences.position_limit);
  return {cos_, sin_, sequences.positions};
}

RotaryTable::Rows RotaryTable::rows_by_axis(const at::Tensor& positions_3T, int64_t tokens) {
  const bool fits = positions_3T.dim() == 2 && positions_3T.size(0) == 3 &&
                    positions_3T.size(1) == tokens && positions_3T.scalar_type() == at::kLong;
  if (!fits || !rope_.sections) {
    throw ShapeError("[nn::RotaryTable] positions_3T: allowed int64 [3, " + std::to_string(tokens) +
                     "] with rope.sections" + (rope_.sections ? "" : " (= none)"));
  }
  const at::Tensor positions = positions_3T.cpu();
  const int64_t low = tokens == 0 ? 0 : positions.min().item<int64_t>();
  const int64_t high = tokens == 0 ? 0 : positions.max().item<int64_t>();
  if (low < 0 || high >= kMostPositions) {
    throw ShapeError("[nn::RotaryTable] positions_3T from " + std::to_string(low) + " to " +
                     std::to_string(high) + ", allowed 0 to " + std::to_string(kMostPositions - 1));
  }
  grow(high + 1);
  const at::Tensor axes = at::tensor(spec::section_axes(rope_, cos_.size(1)), at::kLong);
  const at::Tensor rows = positions.index_select(0, axes).t().contiguous().to(cos_.device());
  return {at::gather(cos_, 0, rows), at::gather(sin_, 0, rows), at::arange(tokens, at::kLong)};
}

at::Tensor RotaryTable::rotate(const at::Tensor& x_THK, const Rows& rows) const {
  return ops::rope(x_THK, rows.cos_MP, rows.sin_MP, rows.positions_T,
                   rope_.layout == spec::RopeLayout::kInterleaved);
}

std::shared_ptr<RotaryTable> SharedRotary::table(const spec::RopeSpec& rope, int64_t head_dim) {
  for (const auto& table : tables_) {
    if (table->spec() == rope && table->head_dim() == head_dim) return table;
  }
  tables_.push_back(std::make_shared<RotaryTable>(rope, head_dim, precision_, dtype_, device_));
  return tables_.back();
}

}  // namespace headway::nn
