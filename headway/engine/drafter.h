// Guesses of the next tokens by multi-token prediction, while generating one sequence.
// Not for: verifying them (speculation.h) or losses over whole sequences (nn/mtp_loss.h).
// Legend: T tokens, D hidden, V vocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/layer_state.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// Depth k (from 0) at row t reads token t + k + 1 and predicts token t + k + 2, as in training. So
/// of the rows that the stack has read, the last k rest on guesses at depth k: they are computed
/// for the next guess and then forgotten, the others are kept. Depths behind the model's begin
/// again with its first weights. Test: tests/unit/engine/speculation_test.cpp
class Drafter {
 public:
  /// Guesses up to `depths` tokens; the model outlives the object. Errors: UnsupportedError for
  /// layers whose state cannot forget rows.
  Drafter(const nn::Transformer& model, int64_t depths);

  /// The stack has read further tokens: ForwardOptions::mtp_hidden of them [T,D].
  void extend(const at::Tensor& hidden_TD);

  /// Chooses a token from logits [V] that follow `tokens`.
  using Pick =
      std::function<int64_t(const at::Tensor& logits_V, const std::vector<int64_t>& tokens)>;

  /// Guesses of the `count` tokens behind `tokens`: those the stack has read and one more.
  /// Errors: InternalError for other tokens or more than `depths`.
  std::vector<int64_t> draft(const std::vector<int64_t>& tokens, int64_t count, const Pick& pick);

  int64_t bytes() const;

 private:
  struct Depth {
    nn::LayerState state;
    int64_t kept = 0;      // rows that the state has read and keeps
    at::Tensor hidden_TD;  // input of the rows behind them that will not change
  };
  static void append(at::Tensor& rows_TD, const at::Tensor& more_TD);
  at::Tensor run(int64_t depth, const std::vector<int64_t>& tokens, at::Tensor& unsure_TD);

  const nn::Transformer* model_;
  int64_t read_ = 0;  // tokens the stack has read
  std::vector<Depth> depths_;
};

}  // namespace headway::engine
