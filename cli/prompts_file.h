// The file of `headway generate --prompts`: a JSON object a line.
// Not for: running the prompts.
#pragma once

#include <string>
#include <vector>

#include "headway/engine/batch_generator.h"
#include "headway/engine/loaded_model.h"

namespace headway::cli {

/// One request a line: {"prompt": TEXT} or {"token_ids": [ID, …]}, and for this line alone any of
/// max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, stop, seed, request; what
/// is absent is as in `defaults`, `request` is the line's number among the prompts, from 0. Empty
/// lines are skipped. Errors: ConfigError naming file and line; CheckpointError if the file cannot
/// be read.
std::vector<engine::BatchRequest> read_prompts(const std::string& path,
                                               const engine::LoadedModel& loaded,
                                               const engine::GenerateOptions& defaults);

}  // namespace headway::cli
