// Tokenizer files that are nearly right: every mutation either loads and then encodes and decodes,
// or throws a headway::Error that names the file. Deterministic; the number is in the failure text.
// Not for: rules with a test of their own (tests/unit/text/json_tokenizer_test.cpp).
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/text/json_tokenizer.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kWords = {"0",
                                         "-1",
                                         "1e400",
                                         "9223372036854775807",
                                         "18446744073709551616",
                                         "16777216",
                                         "null",
                                         "true",
                                         "[]",
                                         "{}",
                                         "\"\"",
                                         "\"\\u0000\"",
                                         "\"\\ud800\"",
                                         "[[[[[[[[[[",
                                         "}",
                                         "]",
                                         ",",
                                         ":",
                                         "\xFF",
                                         "\"[\"",
                                         "\"(?<=a*)\"",
                                         "\"(a+)+$\"",
                                         "\"\\\\p{Nope}\"",
                                         "\"a b\"",
                                         "\"a b c\"",
                                         "[\"a\",\"b\"]",
                                         "\"type\":\"Sequence\",",
                                         "\"type\":\"ByteLevel\",",
                                         "\"type\":\"Unigram\",",
                                         "\"type\":\"Precompiled\",",
                                         "\"byte_fallback\":true,",
                                         "\"ignore_merges\":true,",
                                         "\"unk_token\":\"zzz\",",
                                         "\"continuing_subword_prefix\":\"##\",",
                                         "\"end_of_word_suffix\":\"</w>\",",
                                         "\"special\":true,",
                                         "\"rstrip\":true,",
                                         "\"single_word\":true,",
                                         "\"dropout\":0.5,",
                                         "\"prepend_scheme\":\"first\","};

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string mutate(std::string text) {
    const auto edits = 1 + below(3);
    for (std::size_t i = 0; i < edits; ++i) edit(text);
    return text;
  }

 private:
  std::size_t below(std::size_t end) { return end == 0 ? 0 : random_() % end; }

  void edit(std::string& text) {
    if (text.empty()) return;
    const std::size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text.insert(at, kWords[below(kWords.size())]);
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        text[at] = static_cast<char>(random_());
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), below(60)));
        break;
      case 4:
        replace_token(text, at);
        break;
      default:
        text.resize(at);
    }
  }

  // Puts a word in place of the JSON token at `at`.
  void replace_token(std::string& text, std::size_t at) {
    const std::size_t begin = text.find_last_of(":,[{", at);
    const std::size_t end = text.find_first_of(",]}", at);
    if (begin == std::string::npos || end == std::string::npos) return;
    text.replace(begin + 1, end - begin - 1, kWords[below(kWords.size())]);
  }

  std::mt19937_64 random_;
};

// A small tokenizer for every model and many stages; mutations of large files mostly hit the
// vocabulary.
std::vector<std::string> seeds() {
  std::vector<std::string> texts;
  const fs::path folder = fs::path(HEADWAY_TESTS_DIR) / "fuzz" / "text" / "corpus";
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) texts.push_back(read_file(file.string(), 1 << 20));
  return texts;
}

void use(const JsonTokenizer& tokenizer) {
  for (const char* text : {"ab  abc\n", "a<s>b \xC3\xA9\xF0\x9F\x98\x80 12 \xFF", ""}) {
    const auto ids = tokenizer.encode(text, true);
    tokenizer.encode_with_offsets(text, false);
    tokenizer.decode(ids, true);
    const auto stream = tokenizer.stream_decoder(true);
    for (const std::int64_t id : ids) stream->push(id);
    stream->finish();
    for (const std::int64_t id : ids) EXPECT_LT(id, tokenizer.vocab_size());
  }
  tokenizer.decode(std::vector<std::int64_t>{-1, 0, 1, 2, 300, 1 << 30}, false);
  tokenizer.encode_padded("ab ab ab ab ab", true);
}

TEST(TokenizerFuzz, SeedsLoadOrAreRefused) {
  int loaded = 0;
  for (const std::string& text : seeds()) {
    try {
      use(JsonTokenizer(text, "seed.json"));
      ++loaded;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("seed.json"), std::string::npos) << error.what();
    }
  }
  EXPECT_GE(loaded, 5);
}

TEST(TokenizerFuzz, MutationsLoadOrThrow) {
  const std::vector<std::string> texts = seeds();
  int loaded = 0;
  int refused = 0;
  for (std::uint64_t number = 0; number < 3000; ++number) {
    Mutator mutator(number);
    const std::string text = mutator.mutate(texts[number % texts.size()]);
    SCOPED_TRACE(number);
    try {
      use(JsonTokenizer(text, "mutant.json"));
      ++loaded;
    } catch (const Error& error) {
      ++refused;
      EXPECT_FALSE(std::string(error.what()).empty());
    }
  }
  EXPECT_GT(loaded, 20);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace headway::text
