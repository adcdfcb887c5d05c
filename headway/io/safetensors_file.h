// One safetensors file: names, shapes and types from its header, tensors on demand.
// Not for: writing, or checkpoints of several files (tensor_source.h).
#pragma once

#include <filesystem>
#include <memory>
#include <unordered_map>

#include <ATen/core/Tensor.h>

#include "headway/base/mapped_file.h"
#include "headway/io/safetensors_header.h"

namespace headway::io {

/// Opened once, immutable, safe to read from several threads. The header is checked on open.
class SafetensorsFile {
 public:
  /// Throws SafetensorsError (rule, tensor) or CheckpointError (missing, not a regular file, the
  /// temporary name of an unfinished write).
  explicit SafetensorsFile(const std::filesystem::path& path);

  const SafetensorsHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return path_; }
  /// Null when the file has no such tensor.
  const TensorEntry* find(const std::string& name) const;

  /// The bytes of a tensor in the map. CheckpointError when the file has changed its size since.
  std::span<const std::byte> bytes(const std::string& name) const;

  /// A copy in allocator storage. UnsupportedError for element types libtorch lacks.
  at::Tensor load(const std::string& name) const;

  /// Read-only alias of the map, which it keeps open; a copy where the data is misaligned.
  /// Writing to it kills the process.
  at::Tensor view(const std::string& name) const;

 private:
  const TensorEntry& entry(const std::string& name) const;
  void check_size() const;
  void check_bool(const TensorEntry& entry, std::span<const std::byte> bytes) const;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, size_t> index_;
};

/// All tensors of a small file by name, copied: probe files, goldens, optimizer state.
std::map<std::string, at::Tensor> load_safetensors(const std::filesystem::path& path);

}  // namespace headway::io
