// Template text to tokens, with Jinja's white space rules applied.
// Not for: grammar (parser.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headway::text::jinja {

enum class TokenType {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kInteger,
  kFloat,
  kString,
  kOperator,
  kEof,
};

struct Token {
  TokenType type;
  std::string text;  // of a string: its value
  int line;
  bool is(TokenType wanted) const { return type == wanted; }
  bool is_operator(std::string_view symbol) const {
    return type == TokenType::kOperator && text == symbol;
  }
  bool is_name(std::string_view name) const { return type == TokenType::kName && text == name; }
};

/// Tokens of `source`, ending with kEof. trim_blocks and lstrip_blocks are on; CRLF and CR become
/// LF and one final newline is dropped. Comments and raw markers are gone, raw text is data.
/// Errors: TemplateError of kind syntax, with the line.
std::vector<Token> tokenize(std::string_view source);

/// How messages name a token: "end of print statement", "integer", the text of a name.
std::string describe(const Token& token);

[[noreturn]] void fail_syntax(const std::string& message, int line);

}  // namespace headway::text::jinja
