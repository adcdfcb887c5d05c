// Random damage to JSON lines and text: either a CheckpointError that names the file, or documents
// that are UTF-8. Not for: single kinds of damage (tests/unit/data/documents_test.cpp).
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/data/documents.h"
#include "headway/text/utf8.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing_support::TempFolder;

// The documents, or nothing if the file was refused.
std::optional<std::vector<std::string>> read(const std::string& bytes, SourceFormat format) {
  const TempFolder folder;
  const std::string path = folder.write("fuzzed", bytes);
  std::vector<std::string> documents;
  std::string document;
  try {
    read_documents({path, format}, "text", [&](std::string_view piece, bool last) {
      RC_ASSERT(!find_invalid_utf8(piece).has_value());
      document += piece;
      if (last) documents.push_back(std::exchange(document, ""));
    });
  } catch (const CheckpointError& error) {
    RC_ASSERT(std::string(error.what()).find("fuzzed") != std::string::npos);
    return std::nullopt;
  }
  RC_ASSERT(document.empty());
  return documents;
}

std::vector<std::string> arbitrary_texts() {
  const auto raw =
      *rc::gen::container<std::vector<std::string>>(rc::gen::container<std::string>(rc::gen::oneOf(
          rc::gen::arbitrary<char>(), rc::gen::element('"', '\\', '\n', '\r', '\0', '{', 'a'))));
  std::vector<std::string> texts;
  for (const std::string& bytes : raw) texts.push_back(text::repair_utf8(bytes));
  return texts;
}

std::string json_lines(const std::vector<std::string>& texts) {
  std::string lines;
  for (const std::string& text : texts)
    lines += nlohmann::json{{"text", text}, {"n", 1}}.dump() + "\n";
  return lines;
}

RC_GTEST_PROP(JsonLinesFuzz, WellFormedLinesRoundTrip, ()) {
  const auto texts = arbitrary_texts();
  RC_ASSERT(read(json_lines(texts), SourceFormat::kJsonl) == texts);
}

RC_GTEST_PROP(JsonLinesFuzz, DamagedLinesAreRefusedOrRead, ()) {
  std::string bytes = json_lines(arbitrary_texts()) + "{\"text\": \"last\"}";
  const int count = *rc::gen::inRange(1, 4);
  for (int i = 0; i < count; ++i) {
    const auto place = *rc::gen::inRange<std::size_t>(0, bytes.size());
    const char byte = *rc::gen::oneOf(rc::gen::arbitrary<char>(),
                                      rc::gen::element('{', '}', '[', '"', '\\', ':', '\n', 'u'));
    if (*rc::gen::arbitrary<bool>()) {
      bytes[place] = byte;
    } else {
      bytes.insert(place, 1, byte);
    }
  }
  read(bytes, SourceFormat::kJsonl);
}

RC_GTEST_PROP(TextFuzz, RandomBytesAreReadIfAndOnlyIfUtf8, ()) {
  const auto bytes = *rc::gen::container<std::string>(
      rc::gen::oneOf(rc::gen::arbitrary<char>(),
                     rc::gen::element('a', 'b', '\xC3', '\xA9', '\xE2', '\x82', '\xAC')));
  const auto documents = read(bytes, SourceFormat::kText);
  RC_ASSERT(documents.has_value() == !find_invalid_utf8(bytes).has_value());
  if (documents) RC_ASSERT(*documents == std::vector<std::string>{bytes});
}

}  // namespace
}  // namespace headway::data
