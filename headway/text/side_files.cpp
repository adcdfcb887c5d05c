// Reads side files; every value is checked, every file may be absent.
// Not for: tokenizer.json itself.
#include "headway/text/side_files.h"

#include <algorithm>
#include <charconv>

#include "headway/base/file_util.h"
#include "headway/base/json.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestSideFile = std::int64_t{64} << 20;
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                  "sep_token", "cls_token", "mask_token"};
constexpr const char* kIds[] = {"bos_token_id", "eos_token_id", "pad_token_id"};

void read_roles(const JsonNode& node, SideFiles& side) {
  for (const char* role : kRoles) {
    const auto value = node.find(role);
    if (!value || side.special.contains(role)) continue;
    side.special[role] = value->is_string() ? value->string() : value->at("content").string();
  }
}

void read_added(const JsonNode& node, SideFiles& side) {
  node.require_object();
  for (const auto& [key, value] : node.value().items()) {
    const JsonNode entry = node.at(key);
    std::int64_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id < 0 ||
        id > kLargestTokenId) {
      entry.fail_with("the key is no id");
    }
    side.added.emplace_back(id, AddedToken::from_json(entry));
  }
  std::sort(side.added.begin(), side.added.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
}

// An id, or the first of a list of ids.
void read_ids(const JsonNode& node, SideFiles& side) {
  for (const char* key : kIds) {
    const auto value = node.find(key);
    if (!value || side.generation_ids.contains(key)) continue;
    if (value->is_array()) {
      if (value->size() == 0) continue;
      side.generation_ids[key] = value->at(std::size_t{0}).integer(0, kLargestTokenId);
    } else if (value->value().is_number_integer() && value->value().get<std::int64_t>() >= 0) {
      side.generation_ids[key] = value->integer(0, kLargestTokenId);
    }
  }
}

std::optional<TokenizerJson> read_object(const fs::path& folder, const char* name) {
  std::error_code ignored;
  const fs::path path = folder / name;
  if (!fs::exists(path, ignored)) return std::nullopt;
  auto content = parse_json_file<TokenizerJson>(path.string());
  JsonNode(content, path.string()).require_object();
  return content;
}

}  // namespace

SideFiles read_side_files(const fs::path& folder) {
  SideFiles side;
  for (const char* name :
       {"chat_template.jinja", "special_tokens_map.json", "tokenizer_config.json"}) {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) continue;
    side.contents.emplace_back(name, read_file((folder / name).string(), kLargestSideFile));
  }
  if (const auto config = read_object(folder, "tokenizer_config.json")) {
    const JsonNode node(*config, (folder / "tokenizer_config.json").string());
    read_roles(node, side);
    if (const auto added = node.find("added_tokens_decoder")) read_added(*added, side);
  }
  if (const auto map = read_object(folder, "special_tokens_map.json")) {
    read_roles(JsonNode(*map, (folder / "special_tokens_map.json").string()), side);
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (const auto config = read_object(folder, name)) {
      read_ids(JsonNode(*config, (folder / name).string()), side);
    }
  }
  return side;
}

}  // namespace headway::text
