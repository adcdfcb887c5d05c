// Damaged run files and specs, by a fixed stream of mutations over a corpus: whatever comes in, the
// answer is a config or a headway::Error. Not for: the texts of single errors (tests/unit/config).
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/config/load.h"
#include "headway/spec/describe.h"
#include "headway/spec/from_config.h"
#include "headway/spec/spec_json.h"

namespace headway {
namespace {

struct Counts {
  int accepted = 0;
  int refused = 0;
};

// HEADWAY_TESTS_DIR is set by the build.
std::vector<std::string> corpus() {
  std::vector<std::filesystem::path> paths;
  const auto folder = std::filesystem::path(HEADWAY_TESTS_DIR) / "fuzz/config/corpus";
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    texts.push_back(text.str());
  }
  return texts;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  std::string mutate(std::string text, const std::string& other) {
    const size_t changes = 1 + below(4);
    for (size_t i = 0; i < changes; ++i) change(text, other);
    return text;
  }

 private:
  void change(std::string& text, const std::string& other) {
    const size_t at = below(text.size() + 1);
    const size_t length = std::min(below(24), text.size() - at);
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      case 3:
        text.insert(at, other.substr(below(other.size() + 1), below(60)));
        break;
      case 4:
        text.resize(at);
        break;
      case 5:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      default:
        text.insert(at, word());
    }
  }

  std::string word() {
    static const std::vector<std::string> kWords = {
        "{",     "}",     "[",     "]",           ": ",    "- ",    "\n",    "  ",
        "&a ",   "*a",    "!!int", "!x ",         "'",     "\"",    "|\n",   ">\n",
        "? ",    "0",     "-1",    "1e308",       "1e999", ".nan",  ".inf",  "none",
        "null",  "~",     "true",  "99999999999", "#",     "---\n", "...\n", "%TAG",
        "<<: ",  "\xFF",  "\xC3",  "\t",          ",",     "0x",    "@",     "`",
        "model", "rope",  "gate",  "false",       "yarn:", "\r",    "\\",    "\xEF\xBB\xBF",
        "0.125", "layers"};
    return kWords[below(kWords.size())];
  }

  std::mt19937_64 random_;
};

// Only headway::Error may leave; messages are text that a terminal can show.
template <class Action>
void run(Action&& action, const std::string& input, Counts& counts) {
  try {
    action();
    ++counts.accepted;
  } catch (const Error& error) {
    ++counts.refused;
    ASSERT_NE(std::string(error.what()), "") << input;
  } catch (const std::exception& error) {
    FAIL() << "not a headway::Error: " << error.what() << "\ninput:\n" << input;
  }
}

void take_run(const std::string& text, const std::string& source,
              const std::vector<std::string>& overrides) {
  const config::RunConfig run = config::parse_run(text, source, overrides);
  ASSERT_EQ(config::parse_run(config::to_yaml(run), "again.yaml", {}), run) << config::to_yaml(run);
  if (run.model.hf || run.model.num_layers.value_or(1) > 64) return;
  const spec::ModelSpec spec = spec::resolve(run.model, 256);
  ASSERT_EQ(spec::spec_from_json(spec::to_json(spec), "spec"), spec);
  ASSERT_FALSE(spec::describe_text(spec).empty());
  ASSERT_FALSE(spec::describe_json(spec).empty());
}

constexpr int kRounds = 6000;

TEST(FuzzConfig, CorpusItselfIsAccepted) {
  Counts counts;
  for (const std::string& text : corpus()) run([&] { take_run(text, "x.yaml", {}); }, text, counts);
  EXPECT_EQ(counts.refused, 0);
  EXPECT_EQ(counts.accepted, 4);
}

TEST(FuzzConfig, RunFiles) {
  const auto texts = corpus();
  Mutator mutator(20240601);
  Counts counts;
  for (int round = 0; round < kRounds; ++round) {
    const std::string text =
        mutator.mutate(texts[mutator.below(texts.size())], texts[mutator.below(texts.size())]);
    const std::string source = mutator.below(4) == 0 ? "x.json" : "x.yaml";
    run([&] { take_run(text, source, {}); }, text, counts);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(counts.accepted, 100);
  EXPECT_GT(counts.refused, 1000);
}

TEST(FuzzConfig, Overrides) {
  const auto texts = corpus();
  const std::vector<std::string> seeds = {
      "model.pattern.1=local",
      "train.optimizer.betas=[0.1, 0.2]",
      "model.blocks.local.attention.rope={kind: linear, factor: 2}",
      "data.train[0]=x",
      "train.schedule=wsd",
      "output='a=b'"};
  Mutator mutator(7);
  Counts counts;
  for (int round = 0; round < kRounds / 2; ++round) {
    const std::string text =
        mutator.mutate(seeds[mutator.below(seeds.size())], seeds[mutator.below(seeds.size())]);
    run([&] { take_run(texts[mutator.below(2)], "x.yaml", {text}); }, text, counts);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(counts.accepted, 20);
  EXPECT_GT(counts.refused, 100);
}

TEST(FuzzConfig, Specs) {
  config::LoadOptions look;
  look.needs_training = false;
  std::vector<std::string> texts;
  for (const std::string& text : corpus()) {
    const config::ModelConfig model = config::parse_run(text, "x.yaml", {}, look).model;
    if (!model.hf) texts.push_back(spec::to_json(spec::resolve(model, 256)).dump());
  }
  Mutator mutator(99);
  Counts counts;
  for (int round = 0; round < kRounds / 2; ++round) {
    const std::string text =
        mutator.mutate(texts[mutator.below(texts.size())], texts[mutator.below(texts.size())]);
    run([&] { spec::describe_text(spec::spec_from_json(parse_json(text, "spec"), "spec")); }, text,
        counts);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(counts.refused, 100);
}

}  // namespace
}  // namespace headway
