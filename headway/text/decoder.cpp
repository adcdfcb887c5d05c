// What each decoder step does.
// Not for: reading it from JSON (decoder_parse.cpp).
#include "headway/text/decoder.h"

#include <algorithm>
#include <optional>

#include "headway/base/text_util.h"
#include "headway/text/byte_alphabet.h"
#include "headway/text/unicode.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

using Tokens = std::vector<std::string>;

constexpr const char* kReplacement = "\xEF\xBF\xBD";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::string out;
  std::size_t at = 0;
  for (std::size_t found = text.find(from); found != std::string::npos;
       found = text.find(from, at)) {
    out.append(text, at, found - at);
    out += to;
    at = found + from.size();
  }
  if (at == 0) return;
  out.append(text, at);
  text = std::move(out);
}

// Spaces that English tokenization left before punctuation and contractions.
void clean_up(std::string& text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]);
  const int low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

void apply(const ByteLevelDecoder&, Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_byte_level(token, bytes);
  tokens.assign(1, repair_utf8(bytes));
}

void apply(const ByteFallbackDecoder&, Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (!find_invalid_utf8(bytes)) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), kReplacement);
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = byte_token(token)) {
      bytes += *byte;
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

void apply(const FuseDecoder&, Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens.assign(1, all);
}

void apply(const StripDecoder& step, Tokens& tokens) {
  for (std::string& token : tokens) {
    std::string_view rest = token;
    for (std::size_t i = 0; i < step.start && rest.starts_with(step.content); ++i) {
      rest.remove_prefix(step.content.size());
    }
    for (std::size_t i = 0; i < step.stop && rest.ends_with(step.content); ++i) {
      rest.remove_suffix(step.content.size());
    }
    token = std::string(rest);
  }
}

void apply(const ReplaceDecoder& step, Tokens& tokens) {
  std::vector<Stretch> stretches;
  for (std::string& token : tokens) {
    if (!step.pattern.is_regex()) {
      replace_all(token, step.pattern.source(), step.content);
      continue;
    }
    stretches.clear();
    step.pattern.stretches(token, stretches);
    std::string out;
    for (const Stretch& stretch : stretches) {
      out +=
          stretch.is_match ? step.content : token.substr(stretch.span.begin, stretch.span.size());
    }
    token = std::move(out);
  }
}

void apply(const MetaspaceDecoder& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    replace_all(tokens[i], step.replacement, i == 0 && step.drop_first ? "" : " ");
  }
}

void apply(const WordPieceDecoder& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::string& token = tokens[i];
    if (i != 0) {
      if (token.starts_with(step.prefix)) {
        token.erase(0, step.prefix.size());
      } else {
        token.insert(token.begin(), ' ');
      }
    }
    if (step.cleanup) clean_up(token);
  }
}

void apply(const BpeDecoder& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    replace_all(tokens[i], step.suffix, i + 1 == tokens.size() ? "" : " ");
  }
}

void apply(const CtcDecoder& step, Tokens& tokens) {
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  Tokens out;
  for (std::string& token : tokens) {
    replace_all(token, step.pad, "");
    if (step.cleanup) {
      clean_up(token);
      replace_all(token, step.delimiter, " ");
    }
    if (!token.empty()) out.push_back(std::move(token));
  }
  tokens = std::move(out);
}

}  // namespace

void append_byte_level(std::string_view token, std::string& bytes) {
  const std::size_t first = bytes.size();
  for (std::size_t at = 0; at < token.size();) {
    const DecodedPoint decoded = decode_point(token, at);
    const auto byte = character_to_byte(decoded.point);
    if (!byte) {
      bytes.resize(first);
      bytes += token;
      return;
    }
    bytes += static_cast<char>(*byte);
    at += decoded.length;
  }
}

std::string decode_tokens(const std::vector<Decoder>& steps, std::vector<std::string> tokens) {
  for (const Decoder& step : steps) {
    std::visit([&](const auto& kind) { apply(kind, tokens); }, step);
  }
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (steps.empty() && i > 0) text += ' ';
    text += tokens[i];
  }
  return text;
}

bool is_byte_level(const std::vector<Decoder>& steps) {
  return steps.size() == 1 && std::holds_alternative<ByteLevelDecoder>(steps[0]);
}

}  // namespace headway::text
