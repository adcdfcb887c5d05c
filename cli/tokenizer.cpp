// `headway tokenizer train`: learns a vocabulary from files.
// Not for: using a tokenizer (tokenize.cpp).
#include "cli/tokenizer.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/data/documents.h"
#include "headway/text/bpe_trainer.h"

#include "cli/command.h"

namespace headway::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  int64_t vocab_size = 0;
  std::string out;
  std::vector<std::string> files;
  std::vector<std::string> special = {"<|endoftext|>"};
  std::string text_field = "text";
  int64_t min_count = 1;
  bool json = false;
};

void check_out(const fs::path& out) {
  std::error_code ignored;
  if (fs::exists(out / "tokenizer.json", ignored)) {
    throw ConfigError("[tokenizer] --out = " + out.string() +
                      ", allowed a folder without a tokenizer.json");
  }
}

void run(const Options& options) {
  check_out(options.out);
  text::BpeTrainer trainer({options.vocab_size, options.special, options.min_count});
  for (const data::SourceFile& file : data::find_sources(options.files, "FILES").files) {
    std::fprintf(stderr, "reading %s\n", file.path.c_str());
    data::read_documents(file, options.text_field, [&](std::string_view piece, bool last) {
      trainer.feed(piece);
      if (last) trainer.end_document();
    });
  }
  auto shown = std::chrono::steady_clock::now();
  const std::string tokenizer = trainer.train([&](int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - shown < std::chrono::seconds(1)) return;
    shown = now;
    std::fprintf(stderr, "tokens %lld of %lld\n", static_cast<long long>(done),
                 static_cast<long long>(total));
  });
  fs::create_directories(options.out);
  write_file_atomically((fs::path(options.out) / "tokenizer.json").string(), tokenizer);
  write_file_atomically((fs::path(options.out) / "tokenizer_config.json").string(),
                        trainer.config());
  if (trainer.learned() < options.vocab_size) {
    std::fprintf(stderr, "%lld tokens of %lld: no pair of neighbours is left to merge\n",
                 static_cast<long long>(trainer.learned()),
                 static_cast<long long>(options.vocab_size));
  }
  if (options.json) {
    return print_json({{"vocab_size", trainer.learned()}, {"out", options.out}});
  }
  std::printf("%s: %lld tokens\n", options.out.c_str(), static_cast<long long>(trainer.learned()));
}

}  // namespace

void add_tokenizer(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* group = app.add_subcommand("tokenizer", "Learn a tokenizer");
  group->require_subcommand(1);
  auto* train = group->add_subcommand("train", "Byte-level BPE from text or .jsonl files");
  train
      ->add_option("files", options->files,
                   "Text files, .jsonl with a text field, or folders of them")
      ->required();
  train
      ->add_option("--vocab-size", options->vocab_size,
                   "Tokens: 256 bytes, special tokens, and merges up to this")
      ->required();
  train->add_option("--out", options->out, "Folder for tokenizer.json and tokenizer_config.json")
      ->required();
  train->add_option("--special", options->special, "Special tokens; the first ends a document")
      ->capture_default_str();
  train->add_option("--text-field", options->text_field, "Field of .jsonl lines")
      ->capture_default_str();
  train->add_option("--min-count", options->min_count, "Pairs seen less often are not merged")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  train->add_flag("--json", options->json, "Machine-readable output on stdout");
  train->callback([options] { run(*options); });
}

}  // namespace headway::cli
