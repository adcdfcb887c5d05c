// Evaluation as tensors in files, under the names of the checkpoint's family.
// Not for: the forward and backward themselves (evaluator.h).
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "headway/engine/evaluator.h"
#include "headway/engine/loaded_model.h"

namespace headway::engine {

/// `input_ids` and, if there, `labels` and `mm_token_type_ids` of a safetensors file. Errors:
/// CheckpointError.
EvaluationRequest read_evaluation_request(const std::filesystem::path& path);

/// logits [B,S,V], loss [], grad.<name on disk>, hidden.<i> [B,S,D], mtp_logits.<k> [B,S,V] and
/// mtp_loss.<k> [] of depth k from 0, as far as they were computed.
std::map<std::string, at::Tensor> evaluation_tensors(const LoadedModel& loaded,
                                                     const Evaluation& evaluation);

}  // namespace headway::engine
