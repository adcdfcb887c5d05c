// Attention logits of a model in training: observed during a step, reported, and clipped after the
// optimizer's update (QK-Clip).
// Not for: the arithmetic of clipping (nn/qk_clip.h).
#pragma once

#include <optional>

#include "headway/config/run_config.h"
#include "headway/engine/optimizer.h"
#include "headway/nn/qk_clip.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// Does nothing, at no cost, unless train.qk_clip or train.log_max_attention_logit is set. Layers
/// without softmax attention are passed over. Only what lies between begin() and end() counts, so
/// evaluations change nothing.
/// Source: Megatron-Core clip_qk; spec/attention.md §3.8, §6.4.
/// Test: tests/unit/engine/logit_watch_test.cpp
class LogitWatch {
 public:
  /// Warns once, through the log, when layers normalise queries and keys: clipping their weights
  /// then lowers no logit.
  LogitWatch(const config::TrainConfig& train, const nn::Transformer& model);

  bool is_on() const { return on_; }
  /// Forgets what was seen and observes every forward from here on.
  void begin(const nn::Transformer& model) const;
  void end(const nn::Transformer& model) const;

  /// Largest logit of all heads and layers since begin(), at least 0; nothing while off.
  /// Errors: NonFiniteError naming the layer.
  std::optional<double> max_logit(const nn::Transformer& model) const;

  /// With qk_clip: shrinks weights, biases and masters of heads above the threshold. Forgets what
  /// was seen.
  void clip(const nn::Transformer& model, Optimizer& optimizer) const;

 private:
  bool on_;
  std::optional<nn::QkClip> clip_;
};

}  // namespace headway::engine
