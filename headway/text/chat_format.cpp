// Reads the files in which transformers keeps chat templates. Not for: parsing the templates.
#include "headway/text/chat_format.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/json.h"
#include "headway/base/text_util.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestTemplate = std::int64_t{16} << 20;
constexpr const char* kTokenNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

Json read_object(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return Json::object();
  Json json = parse_json_file(path.string());
  if (!json.is_object()) {
    throw CheckpointError(
        fmt::format("[{}] file = {}, allowed a mapping", path.string(), json_summary(json)));
  }
  return json;
}

std::string read_template(const fs::path& path) {
  std::string source = read_file(path.string(), kLargestTemplate);
  if (find_invalid_utf8(source)) {
    throw CheckpointError(fmt::format("[{}] file = not UTF-8, allowed a template", path.string()));
  }
  return source;
}

// A text, or a list of {"name", "template"}.
void add_from_json(ChatFormat& format, const Json& value, const fs::path& path) {
  if (value.is_string()) {
    format.templates.push_back({"default", value.get<std::string>()});
    return;
  }
  const auto is_entry = [](const Json& entry) {
    return entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
           entry.contains("template") && entry["template"].is_string();
  };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_entry)) {
    throw CheckpointError(
        fmt::format("[{}] chat_template = {}, allowed a text or a list of names and templates",
                    path.string(), json_summary(value)));
  }
  for (const Json& entry : value) {
    format.templates.push_back(
        {entry["name"].get<std::string>(), entry["template"].get<std::string>()});
  }
}

void add_from_files(ChatFormat& format, const fs::path& folder) {
  std::error_code ignored;
  if (fs::is_regular_file(folder / "chat_template.jinja", ignored)) {
    format.templates.push_back({"default", read_template(folder / "chat_template.jinja")});
  }
  std::set<fs::path> more;
  for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", ignored)) {
    if (entry.path().extension() == ".jinja") more.insert(entry.path());
  }
  for (const fs::path& path : more) {
    format.templates.push_back({path.stem().string(), read_template(path)});
  }
}

// The text of a token given as a text or as an object with `content`.
const Json* token_text(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return nullptr;
  if (found->is_string()) return &*found;
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return &(*found)["content"];
  }
  return nullptr;
}

}  // namespace

const std::string& ChatFormat::source(const std::string& name, bool has_tools) const {
  if (templates.empty()) {
    throw CheckpointError(
        fmt::format("[{}] chat template = none, allowed chat_template.jinja or chat_template in "
                    "tokenizer_config.json; hint: --chat-template FILE.jinja, in a run "
                    "file data.chat.chat_template",
                    folder));
  }
  const auto find = [this](std::string_view wanted) {
    const auto found = std::ranges::find(templates, wanted, &Named::name);
    return found == templates.end() ? nullptr : &found->source;
  };
  if (name.empty()) {
    if (const std::string* tools = has_tools ? find("tool_use") : nullptr) return *tools;
    if (const std::string* standard = find("default")) return *standard;
  } else if (const std::string* named = find(name)) {
    return *named;
  }
  std::vector<std::string> names;
  for (const Named& entry : templates) names.push_back(entry.name);
  throw ConfigError(
      fmt::format("[{}] --chat-template = '{}', allowed {}", folder, name, join(names, " | ")));
}

ChatFormat find_chat_format(const fs::path& folder) {
  ChatFormat format;
  format.folder = folder.string();
  const fs::path config_path = folder / "tokenizer_config.json";
  const Json config = read_object(config_path);
  add_from_files(format, folder);
  if (format.templates.empty()) {
    const Json file = read_object(folder / "chat_template.json");
    if (file.contains("chat_template")) {
      add_from_json(format, file["chat_template"], folder / "chat_template.json");
    } else if (config.contains("chat_template") && !config["chat_template"].is_null()) {
      add_from_json(format, config["chat_template"], config_path);
    }
  }
  const Json map = read_object(folder / "special_tokens_map.json");
  for (const char* name : kTokenNames) {
    const Json* token = token_text(config, name);
    if (token == nullptr) token = token_text(map, name);
    if (token != nullptr) format.tokens.emplace_back(name, jinja::Value(token->get<std::string>()));
  }
  return format;
}

}  // namespace headway::text
