// The `decoder` section: from the spellings of tokens to text.
// Not for: streaming (decode_stream.h).
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "headway/text/json_node.h"
#include "headway/text/pattern.h"
#include "headway/text/pre_tokenizer.h"

namespace headway::text {

struct ByteLevelDecoder {};
struct ByteFallbackDecoder {};
struct FuseDecoder {};
struct StripDecoder {
  std::string content;  // one character
  std::size_t start;    // at most so many removed in front of every token
  std::size_t stop;
};
struct ReplaceDecoder {
  Pattern pattern;
  std::string content;
};
struct MetaspaceDecoder {
  std::string replacement;
  bool drop_first;
};
struct WordPieceDecoder {
  std::string prefix;
  bool cleanup;
};
struct BpeDecoder {
  std::string suffix;
};
struct CtcDecoder {
  std::string pad;
  std::string delimiter;
  bool cleanup;
};

using Decoder =
    std::variant<ByteLevelDecoder, ByteFallbackDecoder, FuseDecoder, StripDecoder, ReplaceDecoder,
                 MetaspaceDecoder, WordPieceDecoder, BpeDecoder, CtcDecoder>;

/// The steps of the section in order, Sequences flattened.
/// Errors: CheckpointError (wrong value), UnsupportedError (a type this build has not).
std::vector<Decoder> parse_decoder(const JsonNode& node);

/// The text of `tokens`; the parts that the last step leaves are joined.
/// Test: tests/unit/text/decoder_test.cpp
std::string decode_tokens(const std::vector<Decoder>& steps, std::vector<std::string> tokens);

/// True if decoding is nothing but ByteLevel, so that every token adds bytes of its own.
bool is_byte_level(const std::vector<Decoder>& steps);

/// Appends the bytes of one token of a byte-level decoder: those its characters stand for, or if
/// one is outside the alphabet the token's own.
void append_byte_level(std::string_view token, std::string& bytes);

}  // namespace headway::text
