// The tensors of a checkpoint folder by name, from one file or from shards with an index.
// Not for: what the names mean (rules.h, hf/).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/io/safetensors_file.h"

namespace headway::io {

/// Opens headers only; tensor bytes are read when asked for. Safe to read from several threads.
class TensorSource {
 public:
  /// `model.safetensors.index.json`, else `model.safetensors`, else an error: several files without
  /// an index are not guessed at. With an index every mapped tensor must be in its shard and in no
  /// other. CheckpointError or SafetensorsError.
  static TensorSource open(const std::filesystem::path& folder);

  /// Name, type and shape of every tensor, in name order.
  const std::map<std::string, TensorInfo>& tensors() const { return infos_; }
  bool contains(const std::string& name) const { return infos_.contains(name); }
  /// CheckpointError when there is no such tensor.
  const TensorInfo& info(const std::string& name) const;

  at::Tensor load(const std::string& name) const { return file_of(name).load(name); }
  at::Tensor view(const std::string& name) const { return file_of(name).view(name); }

  /// Harmless oddities: tensors outside the index, a wrong total_size.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void add_single(const std::filesystem::path& path);
  void add_index(const std::filesystem::path& folder, const std::filesystem::path& path);
  const SafetensorsFile& file_of(const std::string& name) const;

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, const SafetensorsFile*> file_by_name_;
  std::vector<std::string> warnings_;
};

}  // namespace headway::io
