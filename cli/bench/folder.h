// Rounds of work on the model of a folder: one training step, or one greedy continuation. They are
// what tools/compare_hf.py runs in turn with transformers.
// Not for: built-in shapes (model.cpp) or real training (headway train).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "headway/base/json.h"

#include "cli/model_options.h"

namespace headway::cli::bench {

struct FolderWork {
  ModelOptions model;
  std::string tokens;       // safetensors file with input_ids [B,S]; empty: drawn with seed 1
  int64_t batch = 1;        // of drawn ids
  int64_t length = 512;     // of drawn ids
  int64_t new_tokens = 64;  // decode
  double lr = 1e-4;         // step
};

/// One round, with what it took: "seconds" and what it computed.
using Round = std::function<Json()>;

/// Loads the model. A round is a forward and backward over all ids, each row a sequence whose
/// labels are its next tokens, then one AdamW update without decay and clipping.
/// -> {"seconds", "loss", "tokens"}
Round make_step_round(const FolderWork& work);

/// Loads the model. A round continues the first row greedily; "seconds" count from the first new
/// token to the last. -> {"seconds", "prefill_seconds", "tokens", "token_ids"}
Round make_decode_round(const FolderWork& work);

}  // namespace headway::cli::bench
