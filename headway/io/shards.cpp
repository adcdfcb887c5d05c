// See shards.h. Not for: comparing an index with its shards (tensor_source.cpp).
#include "headway/io/shards.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/checked_math.h"
#include "headway/base/text_util.h"

namespace headway::io {
namespace {

constexpr int64_t kMaxIndexBytes = int64_t{256} << 20;
constexpr size_t kMaxFileNameBytes = 255;

/// What is wrong with a file value, or nothing. Anything that could leave the folder is refused.
std::optional<std::string> file_name_problem(const std::string& name) {
  if (name.empty()) return "empty";
  if (name.size() > kMaxFileNameBytes) return "longer than 255 bytes";
  if (name.find('/') != std::string::npos || name.find('\\') != std::string::npos) {
    return "with a path separator";
  }
  if (name.find("..") != std::string::npos) return "with '..'";
  if (name.front() == '.') return "with a leading dot";
  if (name.size() > 1 && name[1] == ':') return "with a drive letter";
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7F; };
  if (std::ranges::any_of(name, is_control)) return "with a control character";
  if (!name.ends_with(".safetensors")) return "without the ending .safetensors";
  return std::nullopt;
}

int64_t total_bytes(const std::vector<TensorInfo>& table) {
  int64_t total = 0;
  for (const TensorInfo& info : table) {
    total = checked_add(total, checked_bytes(info.dtype, info.shape).value_or(0), "shards");
  }
  return total;
}

}  // namespace

ShardIndex read_index(const std::filesystem::path& path) {
  const JsonLimits limits{.max_bytes = kMaxIndexBytes, .max_depth = 16};
  const auto json = parse_json_file<nlohmann::json>(path.string(), JsonErrors::kCheckpoint, limits);
  const auto fail = [&](const std::string& what) {
    throw CheckpointError(fmt::format("[{}] {}", path.string(), what));
  };
  if (!json.is_object()) fail("index = not an object, allowed {\"metadata\", \"weight_map\"}");
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) fail("weight_map = missing, allowed an object");
  ShardIndex index;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string()) {
      fail(fmt::format("weight_map.{} = not a string, allowed a file name", shorten(name)));
    }
    const std::string file_name = file.get<std::string>();
    if (const auto problem = file_name_problem(file_name)) {
      fail(fmt::format("weight_map.{} = \"{}\" ({}), allowed the name of a file in this folder",
                       shorten(name), shorten(file_name), *problem));
    }
    index.weight_map[name] = file_name;
  }
  if (const auto metadata = json.find("metadata");
      metadata != json.end() && metadata->is_object()) {
    for (const auto& [key, value] : metadata->items())
      index.metadata[key] = Json::parse(value.dump());
  }
  return index;
}

std::vector<std::vector<TensorInfo>> plan_shards(const std::vector<TensorInfo>& table,
                                                 int64_t max_bytes) {
  std::vector<std::vector<TensorInfo>> shards(1);
  int64_t held = 0;
  for (const TensorInfo& info : table) {
    const int64_t bytes = checked_bytes(info.dtype, info.shape).value_or(0);
    if (!shards.back().empty() && bytes > max_bytes - held) {
      shards.emplace_back();
      held = 0;
    }
    shards.back().push_back(info);
    held = checked_add(held, bytes, "shards");
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_shards(const std::filesystem::path& folder, const std::vector<TensorInfo>& table,
                  const TensorProvider& provider, int64_t max_bytes) {
  const auto shards = plan_shards(table, max_bytes);
  if (shards.size() == 1) {
    write_safetensors(folder / kSingleFileName, table, provider);
    return;
  }
  std::map<std::string, std::string> weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_safetensors(folder / name, shards[i], provider);
    for (const TensorInfo& info : shards[i]) weight_map[info.name] = name;
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes(table)}}},
                                {"weight_map", weight_map}};
  write_file_atomically((folder / kIndexName).string(), index.dump(2) + "\n");
}

}  // namespace headway::io
