// Runs one module on the tensors of a probe file, with gradients, for comparison with another
// framework number by number.
// Not for: models on disk (evaluator.h) or speed.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "headway/base/json.h"

namespace headway::engine {

struct ProbeRequest {
  std::string module;  // one of probe_modules()
  /// Inputs by name, parameters as `param.<Megatron name>`; recorded results are not looked at.
  std::map<std::string, at::Tensor> tensors;
  /// config, mask, rope, layer_number, gpt_model_arguments, prefill, max_sequence_length; other
  /// keys are not looked at.
  std::map<std::string, std::string> metadata;
  std::optional<Json> config;           // replaces the metadata's config
  std::optional<at::ScalarType> dtype;  // of inputs, arithmetic and outputs; none = the inputs'
};

/// The modules of this build: "self_attention | cross_attention | …".
std::string probe_modules();

/// Results by name: out, bias, grad_in, grad.<Megatron name>, aux.*, in Megatron's order of axes
/// and rows; out_incremental, key_cache and value_cache with `prefill`; clipped.* and eta of
/// qk_clip. Gradients are those of sum(out·cotangent), if the file has a cotangent; a parameter
/// that gets none has no entry. A given rotary_pos_emb wins over `rope`; a window replaces the
/// mask. Errors: ConfigError, ShapeError; CheckpointError for missing or surplus tensors;
/// UnsupportedError for modules, masks and features that are not in this build.
/// Source: Megatron-Core modules; goldens of tests/golden/megatron.
/// Test: tests/golden/megatron/probe_test.cpp
std::map<std::string, at::Tensor> probe(const ProbeRequest& request);

}  // namespace headway::engine
