// See safetensors_file.h. Not for: header rules (safetensors_header.cpp).
#include "headway/io/safetensors_file.h"

#include <algorithm>
#include <cstring>

#include <ATen/Functions.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

namespace headway::io {
namespace {

c10::ScalarType torch_type(const TensorEntry& entry, const std::filesystem::path& path) {
  if (const auto type = scalar_type(entry.info.dtype)) return *type;
  throw UnsupportedError(fmt::format("[{}: tensor \"{}\"] dtype = {}, which cannot be loaded",
                                     path.string(), entry.info.name, enum_name(entry.info.dtype)));
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  const std::string name = path.filename().string();
  if (name.starts_with('.') && name.ends_with(".tmp")) {
    throw CheckpointError(
        fmt::format("[{}] file = a temporary name, allowed a finished file", path.string()));
  }
  file_ = std::make_shared<const MappedFile>(path.string());
  header_ = parse_safetensors_header(file_->bytes(), path.string());
  for (size_t i = 0; i < header_.entries.size(); ++i) index_[header_.entries[i].info.name] = i;
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

const TensorEntry& SafetensorsFile::entry(const std::string& name) const {
  if (const TensorEntry* found = find(name)) return *found;
  throw CheckpointError(fmt::format("[{}] tensor \"{}\" = missing", path_.string(), name));
}

void SafetensorsFile::check_size() const {
  if (!file_->has_same_size()) {
    throw CheckpointError(
        fmt::format("[{}] size = changed while the file was read, allowed {} bytes", path_.string(),
                    file_->bytes().size()));
  }
}

void SafetensorsFile::check_bool(const TensorEntry& entry, std::span<const std::byte> bytes) const {
  if (entry.info.dtype != Dtype::kBool) return;
  if (std::ranges::any_of(bytes, [](std::byte b) { return std::to_integer<int>(b) > 1; })) {
    throw_safetensors(SafetensorsRule::kBoolValue, path_.string(), entry.info.name,
                      "BOOL holds a byte other than 0 and 1");
  }
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  const TensorEntry& found = entry(name);
  check_size();
  return file_->bytes().subspan(static_cast<size_t>(header_.data_start + found.begin),
                                static_cast<size_t>(found.end - found.begin));
}

at::Tensor SafetensorsFile::load(const std::string& name) const {
  const TensorEntry& found = entry(name);
  const auto type = torch_type(found, path_);
  const auto source = bytes(name);
  at::Tensor tensor = at::empty(found.info.shape, at::TensorOptions().dtype(type));
  if (!source.empty()) std::memcpy(tensor.mutable_data_ptr(), source.data(), source.size());
  check_size();
  check_bool(found, source);
  return tensor;
}

at::Tensor SafetensorsFile::view(const std::string& name) const {
  const TensorEntry& found = entry(name);
  const auto type = torch_type(found, path_);
  const auto source = bytes(name);
  const auto address = reinterpret_cast<uintptr_t>(source.data());
  if (source.empty() || address % c10::elementSize(type) != 0) return load(name);
  check_bool(found, source);
  const auto keep_open = [file = file_](void*) {};
  return at::from_blob(const_cast<std::byte*>(source.data()), found.info.shape, keep_open,
                       at::TensorOptions().dtype(type));
}

std::map<std::string, at::Tensor> load_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::map<std::string, at::Tensor> tensors;
  for (const TensorEntry& entry : file.header().entries) {
    tensors[entry.info.name] = file.load(entry.info.name);
  }
  return tensors;
}

}  // namespace headway::io
