// Multi-token prediction: the layers behind the stack that predict tokens further ahead.
// Not for: their losses over a batch (mtp_loss.h) or drafts (engine/drafter.h).
// Legend: T tokens, D hidden, V vocabulary.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/block.h"
#include "headway/nn/linear.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// What a depth reads: depth k (from 0) the embedding of the ids k + 1 places ahead.
struct MtpInput {
  const at::Tensor& embedding_TD;
  const at::Tensor& hidden_TD;  // of the depth before, or of the stack: its MtpOutput::hidden_TD
  const ops::Sequences& sequences;
  LayerState* state = nullptr;
  const ForwardContext* context = nullptr;
};

struct MtpOutput {
  at::Tensor normed_TD;  // for the head
  at::Tensor hidden_TD;  // for the next depth
};

class Mtp {
 public:
  using RotaryOf = std::function<std::shared_ptr<RotaryTable>(const spec::LayerSpec&)>;

  /// Takes the parameters below mtp.layers. of `root`; the spec has multi-token prediction.
  Mtp(const spec::ModelSpec& spec, const ParameterScope& root, const RotaryOf& rotary);

  /// h = layer(proj [norm(embedding) ; norm(hidden)]), for the formula see spec::MtpSpec. Depths
  /// count from 0; those behind the spec's begin again with the first set of weights.
  MtpOutput forward(int64_t depth, const MtpInput& input) const;

  /// Head of a depth [V,D]; undefined where the model's serves.
  const at::Tensor& head(int64_t depth) const { return weights(depth).head; }
  /// The layer of a depth, and what it keeps while generating.
  const spec::LayerSpec& layer(int64_t depth) const;

  const spec::MtpSpec& spec() const { return spec_; }
  /// One for each set of weights.
  const std::vector<Block>& blocks() const { return blocks_; }
  std::vector<Block>& blocks() { return blocks_; }

 private:
  struct Weights {
    std::optional<Norm> embedding_norm;
    std::optional<Norm> hidden_norm;
    Linear proj;
    std::optional<Norm> final_norm;
    at::Tensor head;
  };
  size_t set_of(int64_t depth) const { return static_cast<size_t>(depth) % weights_.size(); }
  const Weights& weights(int64_t depth) const { return weights_[set_of(depth)]; }

  spec::MtpSpec spec_;
  int64_t first_block_;
  std::vector<Weights> weights_;
  std::vector<Block> blocks_;
};

}  // namespace headway::nn
