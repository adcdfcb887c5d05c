// See tensor_source.h. Not for: header rules (safetensors_header.cpp).
#include "headway/io/tensor_source.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/shards.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

/// Why a folder without index and model.safetensors cannot be read.
[[noreturn]] void fail_without_weights(const fs::path& folder) {
  std::vector<std::string> found;
  bool has_pickle = false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(".safetensors")) found.push_back(name);
    has_pickle = has_pickle || name.ends_with(".bin") || name.ends_with(".pth");
  }
  std::ranges::sort(found);
  std::string hint = "hint: is this a checkpoint folder?";
  if (has_pickle) hint = "hint: pickled weights (.bin, .pth) are not read; save as safetensors";
  if (!found.empty()) {
    hint = fmt::format("hint: found {} without {}", join(found, ", "), kIndexName);
  }
  throw CheckpointError(fmt::format("[{}] weights = missing, allowed {} or {}; {}", folder.string(),
                                    kIndexName, kSingleFileName, hint));
}

int64_t data_bytes(const SafetensorsFile& file) {
  const auto& entries = file.header().entries;
  return entries.empty() ? 0 : entries.back().end;
}

}  // namespace

class TensorSource::Kept {
 public:
  at::Tensor get(const std::string& name, const Reader& read) {
    const std::lock_guard lock(mutex_);
    for (const auto& [held, tensor] : tensors_) {
      if (held == name) return tensor;
    }
    tensors_.emplace_back(name, read());
    if (tensors_.size() > kMost) tensors_.pop_front();
    return tensors_.back().second;
  }

  void forget(const std::string& name) {
    const std::lock_guard lock(mutex_);
    std::erase_if(tensors_, [&](const auto& held) { return held.first == name; });
  }

 private:
  static constexpr size_t kMost = 2;  // up and down projections of one layer's experts

  std::mutex mutex_;
  std::deque<std::pair<std::string, at::Tensor>> tensors_;
};

TensorSource TensorSource::open(const fs::path& folder) {
  TensorSource source;
  source.kept_ = std::make_shared<Kept>();
  source.folder_ = folder.string();
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw CheckpointError(
        fmt::format("[{}] folder = missing, allowed a checkpoint folder", folder.string()));
  }
  if (fs::exists(fs::symlink_status(folder / kIndexName, error))) {
    source.add_index(folder, folder / kIndexName);
  } else if (fs::exists(fs::symlink_status(folder / kSingleFileName, error))) {
    source.add_single(folder / kSingleFileName);
  } else {
    fail_without_weights(folder);
  }
  return source;
}

void TensorSource::add_single(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  for (const TensorEntry& entry : files_.back()->header().entries) {
    infos_[entry.info.name] = entry.info;
    file_by_name_[entry.info.name] = files_.back().get();
  }
}

void TensorSource::add_index(const fs::path& folder, const fs::path& path) {
  const ShardIndex index = read_index(path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : index.weight_map) names.insert(file);
  std::map<std::string, std::string> seen;  // tensor -> file
  int64_t total = 0;
  for (const std::string& name : names) {
    files_.push_back(std::make_unique<SafetensorsFile>(folder / name));
    total += data_bytes(*files_.back());
    for (const TensorEntry& entry : files_.back()->header().entries) {
      const std::string& tensor = entry.info.name;
      if (const auto [other, is_new] = seen.emplace(tensor, name); !is_new) {
        throw CheckpointError(
            fmt::format("[{}] tensor \"{}\" = in {} and in {}, allowed in one file", path.string(),
                        shorten(tensor), other->second, name));
      }
      const auto mapped = index.weight_map.find(tensor);
      if (mapped == index.weight_map.end()) {
        warnings_.push_back(
            fmt::format("[{}] tensor \"{}\" is in {} but not in the index; not used", path.string(),
                        shorten(tensor), name));
        continue;
      }
      if (mapped->second != name) {
        throw CheckpointError(fmt::format("[{}] weight_map.{} = {}, but the tensor is in {}",
                                          path.string(), shorten(tensor), mapped->second, name));
      }
      infos_[tensor] = entry.info;
      file_by_name_[tensor] = files_.back().get();
    }
  }
  for (const auto& [tensor, file] : index.weight_map) {
    if (!infos_.contains(tensor)) {
      throw CheckpointError(fmt::format("[{}] weight_map.{} = {}, which does not hold it",
                                        path.string(), shorten(tensor), file));
    }
  }
  const auto stated = index.metadata.find("total_size");
  if (stated != index.metadata.end() &&
      (!stated->is_number() || stated->get<double>() != static_cast<double>(total))) {
    warnings_.push_back(fmt::format("[{}] metadata.total_size = {}, the shards hold {} bytes",
                                    path.string(), stated->dump(), total));
  }
}

const TensorInfo& TensorSource::info(const std::string& name) const {
  const auto found = infos_.find(name);
  if (found != infos_.end()) return found->second;
  throw CheckpointError(fmt::format("[{}] tensor \"{}\" = missing", folder_, shorten(name)));
}

at::Tensor TensorSource::load(const std::string& name) const {
  const auto made = derived_.find(name);
  return made == derived_.end() ? file_of(name).load(name) : kept_->get(name, made->second).clone();
}

at::Tensor TensorSource::view(const std::string& name) const {
  const auto made = derived_.find(name);
  return made == derived_.end() ? file_of(name).view(name) : kept_->get(name, made->second);
}

TensorSource::Reader TensorSource::reader(const std::string& name) const {
  const auto made = derived_.find(name);
  if (made != derived_.end()) return made->second;
  return [file = &file_of(name), name] { return file->view(name); };
}

void TensorSource::derive(const TensorInfo& info, const std::vector<std::string>& inputs,
                          Reader read) {
  for (const std::string& input : inputs) {
    if (input != info.name) infos_.erase(input);
  }
  kept_->forget(info.name);
  infos_[info.name] = info;
  derived_[info.name] = std::move(read);
}

const SafetensorsFile& TensorSource::file_of(const std::string& name) const {
  const auto found = file_by_name_.find(name);
  if (found != file_by_name_.end()) return *found->second;
  throw CheckpointError(fmt::format("[{}] tensor \"{}\" = missing", folder_, shorten(name)));
}

}  // namespace headway::io
