// AdamW over the parameters of a model, with decay by row segment, global-norm clipping and fp32
// masters. Not for: learning rates (schedule.h) or files (trainer_state.h writes state()).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/config/run_config.h"
#include "headway/engine/sparse_rows.h"
#include "headway/nn/parameters.h"

namespace headway::engine {

/// m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g²;  w <- w - lr (m̂ / (sqrt(v̂) + eps) + decay·w)
/// with bias-corrected m̂ and v̂. Moments in fp32 (fp64 for fp64). Parameters in 16 bits keep fp32
/// masters, and their gradients add up in fp32. Parameters that only look-ups reach are updated row
/// by row with config.sparse_rows (sparse_rows.h). Source: Loshchilov & Hutter 2019. Test:
/// tests/unit/engine/optimizer_test.cpp
class Optimizer {
 public:
  /// Looks after every parameter that requires a gradient; whether rows decay is the inventory's
  /// decision.
  Optimizer(const nn::Parameters& parameters, const config::OptimizerConfig& config);

  /// After each backward: moves 16-bit and row-sparse gradients into the fp32 sums. Does nothing
  /// for other parameters.
  void collect();

  /// Global norm of all gradients before clipping, fp64 over fixed blocks. A norm above config.clip
  /// makes the next step() scale the gradients to it. A parameter that the loss did not reach
  /// counts as zero. Errors: NonFiniteError naming the parameter nearest to the loss whose gradient
  /// is not finite.
  double clip();

  /// One update; `step` counts from 1. Changes nothing for parameters without a gradient.
  void step(int64_t step, double lr);

  /// Multiplies the rows of a parameter, and of its master where it has one, by `factors` [rows].
  /// The averages stay. Errors: InternalError (not looked after); ShapeError (other rows).
  void scale_rows(const std::string& parameter, const at::Tensor& factors);

  /// Forgets all gradients.
  void zero_grad();

  /// Handles, not copies: exp_avg.<parameter>, exp_avg_sq.<parameter>, and master.<parameter> where
  /// there is one. Of row-sparse parameters also rows.<parameter>, and all for these rows only.
  std::map<std::string, at::Tensor> state() const;

  /// Gives state() the sizes of a saved one: `rows` reached of each row-sparse parameter, by name.
  /// Errors: CheckpointError for more rows than a table has.
  void prepare_state(const std::map<std::string, int64_t>& rows);
  /// After state() was loaded: writes the masters' rounded values into the parameters.
  /// Errors: CheckpointError for rows that no table has.
  void adopt_state();

  /// Memory of averages and masters, and rows whose state is kept of row-sparse parameters (nothing
  /// without any).
  int64_t state_bytes() const;
  std::optional<int64_t> sparse_rows() const;

 private:
  struct Entry {
    std::string name;
    at::Tensor parameter;
    at::Tensor master;  // the parameter itself when it is wide
    at::Tensor exp_avg;
    at::Tensor exp_avg_sq;
    at::Tensor sum;                      // fp32 gradient sum of a 16-bit or row-sparse parameter
    std::shared_ptr<SparseRows> sparse;  // instead of master and averages
    struct Run {
      int64_t begin;
      int64_t rows;
      bool decay;
    };
    std::vector<Run> runs;  // consecutive segments of equal decay, merged
    bool is_narrow() const { return !sparse && !master.is_same(parameter); }
  };
  /// Of a row-sparse parameter the rows that tokens reached.
  at::Tensor gradient_of(const Entry& entry) const;
  void publish_masters();
  [[noreturn]] void throw_non_finite(const std::vector<at::Tensor>& gradients, double norm) const;
  void update(const std::vector<Entry*>& entries, bool decay, int64_t step, double lr) const;

  config::OptimizerConfig config_;
  std::vector<Entry> entries_;
  double gradient_divisor_ = 1.0;
};

}  // namespace headway::engine
