// Byte-level tokenizers give back any text; streaming gives the text of decode; hostile lengths
// take linear time. Not for: ids (tests/golden/text).
#include <chrono>
#include <map>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/text/json_tokenizer.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;

const JsonTokenizer& golden(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const JsonTokenizer>> loaded;
  auto& tokenizer = loaded[name];
  if (!tokenizer) {
    tokenizer = JsonTokenizer::load(
        fs::path(HEADWAY_TESTS_DIR) / "golden" / "text" / name / "tokenizer.json", false);
  }
  return *tokenizer;
}

RC_GTEST_PROP(JsonTokenizerProperty, ByteLevelDecodeOfEncodeIsTheText, ()) {
  const auto bytes = *rc::gen::arbitrary<std::string>();
  for (const char* name : {"llama3-like", "deepseek3-like", "gptoss-like", "kimi-like"}) {
    const JsonTokenizer& tokenizer = golden(name);
    const auto ids = tokenizer.encode(bytes, false);
    RC_ASSERT(tokenizer.decode(ids, false) == repair_utf8(bytes));
  }
}

RC_GTEST_PROP(JsonTokenizerProperty, StreamedTextIsDecodedText, ()) {
  const auto bytes = *rc::gen::arbitrary<std::string>();
  for (const char* name : {"llama3-like", "gemma3-like", "llama2-like", "stretch-unigram"}) {
    const JsonTokenizer& tokenizer = golden(name);
    const auto ids = tokenizer.encode(bytes, true);
    const auto stream = tokenizer.stream_decoder(true);
    std::string text;
    for (const std::int64_t id : ids) text += stream->push(id);
    RC_ASSERT(text + stream->finish() == tokenizer.decode(ids, true));
  }
}

RC_GTEST_PROP(JsonTokenizerProperty, IdsDoNotDependOnOffsets, ()) {
  const auto bytes = *rc::gen::arbitrary<std::string>();
  for (const char* name : {"qwen3-like", "gemma-flags", "mistral1-like", "stretch-clip",
                           "stretch-bert-wordpiece", "stretch-falcon"}) {
    const JsonTokenizer& tokenizer = golden(name);
    const Encoding encoding = tokenizer.encode_with_offsets(bytes, true);
    RC_ASSERT(encoding.ids == tokenizer.encode(bytes, true));
    RC_ASSERT(encoding.offsets.size() == encoding.ids.size());
  }
}

std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

// A quadratic step would take minutes on these.
TEST(JsonTokenizerLimits, LongRunsTakeLinearTime) {
  const auto begin = std::chrono::steady_clock::now();
  for (const char* name :
       {"qwen3-like", "gptoss-like", "gemma3-like", "llama2-like", "metaspace-always",
        "stretch-pieces", "stretch-unigram", "stretch-bert-wordpiece"}) {
    for (const char* unit : {"a", " ", "\n", "\xE4\xB8\xAD", "A\xCC\x81", "1"}) {
      EXPECT_FALSE(golden(name).encode(repeated(unit, 100000), false).empty() &&
                   std::string_view(unit) != " " && std::string_view(unit) != "\n")
          << name << " " << unit;
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

}  // namespace
}  // namespace headway::text
