// `headway generate`: continues prompts, streaming to the terminal or as JSON.
#include <charconv>
#include <cstdio>
#include <fstream>
#include <memory>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/text_util.h"
#include "headway/engine/generator.h"

#include "cli/chat_prompt.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/sampling_options.h"

namespace headway::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string prompt;
  std::string token_ids;
  std::string prompts;
  std::string chat;
  std::string chat_template;
  engine::GenerateOptions generate;
  bool ignore_eos = false;
  bool json = false;
};

constexpr int64_t kLargestPromptFile = int64_t{1} << 30;

std::vector<int64_t> parse_token_ids(const std::string& list) {
  std::vector<int64_t> ids;
  for (const std::string& item : split(list, ',')) {
    int64_t id = 0;
    const auto parsed = std::from_chars(item.data(), item.data() + item.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != item.data() + item.size()) {
      throw ConfigError("[generate] --token-ids = '" + item +
                        "', allowed integers separated by commas");
    }
    ids.push_back(id);
  }
  return ids;
}

std::vector<int64_t> encode(const engine::LoadedModel& loaded, const std::string& text) {
  return loaded.tokenizer.require()->encode(text, true);
}

/// One line of a prompts file: {"prompt": text} or {"token_ids": […]}.
std::vector<int64_t> parse_prompt_line(const engine::LoadedModel& loaded, const std::string& line,
                                       const std::string& where) {
  const Json json = parse_json(line, where, JsonErrors::kConfig);
  if (json.is_object() && json.contains("prompt") && json["prompt"].is_string()) {
    return encode(loaded, json["prompt"].get<std::string>());
  }
  if (json.is_object() && json.contains("token_ids") && json["token_ids"].is_array()) {
    std::vector<int64_t> ids;
    for (const Json& id : json["token_ids"]) {
      if (!id.is_number_integer()) {
        throw ConfigError("[" + where + "] token_ids = " + json_summary(id) + ", allowed integers");
      }
      ids.push_back(id.get<int64_t>());
    }
    return ids;
  }
  throw ConfigError("[" + where + "] line = " + json_summary(json) +
                    ", allowed {\"prompt\": …} or {\"token_ids\": […]}");
}

std::vector<std::vector<int64_t>> read_prompts(const engine::LoadedModel& loaded,
                                               const std::string& path) {
  std::vector<std::vector<int64_t>> prompts;
  int64_t number = 0;
  for (const std::string& line : split(read_file(path, kLargestPromptFile), '\n')) {
    ++number;
    if (!trim(line).empty())
      prompts.push_back(parse_prompt_line(loaded, line, path + ":" + std::to_string(number)));
  }
  if (prompts.empty())
    throw ConfigError("[" + path + "] prompts = none, allowed at least one line");
  return prompts;
}

const char* finish_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kStopId:
      return "eos";
    case engine::FinishReason::kStopString:
      return "stop";
  }
  return "?";
}

Json result_json(const engine::GenerateResult& result, bool has_text) {
  const engine::GenerateTiming& timing = result.timing;
  Json json{{"token_ids", result.token_ids},
            {"text", nullptr},
            {"finish_reason", finish_name(result.finish)}};
  if (has_text) json["text"] = result.text;
  json["timing"] = {{"prompt_tokens", timing.prompt_tokens},
                    {"new_tokens", timing.new_tokens},
                    {"prefill_seconds", timing.prefill_seconds},
                    {"decode_seconds", timing.decode_seconds},
                    {"decode_tokens_per_second", timing.decode_tokens_per_second()},
                    {"state_bytes", result.state_bytes}};
  return json;
}

void print_timing(const engine::GenerateTiming& timing) {
  std::fprintf(stderr, "\n%lld prompt + %lld new tokens, first after %.0f ms, then %.1f tokens/s\n",
               static_cast<long long>(timing.prompt_tokens),
               static_cast<long long>(timing.new_tokens), timing.prefill_seconds * 1e3,
               timing.decode_tokens_per_second());
}

void generate_one(const engine::Generator& generator, const engine::LoadedModel& loaded,
                  const Options& options, const std::vector<int64_t>& prompt) {
  const bool has_text = loaded.tokenizer.tokenizer != nullptr;
  if (options.json)
    return print_json(result_json(generator.run(prompt, options.generate), has_text));
  if (!options.prompt.empty()) std::fwrite(options.prompt.data(), 1, options.prompt.size(), stdout);
  const engine::GenerateResult result =
      generator.run(prompt, options.generate, [](const std::string& piece) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      });
  if (!has_text) {
    for (const int64_t id : result.token_ids) std::printf("%lld ", static_cast<long long>(id));
  }
  std::printf("\n");
  print_timing(result.timing);
}

/// One JSON line per prompt, in order; prompt n draws as request n.
void generate_many(const engine::Generator& generator, const engine::LoadedModel& loaded,
                   const Options& options) {
  uint64_t request = 0;
  for (const std::vector<int64_t>& prompt : read_prompts(loaded, options.prompts)) {
    engine::GenerateOptions generate = options.generate;
    generate.request = request++;
    const Json json =
        result_json(generator.run(prompt, generate), loaded.tokenizer.tokenizer != nullptr);
    std::printf("%s\n", json.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    std::fflush(stdout);
  }
}

std::vector<int64_t> prompt_ids(const engine::LoadedModel& loaded, const Options& options) {
  if (!options.token_ids.empty()) return parse_token_ids(options.token_ids);
  if (options.chat.empty()) return encode(loaded, options.prompt);
  ChatWriter writer(loaded, options.model.model, options.chat_template);
  return writer.encode(writer.render(read_chat_file(options.chat)));
}

void run(Options& options) {
  if (!options.chat_template.empty() && options.chat.empty()) {
    throw ConfigError("[generate] --chat-template: allowed only with --chat");
  }
  const engine::LoadedModel loaded = load(options.model);
  if (!options.ignore_eos) options.generate.stop_ids = loaded.checkpoint.generation.eos_token_ids;
  const engine::Generator generator(*loaded.model, loaded.tokenizer.tokenizer);
  if (!options.prompts.empty()) return generate_many(generator, loaded, options);
  generate_one(generator, loaded, options, prompt_ids(loaded, options));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  options->generate.sampler.temperature = 0.0;
  auto* command = app.add_subcommand("generate", "Continue a prompt");
  add_model_options(*command, options->model);
  auto* input = command->add_option_group("input", "what to continue");
  input->add_option("--prompt", options->prompt, "Text");
  input->add_option("--token-ids", options->token_ids, "1,2,3: works without a tokenizer");
  input->add_option("--prompts", options->prompts,
                    "JSONL file of {\"prompt\"} or {\"token_ids\"}; a JSON line for each");
  input->add_option("--chat", options->chat,
                    "JSON file: a list of messages, or {\"messages\", \"tools\", \"kwargs\"}");
  input->require_option(1);
  command->add_option("--chat-template", options->chat_template,
                      "With --chat: FILE.jinja, or the name of one of the model's templates");
  command->add_option("--max-new-tokens", options->generate.max_new_tokens, "Tokens to add")
      ->required();
  add_sampling_options(*command, options->generate);
  command->add_flag("--ignore-eos", options->ignore_eos, "Do not stop at end-of-sequence tokens");
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
