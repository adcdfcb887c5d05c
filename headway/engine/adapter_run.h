// An adapter in training: set up before the first step, kept in checkpoints as PEFT has it.
// Not for: files (io/adapter.h) or arithmetic (ops/low_rank_linear.h).
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "headway/config/run_config.h"
#include "headway/io/adapter_targets.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

struct AdapterRun {
  io::AdapterTargets targets;
  std::filesystem::path base;  // the frozen model, as an absolute path
};

/// What model.adapter means for a checkpoint. Errors: ConfigError (targets, a checkpoint that is
/// itself an adapter).
AdapterRun resolve_adapter(const config::AdapterConfig& config, const io::Checkpoint& checkpoint);

/// Draws the pairs, or reads them from config.from, and sets magnitudes; the weights are loaded.
void start_adapter(const AdapterRun& run, const config::AdapterConfig& config, uint64_t seed,
                   nn::Transformer& model);

/// Fills `folder` with the adapter, and with what of the base's files says how to talk to it.
void save_adapter(const AdapterRun& run, const nn::Transformer& model,
                  const std::filesystem::path& folder);

/// Puts the pairs of a saved folder back.
void restore_adapter(const AdapterRun& run, nn::Transformer& model,
                     const std::filesystem::path& folder);

}  // namespace headway::engine
