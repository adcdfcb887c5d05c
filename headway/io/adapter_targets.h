// Which rows of a model an adapter of a run file stands beside, by the names its family publishes.
// Not for: files (adapter.h).
#pragma once

#include "headway/config/adapter_config.h"
#include "headway/io/adapter.h"
#include "headway/io/checkpoint.h"

namespace headway::io {

struct AdapterTargets {
  spec::AdapterSpec adapter;
  AdapterModules modules;            // of the adapter's segments
  std::vector<std::string> targets;  // target_modules: ends of names where these say it all
};

/// Projections that can be adapted are those that the family stores as one matrix each: neither
/// experts nor fused tensors, embeddings, heads. A target is the whole published name, its last
/// parts (`q_proj`, `self_attn.q_proj`), or a glob over whole names.
/// Errors: ConfigError for a target that names none, with what there is.
/// Test: tests/unit/io/adapter_test.cpp
AdapterTargets find_targets(const config::AdapterConfig& config, const Checkpoint& checkpoint);

}  // namespace headway::io
