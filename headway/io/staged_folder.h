// A folder that appears under its name only when it is complete and on disk.
// Not for: changing a folder that exists.
#pragma once

#include <filesystem>

namespace headway::io {

/// Filled under `.NAME.tmp` beside its target, then renamed. The target must not exist, or be an
/// empty folder. Without commit() the temporary folder goes; one that a killed process left is
/// removed first. Every failure is a CheckpointError naming the target.
class StagedFolder {
 public:
  /// Makes missing parents. `.NAME.tmp` is locked: a second writer of the same target gets an
  /// error.
  explicit StagedFolder(const std::filesystem::path& target);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  /// Where to write: everything below it moves to the target at commit().
  const std::filesystem::path& path() const { return staging_; }
  /// Syncs the folders below, renames to the target and syncs the parent. The writer of a file
  /// syncs the file.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path staging_;
  int lock_ = -1;
  bool committed_ = false;
};

}  // namespace headway::io
