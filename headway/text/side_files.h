// What stands beside a tokenizer.json: further tokens, special tokens, the files themselves.
// Not for: chat templates as programs (template.h reads their text from here).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headway/text/added_tokens.h"
#include "headway/text/json_node.h"

namespace headway::text {

/// The files of a folder that belong to its tokenizer, as bytes, and what they say.
struct SideFiles {
  std::vector<std::pair<std::string, std::string>> contents;  // name, bytes; sorted by name
  std::vector<std::pair<std::int64_t, AddedToken>> added;     // added_tokens_decoder, by id
  std::map<std::string, std::string> special;                 // bos_token -> "<s>"
  std::map<std::string, std::int64_t> generation_ids;         // bos_token_id -> 1

  /// The id of `role` (bos_token, eos_token, …) in `find`'s vocabulary: tokenizer_config.json, then
  /// special_tokens_map.json, then generation_config.json, then config.json.
  template <class Find>
  std::optional<std::int64_t> id_of(const std::string& role, Find find) const {
    const auto content = special.find(role);
    if (content != special.end()) return find(content->second);
    const auto id = generation_ids.find(role + "_id");
    if (id != generation_ids.end()) return id->second;
    return std::nullopt;
  }
};

/// Reads tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
/// generation_config.json and config.json of `folder`, as far as they exist.
/// Errors: CheckpointError (a damaged one).
SideFiles read_side_files(const std::filesystem::path& folder);

}  // namespace headway::text
