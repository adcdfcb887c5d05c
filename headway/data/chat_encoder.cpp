// See chat_encoder.h. Not for: files.
#include "headway/data/chat_encoder.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/content_hash.h"
#include "headway/base/enum_table.h"
#include "headway/base/error.h"
#include "headway/text/learned_chat.h"

namespace headway::data {
namespace {

/// Tokens that overlap characters [span.begin, span.end), which are in order. None: empty.
TokenSpan tokens_of(const std::vector<text::Offset>& offsets, const text::jinja::Span& span) {
  const auto overlaps = [&](const text::Offset& offset) {
    return offset.begin < span.end && offset.end > span.begin;
  };
  const auto first = std::ranges::find_if(offsets, overlaps);
  if (first == offsets.end()) return {};
  auto last = offsets.end();
  while (!overlaps(*--last)) {
  }
  return {first - offsets.begin(), last - offsets.begin() + 1};
}

}  // namespace

ChatEncoder::ChatEncoder(const config::ChatDataConfig& config, const std::string& folder)
    : writer_(text::find_chat_format(folder), config.chat_template.value_or("")),
      plain_(writer_.choose(/*has_tools=*/false)),
      last_only_(config.turns == config::ChatTurns::kLast) {}

EncodedChat ChatEncoder::encode(const text::Tokenizer& tokenizer, std::string_view line,
                                const std::string& where) const {
  try {
    const text::ChatRequest request =
        text::parse_chat(text::jinja::parse_json_value(line, where), where);
    const text::LearnedChat chat = text::write_learned(writer_, request, last_only_, where);
    text::Encoding encoding = tokenizer.encode_with_offsets(chat.text, /*add_special=*/false);
    EncodedChat result;
    for (const text::jinja::Span& span : chat.spans) {
      TokenSpan tokens = tokens_of(encoding.offsets, span);
      // A token may hold the end of one turn and the start of the next.
      if (!result.learned.empty()) tokens.begin = std::max(tokens.begin, result.learned.back().end);
      if (tokens.begin < tokens.end) result.learned.push_back(tokens);
    }
    result.ids = std::move(encoding.ids);
    return result;
  } catch (const ConfigError& error) {
    throw CheckpointError(error.what());  // what is wrong stands in a data file
  }
}

std::string ChatEncoder::fingerprint() const {
  return ContentHash().field("chat").field(writer_.fingerprint()).field(last_only_ ? 1 : 0).hex();
}

}  // namespace headway::data
