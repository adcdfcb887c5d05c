// Rewrites a checkpoint as another family, tensor by tensor, and proves on request that it did.
// Not for: changing values or element types.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "headway/io/checkpoint.h"

namespace headway::io {

struct ConvertOptions {
  /// Target family; empty: `headway` for others' checkpoints, the family it came from for ours, and
  /// the model's own where an adapter is merged.
  std::string to;
  bool verify = false;  // read back what was written and compare every byte
  bool untie = false;   // a tied model whose file has another head becomes an untied one
  std::optional<std::filesystem::path> adapter;  // folder of one to merge
  AccountOptions account;
  int64_t max_shard_bytes = kDefaultMaxShardBytes;
};

struct ConvertReport {
  std::string from;
  std::string to;
  size_t tensors = 0;
  int64_t bytes = 0;
  bool verified = false;
  std::vector<std::string> notes;
};

/// Writes DST as a whole or not at all; it must not exist or be an empty folder. Memory: the
/// largest tensor written and one source tensor.
/// Errors: CheckpointError (files, accounting, verification), ConfigError, UnsupportedError (the
/// target family cannot hold the model: lists layers and features).
ConvertReport convert(const std::filesystem::path& source, const std::filesystem::path& target,
                      const ConvertOptions& options = {});

/// Why the model of a checkpoint cannot be written as `family`; empty when it can.
std::vector<std::string> why_not(const Checkpoint& checkpoint, const Family& family);

}  // namespace headway::io
