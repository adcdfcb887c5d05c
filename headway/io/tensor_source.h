// The tensors of a checkpoint folder by name, from one file or from shards with an index; some of
// them made from others when they are asked for (quantised weights, merged adapters).
// Not for: what the names mean (rules.h, hf/).
#pragma once

#include <filesystem>
#include <functional>
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

  /// A copy.
  at::Tensor load(const std::string& name) const;
  /// Read only: may alias the mapped file, or what was made for an earlier call.
  at::Tensor view(const std::string& name) const;

  using Reader = std::function<at::Tensor()>;
  /// Reads `name` as it is now, also after it was derived anew.
  Reader reader(const std::string& name) const;
  /// From now on `info.name` is of that type and shape and comes from `read`, in place of what had
  /// the name; `inputs` are what it is made of and no longer listed.
  void derive(const TensorInfo& info, const std::vector<std::string>& inputs, Reader read);

  /// Harmless oddities: tensors outside the index, a wrong total_size.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  /// What was made last: experts are read one by one from tensors that are made as a whole.
  class Kept;

  void add_single(const std::filesystem::path& path);
  void add_index(const std::filesystem::path& folder, const std::filesystem::path& path);
  const SafetensorsFile& file_of(const std::string& name) const;

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, const SafetensorsFile*> file_by_name_;
  std::map<std::string, Reader> derived_;
  std::shared_ptr<Kept> kept_;
  std::vector<std::string> warnings_;
};

}  // namespace headway::io
