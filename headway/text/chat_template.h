// Chat templates as transformers renders them: Jinja with its settings, the variables every
// template may expect, aliases for reasoning fields, the cut of a message to be continued. Not for:
// finding the template of a model (chat_format.h), nor Jinja itself (jinja/).
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/jinja/ast.h"
#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/json_text.h"

namespace headway::text {

/// What is rendered. Values come from jinja::parse_json_value.
struct ChatRequest {
  jinja::Value messages;       // a list of mappings
  jinja::Value tools;          // a list of schemas, or none
  jinja::Variables variables;  // add_generation_prompt, bos_token, enable_thinking, documents, …
  std::optional<std::tm> now;  // the clock of strftime_now; the local time if absent
};

struct RenderedChat {
  std::string text;
  std::vector<jinja::Span> generation_spans;  // characters made inside generation blocks
};

/// A parsed template. Immutable and usable from several threads at once.
/// Errors: jinja::TemplateError, with the kind of the Python exception that the reference raises.
/// Source: transformers 5.23, utils/chat_template_utils.py, render_jinja_template.
/// Test: tests/golden/text/chat_template_test.cpp
class ChatTemplate {
 public:
  explicit ChatTemplate(std::string source);

  RenderedChat render(const ChatRequest& request, const jinja::Limits& limits = {}) const;
  /// Whether the template marks what the assistant says, so that losses can be masked.
  bool has_generation_spans() const { return parsed_->has_generation; }
  const std::string& source() const { return source_; }

 private:
  std::string source_;
  std::shared_ptr<const jinja::Template> parsed_;
};

/// "2024-03-09T14:05:06". Errors: ConfigError.
std::tm parse_clock(std::string_view text);

}  // namespace headway::text
