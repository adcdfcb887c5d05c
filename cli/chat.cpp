// `headway chat`: a conversation with a model, turn by turn, on a terminal or through pipes.
#include <cstdio>
#include <iostream>
#include <memory>

#include <unistd.h>

#include "headway/base/text_util.h"
#include "headway/engine/conversation.h"
#include "headway/engine/generator.h"

#include "cli/answer_printer.h"
#include "cli/chat_prompt.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/sampling_options.h"
#include "cli/stop_signal.h"

namespace headway::cli {
namespace {

using text::jinja::Dict;
using text::jinja::Value;

struct Options {
  ModelOptions model;
  std::string system;
  std::string chat_template;
  engine::GenerateOptions generate;
  bool stats = false;
};

Value message(const char* role, const std::string& content) {
  auto result = std::make_shared<Dict>();
  result->set("role", role);
  result->set("content", content);
  return result;
}

class Chat {
 public:
  Chat(const Options& options, const engine::LoadedModel& loaded)
      : options_(options),
        generator_(*loaded.model, loaded.tokenizer.require()),
        conversation_(loaded.checkpoint.spec),
        writer_(loaded, options.chat_template),
        generate_(options.generate),
        out_is_terminal_(::isatty(STDOUT_FILENO) != 0),
        interrupted_(interrupt_flag()) {
    generate_.stop_ids = loaded.checkpoint.generation.eos_token_ids;
    if (const auto eos = loaded.tokenizer.require()->eos_id()) generate_.stop_ids.push_back(*eos);
    conversation_.interrupted = [this] { return interrupted_.load(); };
    reset();
    writer_.render(request());  // a folder without a template is refused before the first question
  }

  void run() {
    const bool ask = ::isatty(STDIN_FILENO) != 0;
    std::string line;
    for (;;) {
      if (ask) std::fputs("> ", stderr);
      if (!std::getline(std::cin, line)) break;
      const std::string question(trim(line));
      if (question.empty()) continue;
      if (question == "/exit") break;
      if (question == "/reset") {
        reset();
      } else if (question.starts_with('/')) {
        std::fprintf(stderr, "unknown command %s, allowed /reset | /exit\n",
                     printable(question).c_str());
      } else {
        answer(question);
      }
    }
  }

 private:
  void reset() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back(message("system", options_.system));
    conversation_.clear();
  }

  text::ChatRequest request() const {
    text::ChatRequest result;
    result.messages = text::jinja::make_list(messages_);
    result.variables.emplace_back("add_generation_prompt", true);
    return result;
  }

  void answer(const std::string& question) {
    messages_.push_back(message("user", question));
    std::string prompt;
    std::vector<int64_t> ids;
    try {
      prompt = writer_.render(request());
      ids = writer_.encode(prompt);
    } catch (const text::jinja::TemplateError& error) {
      std::fprintf(stderr, "headway: the template refuses: %s\n", error.what());
      messages_.pop_back();
      return;
    }
    AnswerPrinter printer(stdout, out_is_terminal_, trim(prompt).ends_with("<think>"));
    interrupted_.store(false);
    const engine::GenerateResult result = generator_.run(
        ids, generate_, [&printer](const std::string& piece) { printer.push(piece); },
        &conversation_);
    printer.finish();
    std::fputc('\n', stdout);
    std::fflush(stdout);
    ++generate_.request;
    remember(printer);
    if (options_.stats) print_stats(result);
  }

  void remember(const AnswerPrinter& printer) {
    Value said = message("assistant", printer.answer());
    if (printer.has_thinking()) said.object<Dict>().set("reasoning_content", printer.thinking());
    messages_.push_back(std::move(said));
  }

  void print_stats(const engine::GenerateResult& result) const {
    std::fprintf(stderr, "%lld of %lld prompt tokens reused, %lld new, %.1f tokens/s\n",
                 static_cast<long long>(conversation_.reused_tokens()),
                 static_cast<long long>(result.timing.prompt_tokens),
                 static_cast<long long>(result.timing.new_tokens),
                 result.timing.decode_tokens_per_second());
  }

  const Options& options_;
  engine::Generator generator_;
  engine::Conversation conversation_;
  ChatPrompt writer_;
  engine::GenerateOptions generate_;
  bool out_is_terminal_;
  std::atomic<bool>& interrupted_;
  text::jinja::Values messages_;
};

void run(const Options& options) {
  const engine::LoadedModel loaded = load(options.model);
  Chat(options, loaded).run();
}

}  // namespace

void add_chat(CLI::App& app) {
  auto options = std::make_shared<Options>();
  options->generate.max_new_tokens = 1024;
  auto* command = app.add_subcommand(
      "chat", "Talk with a model: a line a turn, /reset to start anew, /exit to leave");
  add_model_options(*command, options->model);
  command->add_option("--system", options->system, "Text of a system message at the start");
  command->add_option("--chat-template", options->chat_template,
                      "FILE.jinja, or the name of one of the model's templates");
  command
      ->add_option("--max-new-tokens", options->generate.max_new_tokens,
                   "Longest answer; Ctrl-C ends one too")
      ->capture_default_str();
  add_sampling_options(*command, options->generate);
  command->add_flag("--stats", options->stats, "Tokens and speed of every turn on stderr");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
