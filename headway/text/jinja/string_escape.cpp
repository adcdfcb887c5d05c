// Escapes of string literals. Not for: quotes, which the lexer has removed.
#include "headway/text/jinja/string_escape.h"

#include <charconv>

#include <fmt/format.h>

#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

// Jinja turns a character beyond ASCII into an escape before it decodes; so a backslash before one
// escapes the backslash of that escape, whose text stays.
std::string to_ascii(std::string_view body) {
  std::string ascii;
  for (std::size_t position = 0; position < body.size();) {
    const auto c = static_cast<std::uint32_t>(next_char(body, position));
    if (c < 0x80) {
      ascii += static_cast<char>(c);
    } else if (c <= 0xFF) {
      ascii += fmt::format("\\x{:02x}", c);
    } else if (c <= 0xFFFF) {
      ascii += fmt::format("\\u{:04x}", c);
    } else {
      ascii += fmt::format("\\U{:08x}", c);
    }
  }
  return ascii;
}

class Unescaper {
 public:
  explicit Unescaper(std::string_view text) : text_(text) {}

  std::optional<std::string> run() {
    while (position_ < text_.size()) {
      const char c = text_[position_++];
      if (c != '\\') {
        out_ += c;
      } else if (position_ == text_.size() || !escape(text_[position_++])) {
        return std::nullopt;
      }
    }
    return std::move(out_);
  }

 private:
  bool escape(char c) {
    switch (c) {
      case '\n':
        return true;
      case '\\':
      case '\'':
      case '"':
        out_ += c;
        return true;
      case 'a':
        out_ += '\a';
        return true;
      case 'b':
        out_ += '\b';
        return true;
      case 'f':
        out_ += '\f';
        return true;
      case 'n':
        out_ += '\n';
        return true;
      case 'r':
        out_ += '\r';
        return true;
      case 't':
        out_ += '\t';
        return true;
      case 'v':
        out_ += '\v';
        return true;
      case 'x':
        return hexadecimal(2);
      case 'u':
        return hexadecimal(4);
      case 'U':
        return hexadecimal(8);
      case 'N':
        return false;
      default:
        break;
    }
    if (c >= '0' && c <= '7') {
      octal(c);
      return true;
    }
    out_ += '\\';
    out_ += c;
    return true;
  }

  bool hexadecimal(std::size_t digits) {
    if (text_.size() - position_ < digits) return false;
    std::uint32_t code = 0;
    const char* const first = text_.data() + position_;
    const auto parsed = std::from_chars(first, first + digits, code, 16);
    if (parsed.ptr != first + digits || code > 0x10FFFF) return false;
    position_ += digits;
    append_char(out_, code);
    return true;
  }

  void octal(char first) {
    std::uint32_t code = static_cast<std::uint32_t>(first - '0');
    for (int i = 0; i < 2 && position_ < text_.size(); ++i) {
      const char c = text_[position_];
      if (c < '0' || c > '7') break;
      code = code * 8 + static_cast<std::uint32_t>(c - '0');
      ++position_;
    }
    append_char(out_, code);
  }

  std::string_view text_;
  std::size_t position_ = 0;
  std::string out_;
};

}  // namespace

std::optional<std::string> unescape(std::string_view body) {
  const std::string ascii = to_ascii(body);
  return Unescaper(ascii).run();
}

}  // namespace headway::text::jinja
