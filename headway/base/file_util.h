// Reading whole small files with a size limit.
// Not for: tensors or token data (memory-mapped elsewhere), nor for atomic checkpoint writes.
#pragma once

#include <cstdint>
#include <string>

namespace headway {

/// The bytes of the regular file `path`. Throws CheckpointError naming the path and the reason when
/// it is missing, a folder, unreadable, or larger than `max_bytes`.
std::string read_file(const std::string& path, int64_t max_bytes);

}  // namespace headway
