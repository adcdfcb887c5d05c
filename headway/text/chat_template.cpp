// The settings of transformers around the template engine. Not for: the engine.
#include "headway/text/chat_template.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include <fmt/format.h>

#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/parser.h"
#include "headway/text/jinja/text_search.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text {
namespace {

using jinja::Dict;
using jinja::ErrorKind;
using jinja::Type;
using jinja::Value;

constexpr std::string_view kReasoningFields[] = {"reasoning_content", "thinking", "reasoning"};
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// strftime() of the C locale with what Python adds. A datetime without a zone has no %z and no %Z.
std::string format_time(const std::tm& time, const std::string& format) {
  std::string plain;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      plain += format[i];
      continue;
    }
    const char directive = format[++i];
    if (directive == 'f') {
      plain += "000000";
    } else if (directive == ':' && i + 1 < format.size() && format[i + 1] == 'z') {
      ++i;
    } else if (directive != 'z' && directive != 'Z') {
      plain += '%';
      plain += directive;
    }
  }
  plain += '.';  // so that a result of length 0 means failure
  std::array<char, 1 << 16> buffer;
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), plain.c_str(), &time);
  if (size == 0) jinja::fail(ErrorKind::kValue, "strftime_now: the result is too long");
  return std::string(buffer.data(), size - 1);
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm result{};
  ::localtime_r(&now, &result);
  return result;
}

std::int64_t size_of(const Value& value) {
  switch (value.type()) {
    case Type::kStr:
      return std::ssize(value.text()) + 16;
    case Type::kList: {
      std::int64_t size = 16;
      for (const Value& item : value.object<jinja::Sequence>().items) size += size_of(item);
      return size;
    }
    case Type::kDict: {
      std::int64_t size = 16;
      for (const auto& [key, item] : value.object<Dict>().items)
        size += size_of(key) + size_of(item);
      return size;
    }
    default:
      return 16;
  }
}

// The reasoning of a message under every name that templates look for.
Value with_reasoning(const Value& message) {
  const auto& fields = message.object<Dict>();
  for (const std::string_view name : kReasoningFields) {
    const Value* reasoning = fields.get(name);
    if (reasoning == nullptr || reasoning->is_none()) continue;
    auto result = std::make_shared<Dict>();
    result->set("thinking", *reasoning);
    for (const auto& [key, value] : fields.items) result->set(key, value);
    result->set("reasoning_content", *reasoning);
    return result;
  }
  return message;
}

Value checked_messages(const Value& messages) {
  if (!messages.is(Type::kList)) {
    jinja::fail_type("messages should be a list, got " + jinja::type_name(messages));
  }
  jinja::Values result;
  for (const Value& message : messages.object<jinja::Sequence>().items) {
    if (!message.is(Type::kDict)) {
      jinja::fail_type("Chat messages should be dicts, got " + jinja::type_name(message));
    }
    result.push_back(with_reasoning(message));
  }
  return jinja::make_list(std::move(result));
}

Value with_field(const Value& dict, const std::string& name, Value value) {
  auto result = std::make_shared<Dict>();
  for (const auto& [key, item] : dict.object<Dict>().items) result->set(key, item);
  result->set(Value(name), std::move(value));
  return result;
}

/// Marks the end of the message to be continued, and cuts the rendered text there.
class Continuation {
 public:
  Continuation(const Value& wanted, const std::string& source)
      : field_(wanted.is_str() ? wanted.text() : "content"), source_(source) {}

  Value mark(const Value& messages) {
    jinja::Values items = messages.object<jinja::Sequence>().items;
    if (items.empty()) {
      jinja::fail(ErrorKind::kValue,
                  "continue_final_message is set but the conversation is empty!");
    }
    const Value* content = items.back().object<Dict>().get(field_);
    if (content == nullptr || content->is_none()) {
      jinja::fail(ErrorKind::kValue, fmt::format("continue_final_message is set but the final "
                                                 "message has no \"{}\" to continue!",
                                                 field_));
    }
    items.back() = content->is(Type::kList) ? mark_parts(items.back(), *content)
                                            : mark_fields(items.back(), *content);
    return jinja::make_list(std::move(items));
  }

  std::string cut(std::string text) const {
    const std::string_view tag = jinja::strip(kContinueTag, std::nullopt, jinja::Side::kBoth);
    const std::string_view content = jinja::strip(content_, std::nullopt, jinja::Side::kBoth);
    const std::size_t at = text.rfind(tag);
    if (at == std::string::npos || text.find(content) == std::string::npos) {
      jinja::fail(ErrorKind::kValue,
                  "continue_final_message is set but the final message does not appear in the chat "
                  "after applying the chat template!");
    }
    const bool spaced = std::string_view(text).substr(at).starts_with(kContinueTag);
    text.resize(at);
    if (!spaced) text = jinja::strip(text, std::nullopt, jinja::Side::kRight);
    return text;
  }

 private:
  Value tagged(const Value& content) {
    if (!content.is_str()) jinja::fail_type("the message to continue is no text");
    content_ = content.text();
    return Value(content_ + std::string(kContinueTag));
  }

  void check_accepted(const std::vector<std::string>& fields) const {
    const bool any = std::any_of(fields.begin(), fields.end(), [this](const std::string& field) {
      return source_.find(field) != std::string::npos;
    });
    if (any) return;
    jinja::fail(ErrorKind::kValue,
                fmt::format("continue_final_message is set to \"{}\" but this is "
                            "not an accepted field in the chat_template",
                            field_));
  }

  Value mark_fields(const Value& message, const Value& content) {
    std::vector<std::string> fields{field_};
    if (std::find(std::begin(kReasoningFields), std::end(kReasoningFields), field_) !=
        std::end(kReasoningFields)) {
      fields.clear();
      for (const std::string_view name : kReasoningFields) {
        const Value* same = message.object<Dict>().get(name);
        if (same != nullptr && jinja::equal(*same, content)) fields.emplace_back(name);
      }
    }
    check_accepted(fields);
    const Value text = tagged(content);
    Value result = message;
    for (const std::string& field : fields) result = with_field(result, field, text);
    return result;
  }

  Value mark_parts(const Value& message, const Value& content) {
    check_accepted({field_});
    jinja::Values parts = content.object<jinja::Sequence>().items;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      const Value* text = part->is(Type::kDict) ? part->object<Dict>().get("text") : nullptr;
      if (text == nullptr) continue;
      *part = with_field(*part, "text", tagged(*text));
      return with_field(message, field_, jinja::make_list(std::move(parts)));
    }
    jinja::fail(ErrorKind::kValue,
                "continue_final_message is set but we could not find any text to "
                "continue in the final message!");
  }

  std::string field_;
  const std::string& source_;
  std::string content_;
};

const Value* find_variable(const jinja::Variables& variables, std::string_view name) {
  const auto found = std::find_if(variables.begin(), variables.end(),
                                  [&](const auto& item) { return item.first == name; });
  return found == variables.end() ? nullptr : &found->second;
}

jinja::Variables all_variables(const ChatRequest& request, Value messages) {
  jinja::Variables result{{"messages", std::move(messages)},
                          {"tools", request.tools},
                          {"documents", Value()},
                          {"add_generation_prompt", false}};
  for (const auto& variable : request.variables) {
    if (variable.first != "continue_final_message") result.push_back(variable);
  }
  return result;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source)
    : source_(std::move(source)), parsed_(jinja::parse_template(source_)) {}

RenderedChat ChatTemplate::render(const ChatRequest& request, const jinja::Limits& limits) const {
  std::int64_t input = size_of(request.messages) + size_of(request.tools);
  for (const auto& [name, value] : request.variables) input += size_of(value);
  jinja::Budget budget(limits, input);

  Value messages = checked_messages(request.messages);
  const Value* wanted = find_variable(request.variables, "continue_final_message");
  std::optional<Continuation> continuation;
  if (wanted != nullptr && jinja::truth(*wanted)) {
    continuation.emplace(*wanted, source_);
    messages = continuation->mark(messages);
  }
  const std::tm now = request.now.value_or(local_time());
  jinja::Interpreter interpreter(
      *parsed_, budget, [now](const std::string& format) { return format_time(now, format); });
  RenderedChat result;
  result.text = interpreter.render(all_variables(request, std::move(messages)));
  result.generation_spans = interpreter.spans();
  if (continuation) result.text = continuation->cut(std::move(result.text));
  return result;
}

std::tm parse_clock(std::string_view text) {
  std::tm time{};
  int consumed = 0;
  const std::string copy(text);
  const int fields =
      std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &time.tm_year, &time.tm_mon,
                  &time.tm_mday, &time.tm_hour, &time.tm_min, &time.tm_sec, &consumed);
  const bool fits = fields == 6 && consumed == static_cast<int>(copy.size()) && time.tm_mon >= 1 &&
                    time.tm_mon <= 12 && time.tm_mday >= 1 && time.tm_mday <= 31 &&
                    time.tm_hour >= 0 && time.tm_hour < 24 && time.tm_min >= 0 &&
                    time.tm_min < 60 && time.tm_sec >= 0 && time.tm_sec < 60;
  if (!fits) {
    throw ConfigError(
        fmt::format("[chat] now = '{}', allowed a time such as 2024-03-09T14:05:06", text));
  }
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  time.tm_isdst = -1;
  const std::tm fields_given = time;
  ::timegm(&time);  // fills the days of the week and of the year
  std::tm result = fields_given;
  result.tm_wday = time.tm_wday;
  result.tm_yday = time.tm_yday;
  return result;
}

}  // namespace headway::text
