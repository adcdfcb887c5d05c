// Writing a file so that its name never stands for half of it.
// Not for: appending to logs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace headway {

/// A file under a temporary name (`.NAME.tmp` in the same folder) that gets its own name on commit,
/// after it was synced. Without commit, or after an error, the temporary file is removed; one that
/// a killed process left is overwritten. The name is locked: a second writer gets an error. Every
/// error is a CheckpointError naming the path and the reason (a full disk included).
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text);
  /// Overwrites bytes that were appended before.
  void overwrite(std::int64_t offset, std::span<const std::byte> bytes);
  /// Bytes appended so far.
  std::int64_t size() const { return size_; }
  /// Syncs, renames over whatever has the name, syncs the folder. At most once.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;
  void write_at(std::int64_t offset, std::span<const std::byte> bytes);

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

/// AtomicFile with one append.
void write_file_atomically(const std::string& path, std::string_view text);

/// Makes the entries of `folder` (created, renamed, removed files) durable.
void sync_folder(const std::string& folder);

}  // namespace headway
