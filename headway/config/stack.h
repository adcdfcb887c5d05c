// The few values of a block that depend on something outside it, derived in one place.
// Not for: checking (load.h) or the resolved stack itself (spec/from_config.h).
#pragma once

#include <string>
#include <vector>

#include "headway/config/model_config.h"

namespace headway::config {

/// Block name of every layer: `layers`, or `pattern` repeated to `num_layers`, or the only block.
/// Empty when the config does not say.
std::vector<std::string> layer_blocks(const ModelConfig& model);

/// Block name of every depth of multi-token prediction; empty without it.
std::vector<std::string> mtp_blocks(const ModelConfig& model);

/// gate_bias if given; else the gate shares qkv_bias, and a constant gate always has one.
bool gate_bias_of(const AttentionConfig& attention);

/// Norm of the query or key heads: its own field, or what qk_norm says of both.
HeadNorm q_norm_of(const AttentionConfig& attention);
HeadNorm k_norm_of(const AttentionConfig& attention);

/// Norm of a block: its own settings over those of the model.
NormConfig norm_of(const NormsConfig& model, const NormsOverride& block);

}  // namespace headway::config
