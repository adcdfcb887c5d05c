// AdamW for a table of which a step reaches a few rows: averages, and masters of 16-bit tables, of
// the rows that gradients have reached so far.
// Not for: dense parameters (optimizer.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/config/run_config.h"

namespace headway::engine {

/// One update's numbers.
struct AdamStep {
  int64_t step = 0;  // counts from 1, of the whole run: corrects the averages' bias
  double lr = 0.0;
  double decay = 0.0;
  double divisor = 1.0;  // of gradients: clipping
};

/// Rows that a step does not reach keep weight and averages as they are ("lazy" Adam): a dense
/// AdamW would go on moving them by their old averages. Where every step reaches all rows the two
/// are the same bit for bit. Memory: rows reached × columns × (2 averages + master of a 16-bit
/// table) in fp32 (fp64), and 8 bytes for every row of the table. Source: PyTorch's SparseAdam.
/// Test: tests/unit/engine/sparse_rows_test.cpp
class SparseRows {
 public:
  /// `table` [V,C] is updated in place.
  explicit SparseRows(at::Tensor table);

  /// rows int64 [R], ascending, each once; gradients [R,C] in fp32 (fp64 for a fp64 table).
  void update(const at::Tensor& rows_R, const at::Tensor& gradients_RC,
              const config::OptimizerConfig& config, const AdamStep& step);

  /// Handles, not copies: rows.NAME, exp_avg.NAME, exp_avg_sq.NAME and, of a 16-bit table,
  /// master.NAME, one row for each row reached, in the order they were reached.
  void add_state(const std::string& name, std::map<std::string, at::Tensor>& state) const;
  /// Makes room for the state of `count` rows, to be written into the handles of add_state; then
  /// `adopt` takes it. Errors: CheckpointError for rows outside the table or named twice.
  void prepare(int64_t count);
  void adopt(const std::string& name);

  int64_t rows_reached() const { return count_; }
  int64_t bytes() const;

 private:
  bool is_narrow() const { return master_.defined(); }
  void reserve(int64_t count);
  /// Slots of the given rows, new ones for rows never reached.
  at::Tensor slots_of(const at::Tensor& rows_R);

  at::Tensor table_;
  std::vector<int64_t> slot_of_row_;  // -1 = never reached
  int64_t count_ = 0;                 // slots in use
  at::Tensor rows_;                   // int64 [capacity]
  at::Tensor exp_avg_;                // [capacity,C]
  at::Tensor exp_avg_sq_;
  at::Tensor master_;
};

}  // namespace headway::engine
