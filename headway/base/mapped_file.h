// Read-only memory map of a whole file.
// Not for: files that others may shorten while they are mapped (reading past the end would kill the
// process), nor for small files (file_util.h).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace headway {

/// The map lives as long as the object. Pages are read when touched.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws CheckpointError naming the path and the reason: missing, a folder, unreadable.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Whether the file is still as long as it was. Touching pages of one that shrank kills the
  /// process.
  bool has_same_size() const;

 private:
  std::span<const std::byte> bytes_;
  int descriptor_ = -1;
};

}  // namespace headway
