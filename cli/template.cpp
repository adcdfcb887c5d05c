// `headway template`: chat templates rendered line by line, or the template of a model shown.
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/text_util.h"
#include "headway/text/chat_template.h"

#include "cli/command.h"

namespace headway::cli {
namespace {

using text::jinja::Dict;
using text::jinja::Type;
using text::jinja::Value;

constexpr int64_t kLargestTemplate = int64_t{16} << 20;

struct Options {
  std::string file;
  bool jsonl = false;
};

const Value* field(const Value& request, const char* name) {
  const Value* found = request.object<Dict>().get(name);
  return found == nullptr || found->is_none() ? nullptr : found;
}

text::ChatRequest chat_request(const Value& line, const std::string& where) {
  text::ChatRequest request;
  const Value* messages = field(line, "messages");
  request.messages = messages == nullptr ? text::jinja::make_list({}) : *messages;
  if (const Value* tools = field(line, "tools")) request.tools = *tools;
  if (const Value* kwargs = field(line, "kwargs")) {
    if (!kwargs->is(Type::kDict)) {
      throw ConfigError("[" + where + "] kwargs = " + text::jinja::type_name(*kwargs) +
                        ", allowed an object");
    }
    for (const auto& [name, value] : kwargs->object<Dict>().items) {
      request.variables.emplace_back(name.text(), value);
    }
  }
  if (const Value* now = field(line, "now")) {
    if (!now->is_str()) throw ConfigError("[" + where + "] now = no text, allowed a time");
    request.now = text::parse_clock(now->text());
  }
  return request;
}

Json spans_json(const std::vector<text::jinja::Span>& spans) {
  Json list = Json::array();
  for (const auto& span : spans) list.push_back({span.begin, span.end});
  return list;
}

/// Templates that lines carry with them, parsed once each. Few differ, so the newest is kept.
class LineTemplates {
 public:
  explicit LineTemplates(std::optional<std::string> standard) : standard_(std::move(standard)) {}

  const text::ChatTemplate& get(const Value& line, const std::string& where) {
    const Value* own = field(line, "template");
    if (own != nullptr && !own->is_str()) {
      throw ConfigError("[" + where + "] template = no text, allowed a template");
    }
    if (own == nullptr && !standard_) {
      throw ConfigError("[" + where +
                        "] template = absent, allowed a text; hint: or name a FILE.jinja");
    }
    const std::string& source = own != nullptr ? own->text() : *standard_;
    if (!newest_ || newest_->source() != source) {
      newest_ = std::make_unique<text::ChatTemplate>(source);
    }
    return *newest_;
  }

 private:
  std::optional<std::string> standard_;
  std::unique_ptr<text::ChatTemplate> newest_;
};

Json answer(LineTemplates& templates, const std::string& text, int64_t number) {
  const std::string where = "stdin:" + std::to_string(number);
  const Value line = text::jinja::parse_json_value(text, where);
  if (!line.is(Type::kDict)) {
    throw ConfigError("[" + where + "] line = " + text::jinja::type_name(line) +
                      ", allowed an object with \"messages\"");
  }
  const text::ChatRequest request = chat_request(line, where);
  try {
    const text::ChatTemplate& chat = templates.get(line, where);
    const text::RenderedChat rendered = chat.render(request);
    return {{"rendered", rendered.text},
            {"generation_spans", spans_json(rendered.generation_spans)}};
  } catch (const text::jinja::TemplateError& error) {
    return {{"error", error.what()}, {"error_kind", text::jinja::error_kind_name(error.kind())}};
  }
}

void run(const Options& options) {
  std::optional<std::string> source;
  if (!options.file.empty()) source = read_file(options.file, kLargestTemplate);
  LineTemplates templates(source);
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (trim(line).empty()) continue;
    std::cout
        << answer(templates, line, number).dump(-1, ' ', false, Json::error_handler_t::replace)
        << '\n';
  }
}

}  // namespace

void add_template(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("template", "Render chat templates");
  command->add_option("file", options->file, "FILE.jinja, unless every line has a \"template\"");
  command
      ->add_flag("--jsonl", options->jsonl,
                 "Lines {\"messages\", \"tools\", \"kwargs\", \"now\", \"template\"} on stdin, one "
                 "answer a line")
      ->required();
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
