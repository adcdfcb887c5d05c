// `headway bench`: timings with spread, ratios against libtorch in the same run, share of the
// measured peak.
// Not for: transformers as a baseline (tools/compare_hf.py drives --on-request).
#include <cstdio>
#include <iostream>
#include <memory>

#include <ATen/Parallel.h>

#include "headway/base/error.h"
#include "headway/base/version.h"
#include "headway/engine/machine.h"

#include "cli/bench/folder.h"
#include "cli/bench/harness.h"
#include "cli/bench/tokenizer.h"
#include "cli/command.h"

namespace headway::cli {
namespace {

struct Options {
  std::string name;
  bench::Settings settings;
  bench::FolderWork folder;
  bench::TokenizerWork tokenizer;
  bool on_request = false;
  bool json = false;
};

constexpr const char* kFolderNames = "step | decode";

const bench::CaseSet& find_set(const std::string& name) {
  std::string names;
  for (const bench::CaseSet& set : bench::case_sets()) {
    if (set.name == name) return set;
    names += (names.empty() ? "" : " | ") + set.name;
  }
  throw ConfigError("[bench] NAME = '" + name + "', allowed " + names);
}

bench::Round make_round(const Options& options) {
  if (options.name == "step") return bench::make_step_round(options.folder);
  if (options.name == "decode") return bench::make_decode_round(options.folder);
  throw ConfigError("[bench] NAME = '" + options.name + "', allowed with --model " + kFolderNames);
}

/// A line {"ready"} when the model is loaded, then one JSON line for every line on stdin.
void answer_requests(const bench::Round& round) {
  std::cout << Json{{"ready", true}, {"threads", at::get_num_threads()}}.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) std::cout << round().dump() << std::endl;
}

void run_folder(const Options& options) {
  const bench::Round round = make_round(options);
  if (options.on_request) return answer_requests(round);
  double tokens = round()["tokens"].get<double>();  // warm-up
  std::vector<double> seconds;
  for (int i = 0; i < options.settings.rounds; ++i) seconds.push_back(round()["seconds"]);
  bench::Result result;
  result.name = options.name;
  result.seconds = bench::spread_of(seconds);
  result.tokens_per_s = tokens / result.seconds.median;
  if (!options.json) {
    std::printf("%s\n", bench::to_line(result).c_str());
    return;
  }
  const double peak_gib = static_cast<double>(engine::peak_memory_bytes(at::kCPU)) / (1 << 30);
  print_json({{"bench", options.name},
              {"version", std::string(version())},
              {"threads", at::get_num_threads()},
              {"peak_memory_gib", peak_gib},
              {"results", Json::array({bench::to_json(result)})}});
}

void run_built_in(Options options) {
  const bench::CaseSet& set = find_set(options.name);
  options.settings.peak_flops = engine::measure_peak_flops(at::kFloat, at::kCPU);
  Json results = Json::array();
  for (const bench::Case& work : set.make()) {
    const bench::Result result = bench::measure(work, options.settings);
    results.push_back(bench::to_json(result));
    if (!options.json) std::printf("%s\n", bench::to_line(result).c_str());
  }
  const double peak_gib = static_cast<double>(engine::peak_memory_bytes(at::kCPU)) / (1 << 30);
  if (options.json) {
    return print_json({{"bench", set.name},
                       {"version", std::string(version())},
                       {"threads", at::get_num_threads()},
                       {"peak_gflops", options.settings.peak_flops / 1e9},
                       {"peak_memory_gib", peak_gib},
                       {"results", results}});
  }
  std::printf("%d threads, GEMM peak %.0f GFLOP/s, peak memory %.2f GiB\n", at::get_num_threads(),
              options.settings.peak_flops / 1e9, peak_gib);
}

void run_tokenizer(const Options& options) {
  if (options.tokenizer.tokenizer.empty() || options.tokenizer.file.empty()) {
    throw ConfigError("[bench] --tokenizer, --file: missing, required with tokenizer");
  }
  const bench::TokenizerCases work = bench::tokenizer_cases(options.tokenizer);
  Json results = Json::array();
  for (const bench::Case& one : work.cases) {
    const bench::Result result = bench::measure(one, options.settings);
    Json json = bench::to_json(result);
    json["mb_per_s"] = work.bytes / 1e6 / result.seconds.median;
    results.push_back(json);
    if (!options.json) {
      std::printf("%s  %.1f MB/s\n", bench::to_line(result).c_str(),
                  work.bytes / 1e6 / result.seconds.median);
    }
  }
  if (!options.json) return;
  print_json({{"bench", "tokenizer"},
              {"version", std::string(version())},
              {"threads", 1},
              {"bytes", work.bytes},
              {"results", results}});
}

void run(const Options& options) {
  if (options.name == "tokenizer") return run_tokenizer(options);
  if (!options.folder.model.model.empty()) return run_folder(options);
  if (options.name == "step") throw ConfigError("[bench] --model: missing, required with step");
  if (options.on_request) throw ConfigError("[bench] --on-request: allowed only with --model");
  run_built_in(options);
}

void add_folder_options(CLI::App& command, Options& options) {
  bench::FolderWork& work = options.folder;
  command.add_option("--model", work.model.model, "With step or decode: this model folder");
  command.add_option("--dtype", work.model.dtype, "float32 | float64 | bfloat16 (with --model)")
      ->capture_default_str();
  command.add_option("--device", work.model.device, "cpu | cuda (with --model)")
      ->capture_default_str();
  command.add_option("--tokens", work.tokens, "safetensors file: input_ids [B,S] (with --model)");
  command.add_option("--batch", work.batch, "Drawn sequences, without --tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--length", work.length, "Tokens of each, without --tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--lr", work.lr, "Of step with --model")->capture_default_str();
  command.add_option("--new-tokens", work.new_tokens, "Of decode with --model")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command.add_flag("--on-request", options.on_request,
                   "With --model: one round and one JSON line for every line on stdin");
}

std::string help_text() {
  std::string text = "Time this build:";
  for (const bench::CaseSet& set : bench::case_sets()) text += "\n  " + set.name + ": " + set.help;
  text += "\n  tokenizer: encoding of a text (--tokenizer, --file) on one thread";
  return text + "\n  step: forward, backward and AdamW on the model of a folder (--model)";
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("bench", help_text());
  command
      ->add_option("name", options->name,
                   "attention | rows | delta_rule | head | train | decode | recompute | "
                   "tokenizer | step")
      ->required();
  command->add_option("--rounds", options->settings.rounds, "Most counted runs of a case")
      ->check(CLI::Range(3, 1000))
      ->capture_default_str();
  command
      ->add_option("--seconds", options->settings.seconds, "Fewer rounds when a case takes longer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_folder_options(*command, *options);
  command->add_option("--tokenizer", options->tokenizer.tokenizer,
                      "With tokenizer: bytes, a folder, or a tokenizer file");
  command->add_option("--file", options->tokenizer.file, "With tokenizer: the text");
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
