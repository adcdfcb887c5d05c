// Scores token batches: logits, loss, gradients and hidden states of one forward and backward.
// Not for: training (trainer.h) or choosing tokens (generator.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/transformer.h"

namespace headway::engine {

struct EvaluationRequest {
  at::Tensor input_ids_BS;  // int64
  at::Tensor labels_BS;     // int64 or undefined; -100 ignored; position t predicts labels[:, t+1]
  at::Tensor token_types_BS;  // int64 or undefined: 0 text, 1 image, 2 video, 3 audio
  bool logits = true;
  bool gradients = false;  // needs labels
  bool hidden = false;
  bool mtp = false;  // logits of every depth of multi-token prediction; with labels also its loss
};

struct Evaluation {
  at::Tensor logits_BSV;
  at::Tensor loss;  // [] mean over counted labels; undefined without labels
  std::map<std::string, at::Tensor> gradients;  // by parameter name of the inventory
  std::vector<at::Tensor> hidden_BSD;           // residual stream after every layer
  std::vector<at::Tensor> mtp_logits_BSV;       // by depth; position t predicts token t + 2 + k
  std::vector<double> mtp_loss;                 // mean over counted labels, without its weight
};

/// Every row of the batch is one sequence from position 0. Loss and gradients are those of the next
/// token alone.
/// Errors: ShapeError (dtype, shape, ids outside the vocabulary); ConfigError for what the request
/// or the model lacks.
Evaluation evaluate(nn::Transformer& model, const EvaluationRequest& request);

/// Labels of packed tokens from labels aligned with the inputs: out[b,t] = labels[b,t+1], the last
/// -100.
at::Tensor shift_labels(const at::Tensor& labels_BS);

}  // namespace headway::engine
