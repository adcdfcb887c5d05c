// Jinja's lexer without regular expressions: the same states, the same order of rules.
// Not for: line statements and line comments, which chat templates do not have.
#include "headway/text/jinja/lexer.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/string_escape.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

std::string normalize_newlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) root();
    add(TokenType::kEof, "");
    return std::move(tokens_);
  }

 private:
  struct Opening {
    std::size_t at = std::string::npos;
    char kind = 0;  // '{' variable, '%' block, '#' comment, 'r' raw
    std::size_t end = 0;
    char sign = 0;
    bool strip_after = false;  // raw only
  };

  bool at(std::string_view text) const {
    return std::string_view(source_).substr(position_).starts_with(text);
  }
  char peek(std::size_t ahead = 0) const {
    return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0';
  }
  void add(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  void advance_to(std::size_t end) {
    const auto first = source_.begin() + static_cast<std::ptrdiff_t>(position_);
    const auto last = source_.begin() + static_cast<std::ptrdiff_t>(end);
    line_ += static_cast<int>(std::count(first, last, '\n'));
    position_ = end;
  }
  std::size_t skip_space(std::size_t i) const {
    while (i < source_.size()) {
      std::size_t next = i;
      if (!is_space(next_char(source_, next))) break;
      i = next;
    }
    return i;
  }

  // `{%` sign space* raw space* (`-%}` space* | `%}`), or false.
  bool match_raw(std::size_t at, Opening& opening) const {
    const std::string_view text(source_);
    std::size_t i = at + 2;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) opening.sign = text[i++];
    i = skip_space(i);
    if (!text.substr(i).starts_with("raw")) return false;
    i = skip_space(i + 3);
    opening.strip_after = text.substr(i).starts_with("-%}");
    if (!opening.strip_after && !text.substr(i).starts_with("%}")) return false;
    opening.end = opening.strip_after ? skip_space(i + 3) : i + 2;
    opening.kind = 'r';
    return true;
  }

  Opening find_opening() const {
    Opening opening;
    for (std::size_t i = position_;; ++i) {
      i = source_.find('{', i);
      if (i == std::string::npos || i + 1 >= source_.size()) return opening;
      const char kind = source_[i + 1];
      if (kind != '{' && kind != '%' && kind != '#') continue;
      opening.at = i;
      if (kind == '%' && match_raw(i, opening)) return opening;
      opening.kind = kind;
      opening.end = i + 2;
      opening.sign = 0;
      const char sign = opening.end < source_.size() ? source_[opening.end] : '\0';
      if (sign == '-' || sign == '+') {
        opening.sign = sign;
        ++opening.end;
      }
      return opening;
    }
  }

  // Text before a tag, with what the tag strips of it removed.
  std::string_view left_stripped(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') {
      std::size_t end = 0;
      for (std::size_t i = 0; i < text.size();) {
        if (!is_space(next_char(text, i))) end = i;
      }
      return text.substr(0, end);
    }
    if (sign == '+' || is_variable) return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return text;
    for (std::size_t i = line; i < text.size();) {
      if (!is_space(next_char(text, i))) return text;
    }
    return text.substr(0, line);
  }

  void root() {
    const Opening opening = find_opening();
    const std::string_view rest = std::string_view(source_).substr(position_);
    if (opening.at == std::string::npos) {
      add(TokenType::kData, std::string(rest));
      position_ = source_.size();
      return;
    }
    const std::string_view before = rest.substr(0, opening.at - position_);
    const auto data = left_stripped(before, opening.sign, opening.kind == '{');
    if (!data.empty()) add(TokenType::kData, std::string(data));
    advance_to(opening.end);
    line_starting_ = source_[opening.end - 1] == '\n';
    switch (opening.kind) {
      case '{':
        add(TokenType::kVariableBegin, "{{");
        return inside(TokenType::kVariableEnd, "}}");
      case '%':
        add(TokenType::kBlockBegin, "{%");
        return inside(TokenType::kBlockEnd, "%}");
      case '#':
        return comment();
      default:
        return raw();
    }
  }

  // End of a tag that starts with an optional sign: `-` strips what follows, trim_blocks a newline.
  // Returns 0 if no end stands at `i`.
  std::size_t tag_end(std::size_t i, std::string_view close, bool trim) const {
    const std::string_view text(source_);
    if (text.substr(i).starts_with(close)) {
      const std::size_t end = i + close.size();
      return trim && end < text.size() && text[end] == '\n' ? end + 1 : end;
    }
    if (i < text.size() && text.substr(i + 1).starts_with(close)) {
      if (text[i] == '-') return skip_space(i + 1 + close.size());
      if (text[i] == '+' && trim) return i + 1 + close.size();
    }
    return 0;
  }

  void finish_tag(std::size_t end) {
    advance_to(end);
    line_starting_ = source_[end - 1] == '\n';
  }

  void comment() {
    if (position_ == source_.size()) return;
    for (std::size_t i = position_; i < source_.size(); ++i) {
      if (const std::size_t end = tag_end(i, "#}", true)) return finish_tag(end);
    }
    fail_syntax("Missing end of comment tag", line_);
  }

  void raw() {
    for (std::size_t i = position_; (i = source_.find("{%", i)) != std::string::npos; ++i) {
      std::size_t j = i + 2;
      char sign = 0;
      if (j < source_.size() && (source_[j] == '-' || source_[j] == '+')) sign = source_[j++];
      j = skip_space(j);
      if (!std::string_view(source_).substr(j).starts_with("endraw")) continue;
      const std::size_t end = tag_end(skip_space(j + 6), "%}", true);
      if (end == 0) continue;
      const auto before = std::string_view(source_).substr(position_, i - position_);
      const auto data = left_stripped(before, sign, false);
      if (!data.empty()) add(TokenType::kData, std::string(data));
      return finish_tag(end);
    }
    if (position_ == source_.size()) return;
    fail_syntax("Missing end of raw directive", line_);
  }

  void inside(TokenType end_type, std::string_view close) {
    std::string brackets;
    while (position_ < source_.size()) {
      if (brackets.empty()) {
        if (const std::size_t end = tag_end(position_, close, end_type == TokenType::kBlockEnd)) {
          add(end_type, std::string(close));
          return finish_tag(end);
        }
      }
      const std::size_t after_space = skip_space(position_);
      if (after_space != position_) {
        advance_to(after_space);
        continue;
      }
      if (number() || name() || string()) continue;
      symbol(brackets);
    }
  }

  // Digits with single underscores between them: the end, or `i` if there are none.
  std::size_t digits_end(std::size_t i) const {
    std::size_t end = i;
    while (end < source_.size() && is_digit_char(source_[end])) {
      ++end;
      if (end + 1 < source_.size() && source_[end] == '_' && is_digit_char(source_[end + 1])) ++end;
    }
    return end;
  }

  std::size_t exponent_end(std::size_t i) const {
    if (i >= source_.size() || (source_[i] != 'e' && source_[i] != 'E')) return i;
    std::size_t j = i + 1;
    if (j < source_.size() && (source_[j] == '+' || source_[j] == '-')) ++j;
    const std::size_t end = digits_end(j);
    return end == j ? i : end;
  }

  std::size_t float_end() const {
    if (position_ > 0 && source_[position_ - 1] == '.') return position_;
    const std::size_t whole = digits_end(position_);
    if (whole == position_) return position_;
    std::size_t fraction = whole;
    if (whole < source_.size() && source_[whole] == '.') {
      const std::size_t end = digits_end(whole + 1);
      if (end != whole + 1) fraction = end;
    }
    const std::size_t end = exponent_end(fraction);
    if (end != fraction) return end;
    return fraction == whole ? position_ : fraction;
  }

  std::size_t based_end(std::string_view allowed) const {
    std::size_t end = position_ + 2;
    for (;;) {
      const std::size_t digit = end < source_.size() && source_[end] == '_' ? end + 1 : end;
      if (digit >= source_.size() || allowed.find(source_[digit]) == std::string_view::npos) break;
      end = digit + 1;
    }
    return end == position_ + 2 ? position_ : end;
  }

  std::size_t integer_end() const {
    if (!is_digit_char(peek())) return position_;
    if (peek() == '0') {
      const char kind = static_cast<char>(peek(1) | 0x20);
      const std::string_view allowed = kind == 'b'   ? "01"
                                       : kind == 'o' ? "01234567"
                                       : kind == 'x' ? "0123456789abcdefABCDEF"
                                                     : "";
      const std::size_t based = allowed.empty() ? position_ : based_end(allowed);
      if (based != position_) return based;
      std::size_t end = position_ + 1;
      while (end < source_.size() &&
             (source_[end] == '0' ||
              (source_[end] == '_' && end + 1 < source_.size() && source_[end + 1] == '0')))
        ++end;
      return end;
    }
    return digits_end(position_);
  }

  bool number() {
    std::size_t end = float_end();
    const TokenType type = end != position_ ? TokenType::kFloat : TokenType::kInteger;
    if (end == position_) end = integer_end();
    if (end == position_) return false;
    std::string text = source_.substr(position_, end - position_);
    std::erase(text, '_');
    add(type, std::move(text));
    position_ = end;
    return true;
  }

  bool name() {
    std::size_t end = position_;
    while (end < source_.size()) {
      std::size_t next = end;
      const char32_t c = next_char(source_, next);
      if (!is_word(c) && !(c >= 0x300 && c <= 0x36F)) break;
      end = next;
    }
    if (end == position_) return false;
    std::size_t first_end = position_;
    const char32_t first = next_char(source_, first_end);
    if (first != '_' && !is_alpha(first)) fail_syntax("Invalid character in identifier", line_);
    add(TokenType::kName, source_.substr(position_, end - position_));
    position_ = end;
    return true;
  }

  bool string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return false;
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return false;
    const auto body = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    const auto value = unescape(body);
    if (!value) fail_syntax("bad escape in a string", line_);
    add(TokenType::kString, *value);
    advance_to(end + 1);
    return true;
  }

  void symbol(std::string& brackets) {
    constexpr std::string_view kSymbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto* found = std::find_if(std::begin(kSymbols), std::end(kSymbols),
                                     [this](std::string_view s) { return at(s); });
    if (found == std::end(kSymbols)) {
      std::size_t next = position_;
      next_char(source_, next);
      fail_syntax(
          fmt::format("unexpected char '{}' at {}", source_.substr(position_, next - position_),
                      char_count(std::string_view(source_).substr(0, position_))),
          line_);
    }
    const char c = (*found)[0];
    if (c == '{' || c == '(' || c == '[') brackets += c == '{' ? '}' : c == '(' ? ')' : ']';
    if (c == '}' || c == ')' || c == ']') {
      if (brackets.empty()) fail_syntax(fmt::format("unexpected '{}'", c), line_);
      if (brackets.back() != c) {
        fail_syntax(fmt::format("unexpected '{}', expected '{}'", c, brackets.back()), line_);
      }
      brackets.pop_back();
    }
    add(TokenType::kOperator, std::string(*found));
    position_ += found->size();
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(normalize_newlines(source)).run();
}

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template data / text";
    case TokenType::kVariableBegin:
      return "begin of print statement";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kBlockBegin:
      return "begin of statement block";
    case TokenType::kBlockEnd:
      return "end of statement block";
    case TokenType::kInteger:
      return "integer";
    case TokenType::kFloat:
      return "float";
    case TokenType::kString:
      return "string";
    case TokenType::kEof:
      return "end of template";
    default:
      return token.text;
  }
}

void fail_syntax(const std::string& message, int line) {
  fail(ErrorKind::kSyntax, fmt::format("{} (line {})", message, line));
}

}  // namespace headway::text::jinja
