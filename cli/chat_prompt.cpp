// Chat files and chat templates for the commands. Not for: the interactive loop (chat.cpp).
#include "cli/chat_prompt.h"

#include <algorithm>

#include "headway/base/error.h"
#include "headway/base/file_util.h"

namespace headway::cli {
namespace {

using text::jinja::Dict;
using text::jinja::Type;
using text::jinja::Value;

constexpr int64_t kLargestChat = int64_t{256} << 20;

bool has_variable(const text::ChatRequest& request, std::string_view name) {
  return std::ranges::any_of(request.variables, [&](const auto& v) { return v.first == name; });
}

text::ChatRequest request_of(const Value& file, const std::string& path) {
  text::ChatRequest request;
  if (file.is(Type::kList)) {
    request.messages = file;
    return request;
  }
  const Value* messages = file.is(Type::kDict) ? file.object<Dict>().get("messages") : nullptr;
  if (messages == nullptr || !messages->is(Type::kList)) {
    throw ConfigError("[" + path + "] chat = " + text::jinja::type_name(file) +
                      " without messages, allowed a list of messages or {\"messages\": […]}");
  }
  request.messages = *messages;
  for (const auto& [key, value] : file.object<Dict>().items) {
    if (key.text() == "messages") continue;
    if (key.text() == "tools") {
      request.tools = value;
    } else if (key.text() == "kwargs" && value.is(Type::kDict)) {
      for (const auto& [name, given] : value.object<Dict>().items) {
        request.variables.emplace_back(name.text(), given);
      }
    } else {
      throw ConfigError("[" + path + "] key = '" + key.text() +
                        "', allowed messages | tools | kwargs (an object)");
    }
  }
  return request;
}

}  // namespace

text::ChatRequest read_chat_file(const std::string& path) {
  const Value file = text::jinja::parse_json_value(read_file(path, kLargestChat), path);
  text::ChatRequest request = request_of(file, path);
  if (!has_variable(request, "add_generation_prompt") &&
      !has_variable(request, "continue_final_message")) {
    request.variables.emplace_back("add_generation_prompt", true);
  }
  return request;
}

ChatWriter::ChatWriter(const engine::LoadedModel& loaded, const std::string& model_folder,
                       std::string chosen_template)
    : loaded_(loaded),
      format_(text::find_chat_format(engine::find_model_folder(model_folder))),
      chosen_(std::move(chosen_template)) {
  if (!chosen_.ends_with(".jinja")) return;
  format_.templates = {{"default", read_file(chosen_, kLargestChat)}};
  chosen_.clear();
}

std::string ChatWriter::render(const text::ChatRequest& request) {
  const bool has_tools = !request.tools.is_none();
  const std::string& source = format_.source(chosen_, has_tools);
  if (!parsed_ || parsed_->source() != source) parsed_.emplace(source);
  text::ChatRequest complete = request;
  for (const auto& token : format_.tokens) {
    if (!has_variable(request, token.first)) complete.variables.push_back(token);
  }
  return parsed_->render(complete).text;
}

// The template writes special tokens itself; a second BOS would be wrong.
std::vector<int64_t> ChatWriter::encode(const std::string& text) const {
  return loaded_.tokenizer.require()->encode(text, false);
}

}  // namespace headway::cli
