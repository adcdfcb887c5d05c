// Crafted files for tests of readers. Not for: well-formed checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/support/temp_folder.h"

namespace headway::testing_support {

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline std::string little_endian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

/// A safetensors file from its header text and `data_bytes` zero bytes of data.
inline std::string safetensors_bytes(std::string_view header, size_t data_bytes) {
  return little_endian(header.size()) + std::string(header) + std::string(data_bytes, '\0');
}

/// Names of the entries of a folder that are left by unfinished writes.
inline int count_temporary(const std::filesystem::path& folder) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    count += entry.path().filename().string().ends_with(".tmp") ? 1 : 0;
  }
  return count;
}

}  // namespace headway::test
