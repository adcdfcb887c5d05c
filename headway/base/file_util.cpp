// Reading a whole file, up to a limit.
// Not for: mapped or atomic files, which have their own units.
#include "headway/base/file_util.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway {

std::string read_file(const std::string& path, int64_t max_bytes) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw CheckpointError(fmt::format("[{}] file = missing, allowed an existing file", path));
  }
  if (std::filesystem::is_directory(status)) {
    throw CheckpointError(fmt::format("[{}] file = a folder, allowed a regular file", path));
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    throw CheckpointError(fmt::format("[{}] file = unreadable ({}), allowed a readable file", path,
                                      std::strerror(errno)));
  }
  // Read up to one byte past the limit: the size of a pipe or device is not known beforehand.
  std::string text;
  constexpr int64_t kChunk = 1 << 16;
  while (stream && static_cast<int64_t>(text.size()) <= max_bytes) {
    const size_t old_size = text.size();
    text.resize(old_size + kChunk);
    stream.read(text.data() + old_size, kChunk);
    text.resize(old_size + static_cast<size_t>(stream.gcount()));
  }
  if (stream.bad()) {
    throw CheckpointError(fmt::format("[{}] file = read error, allowed a readable file", path));
  }
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    throw CheckpointError(fmt::format("[{}] file size = more than {}, allowed at most {}", path,
                                      format_bytes(max_bytes), format_bytes(max_bytes)));
  }
  return text;
}

}  // namespace headway
