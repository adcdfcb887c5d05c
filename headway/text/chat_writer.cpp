// Chooses, parses once and renders. Not for: reading template files of a folder (chat_format.cpp).
#include "headway/text/chat_writer.h"

#include <algorithm>

#include "headway/base/content_hash.h"
#include "headway/base/error.h"
#include "headway/base/file_util.h"

namespace headway::text {
namespace {

using jinja::Dict;
using jinja::Type;
using jinja::Value;

constexpr std::int64_t kLargestTemplate = std::int64_t{16} << 20;

}  // namespace

bool has_variable(const ChatRequest& request, std::string_view name) {
  return std::ranges::any_of(request.variables, [&](const auto& v) { return v.first == name; });
}

ChatRequest parse_chat(const Value& value, const std::string& where) {
  ChatRequest request;
  if (value.is(Type::kList)) {
    request.messages = value;
    return request;
  }
  const Value* messages = value.is(Type::kDict) ? value.object<Dict>().get("messages") : nullptr;
  if (messages == nullptr || !messages->is(Type::kList)) {
    throw ConfigError("[" + where + "] chat = " + jinja::type_name(value) +
                      " without messages, allowed a list of messages or {\"messages\": […]}");
  }
  request.messages = *messages;
  for (const auto& [key, item] : value.object<Dict>().items) {
    if (key.text() == "messages") continue;
    if (key.text() == "tools") {
      request.tools = item;
    } else if (key.text() == "kwargs" && item.is(Type::kDict)) {
      for (const auto& [name, given] : item.object<Dict>().items) {
        request.variables.emplace_back(name.text(), given);
      }
    } else {
      throw ConfigError("[" + where + "] key = '" + key.text() +
                        "', allowed messages | tools | kwargs (an object)");
    }
  }
  return request;
}

ChatWriter::ChatWriter(ChatFormat format, std::string chosen)
    : format_(std::move(format)), chosen_(std::move(chosen)) {
  if (!chosen_.ends_with(".jinja")) return;
  format_.templates = {{"default", read_file(chosen_, kLargestTemplate)}};
  chosen_.clear();
}

std::shared_ptr<const ChatTemplate> ChatWriter::choose(bool has_tools) const {
  const std::string& source = format_.source(chosen_, has_tools);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const ChatTemplate>& parsed = parsed_[source];
  if (parsed == nullptr) parsed = std::make_shared<const ChatTemplate>(source);
  return parsed;
}

RenderedChat ChatWriter::render(const ChatRequest& request) const {
  ChatRequest complete = request;
  for (const auto& token : format_.tokens) {
    if (!has_variable(request, token.first)) complete.variables.push_back(token);
  }
  return choose(!request.tools.is_none())->render(complete);
}

std::string ChatWriter::fingerprint() const {
  ContentHash hash;
  hash.field(chosen_);
  for (const ChatFormat::Named& named : format_.templates)
    hash.field(named.name).field(named.source);
  for (const auto& [name, value] : format_.tokens) hash.field(name).field(value.text());
  return hash.hex();
}

}  // namespace headway::text
