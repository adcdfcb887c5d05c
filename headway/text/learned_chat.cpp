// Spans from generation blocks, or from prefixes of the conversation. Not for: rendering.
#include "headway/text/learned_chat.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text {
namespace {

using jinja::Dict;
using jinja::Span;
using jinja::Type;
using jinja::Value;
using jinja::Values;

const Values& messages_of(const ChatRequest& request, const std::string& where) {
  if (!request.messages.is(Type::kList)) {
    throw ConfigError(fmt::format("[{}] messages = {}, allowed a list", where,
                                  jinja::type_name(request.messages)));
  }
  return request.messages.object<jinja::Sequence>().items;
}

bool is_assistant(const Value& message) {
  if (!message.is(Type::kDict)) return false;
  const Value* role = message.object<Dict>().get("role");
  return role != nullptr && role->is_str() && role->text() == "assistant";
}

/// The first `count` messages as a conversation of their own.
std::string written_prefix(const ChatWriter& writer, const ChatRequest& request,
                           const Values& messages, size_t count, bool asks) {
  ChatRequest prefix = request;
  prefix.messages = jinja::make_list(
      Values(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count)));
  std::erase_if(prefix.variables, [](const auto& v) { return v.first == "add_generation_prompt"; });
  prefix.variables.emplace_back("add_generation_prompt", asks);
  return writer.render(prefix).text;
}

std::int64_t characters(std::string_view text) { return jinja::char_count(text); }

Span span_of_turn(const ChatWriter& writer, const ChatRequest& request, const Values& messages,
                  size_t turn, const std::string& whole, const std::string& where) {
  const std::string before = written_prefix(writer, request, messages, turn, true);
  const std::string after = written_prefix(writer, request, messages, turn + 1, false);
  const bool found = whole.starts_with(after) && after.starts_with(before);
  if (!found || after.size() == before.size()) {
    throw ConfigError(fmt::format(
        "[{}] messages[{}] = a turn that the template writes differently as part of a longer "
        "conversation, so where it stands is unknown; hint: mark it in the template with {{% "
        "generation %}} … {{% endgeneration %}} (data.chat.chat_template), or learn the last turn "
        "only (data.chat.turns=last)",
        where, turn));
  }
  return {characters(before), characters(after)};
}

}  // namespace

LearnedChat write_learned(const ChatWriter& writer, const ChatRequest& request, bool last_only,
                          const std::string& where) {
  const Values& messages = messages_of(request, where);
  std::vector<size_t> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_assistant(messages[i])) turns.push_back(i);
  }
  if (turns.empty()) {
    throw ConfigError(
        fmt::format("[{}] messages = no turn of role assistant, allowed at least one", where));
  }
  try {
    LearnedChat result;
    RenderedChat rendered = writer.render(request);
    result.text = std::move(rendered.text);
    if (writer.choose(!request.tools.is_none())->has_generation_spans()) {
      result.spans = std::move(rendered.generation_spans);
      std::erase_if(result.spans, [](const Span& span) { return span.begin == span.end; });
      if (last_only && result.spans.size() > 1) result.spans = {result.spans.back()};
      if (result.spans.empty()) {
        throw ConfigError(fmt::format(
            "[{}] conversation = nothing inside generation blocks of the template", where));
      }
      return result;
    }
    if (last_only) turns = {turns.back()};
    for (const size_t turn : turns) {
      result.spans.push_back(span_of_turn(writer, request, messages, turn, result.text, where));
    }
    return result;
  } catch (const jinja::TemplateError& error) {
    throw ConfigError(
        fmt::format("[{}] conversation = refused by the chat template: {}", where, error.what()));
  }
}

}  // namespace headway::text
