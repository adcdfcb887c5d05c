// Checkpoints of several safetensors files: which tensor goes where, and the index that says so.
// Not for: tensor bytes.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "headway/base/json.h"
#include "headway/io/safetensors_writer.h"

namespace headway::io {

inline constexpr int64_t kDefaultMaxShardBytes = 5'000'000'000;
inline constexpr const char* kSingleFileName = "model.safetensors";
inline constexpr const char* kIndexName = "model.safetensors.index.json";

struct ShardIndex {
  std::map<std::string, std::string> weight_map;  // tensor name -> file name
  Json metadata = Json::object();                 // total_size and whatever else was there
};

/// Reads and checks `model.safetensors.index.json`. Every file value must be the plain name of a
/// file in the same folder. CheckpointError naming the file, the tensor and the value.
ShardIndex read_index(const std::filesystem::path& path);

/// Fills shards in table order until the next tensor would exceed `max_bytes`; a tensor larger than
/// that has a shard of its own.
std::vector<std::vector<TensorInfo>> plan_shards(const std::vector<TensorInfo>& table,
                                                 int64_t max_bytes);

/// "model-00001-of-00003.safetensors"
std::string shard_name(size_t index, size_t count);

/// model.safetensors, or shards and then, last, the index: without it a reader refuses the folder.
void write_shards(const std::filesystem::path& folder, const std::vector<TensorInfo>& table,
                  const TensorProvider& provider, int64_t max_bytes = kDefaultMaxShardBytes);

}  // namespace headway::io
