// Writes safetensors files: same tensors, same bytes, whatever the time, path or process.
// Not for: choosing names or splitting into shards (shards.h).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/io/safetensors_header.h"

namespace headway::io {

/// Gives one tensor when its turn comes, so that only one is in memory.
using TensorProvider = std::function<at::Tensor(const TensorInfo&)>;

/// Writes under a temporary name, then renames: the target is the old file or the whole new one.
/// Order in the file: element size descending, then name. Metadata: {"format": "pt"} and `extra`.
/// Tensors may be on any device and need not be contiguous; shape and dtype must be as announced.
/// Throws CheckpointError (disk, permissions), InternalError (a tensor is not as announced).
void write_safetensors(const std::filesystem::path& path, std::vector<TensorInfo> table,
                       const TensorProvider& provider,
                       const std::map<std::string, std::string>& extra = {});

/// All tensors of a map.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& extra = {});

/// Name, type and shape of a tensor in memory.
TensorInfo info_of(const std::string& name, const at::Tensor& tensor);

}  // namespace headway::io
