// The output folder of a training run: when it may be used, and by whom.
// Not for: its checkpoints (checkpoint_store.h).
#pragma once

#include <filesystem>
#include <string>

namespace headway::engine {

/// Nothing is written before open(), so that a run which fails its checks leaves no trace.
class RunFolder {
 public:
  /// Errors: ConfigError if `path` is a file, or holds anything while `resume` is false; hidden
  /// names that a killed run left count as well.
  RunFolder(std::filesystem::path path, bool resume);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Makes the folder if it is not there and locks it until destruction (a killed process lets go).
  /// Errors: CheckpointError (cannot be made; another process trains there).
  void open();
  /// Writes config.yaml.
  void write_config(const std::string& yaml) const;

  const std::filesystem::path& path() const { return path_; }
  bool exists() const;

 private:
  std::filesystem::path path_;
  int lock_ = -1;
};

}  // namespace headway::engine
