// `headway generate`: continues prompts, streaming to the terminal or as JSON.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/batch_generator.h"
#include "headway/engine/generator.h"

#include "cli/chat_prompt.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/prompts_file.h"
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
  engine::BatchOptions batch;
  int64_t cache_mebibytes = 0;
  bool no_prefix_caching = false;
  bool ignore_eos = false;
  bool json = false;
};

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
  if (result.drafts.passes > 0) {
    json["drafts"] = {{"drafted", result.drafts.drafted},
                      {"accepted", result.drafts.accepted},
                      {"acceptance_rate", result.drafts.acceptance()},
                      {"passes", result.drafts.passes}};
  }
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
  const engine::DraftCounts& drafts = result.drafts;
  if (drafts.passes == 0) return;
  std::fprintf(stderr, "%lld of %lld draft tokens accepted (%.0f %%), %lld passes of the stack\n",
               static_cast<long long>(drafts.accepted), static_cast<long long>(drafts.drafted),
               drafts.acceptance() * 100, static_cast<long long>(drafts.passes));
}

/// All prompts in one batch; one JSON line per prompt, in order, each as soon as those before it
/// are out. Prompt n draws as request n.
void generate_many(const engine::LoadedModel& loaded, const Options& options) {
  const auto requests = read_prompts(options.prompts, loaded, options.generate);
  const bool has_text = loaded.tokenizer.tokenizer != nullptr;
  const engine::BatchGenerator generator(*loaded.model, loaded.tokenizer.tokenizer, options.batch);
  std::vector<std::optional<std::string>> lines(requests.size());
  size_t printed = 0;
  int64_t new_tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  const engine::BatchStatistics statistics =
      generator.run(requests, [&](size_t index, const engine::GenerateResult& result) {
        new_tokens += result.timing.new_tokens;
        lines[index] =
            result_json(result, has_text).dump(-1, ' ', false, Json::error_handler_t::replace);
        for (; printed < lines.size() && lines[printed]; ++printed) {
          std::printf("%s\n", lines[printed]->c_str());
          lines[printed]->clear();
        }
        std::fflush(stdout);
      });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr,
               "%zu prompts, %lld new tokens in %lld steps, %.1f tokens/s, %.1f MiB of pages, "
               "%lld prompt tokens from the prefix cache, %lld evictions\n",
               requests.size(), static_cast<long long>(new_tokens),
               static_cast<long long>(statistics.steps),
               static_cast<double>(new_tokens) / std::max(seconds, 1e-9),
               static_cast<double>(statistics.page_bytes) / (1 << 20),
               static_cast<long long>(statistics.skipped_tokens),
               static_cast<long long>(statistics.evictions));
}

std::vector<int64_t> prompt_ids(const engine::LoadedModel& loaded, const Options& options) {
  if (!options.token_ids.empty()) return parse_token_ids(options.token_ids);
  if (options.chat.empty()) return encode(loaded, options.prompt);
  const ChatPrompt writer(loaded, options.chat_template);
  return writer.encode(writer.render(read_chat_file(options.chat)));
}

void run(Options& options) {
  options.batch.memory_bytes = options.cache_mebibytes << 20;
  options.batch.prefix_caching = !options.no_prefix_caching;
  if (!options.chat_template.empty() && options.chat.empty()) {
    throw ConfigError("[generate] --chat-template: allowed only with --chat");
  }
  if (!options.prompts.empty() && options.generate.draft_tokens != 0) {
    throw ConfigError("[generate] --draft-tokens: allowed without --prompts, for one prompt");
  }
  const engine::LoadedModel loaded = load(options.model);
  if (!options.ignore_eos) options.generate.stop_ids = loaded.checkpoint.generation.eos_token_ids;
  if (!options.prompts.empty()) return generate_many(loaded, options);
  const engine::Generator generator(*loaded.model, loaded.tokenizer.tokenizer);
  generate_one(generator, loaded, options, prompt_ids(loaded, options));
}

/// Of --prompts only.
void add_batching(CLI::App& command, Options& options) {
  constexpr char kGroup[] = "Many prompts";
  command
      .add_option("--block-size", options.batch.block_size,
                  "Tokens of a page of the key/value cache")
      ->capture_default_str()
      ->group(kGroup);
  options.cache_mebibytes = options.batch.memory_bytes >> 20;
  command
      .add_option("--cache-memory", options.cache_mebibytes,
                  "MiB for pages, at most; prompts wait when it is full")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->group(kGroup);
  command.add_option("--max-batch-requests", options.batch.max_requests, "Prompts of one forward")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-batch-tokens", options.batch.max_tokens,
                  "Tokens of one forward; longer prompts run in pieces")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--no-prefix-caching", options.no_prefix_caching,
                "Run equal beginnings of prompts every time")
      ->group(kGroup);
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
                    "JSONL file of {\"prompt\"} or {\"token_ids\"}; a JSON line for each, "
                    "in order");
  input->add_option("--chat", options->chat,
                    "JSON file: a list of messages, or {\"messages\", \"tools\", \"kwargs\"}");
  input->require_option(1);
  command->add_option("--chat-template", options->chat_template,
                      "With --chat: FILE.jinja, or the name of one of the model's templates");
  command->add_option("--max-new-tokens", options->generate.max_new_tokens, "Tokens to add")
      ->required();
  add_sampling_options(*command, options->generate);
  command
      ->add_option("--draft-tokens", options->generate.draft_tokens,
                   "Tokens that multi-token prediction guesses at once; 0 = none. The tokens stay "
                   "the same")
      ->capture_default_str();
  add_batching(*command, *options);
  command->add_flag("--ignore-eos", options->ignore_eos, "Do not stop at end-of-sequence tokens");
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
