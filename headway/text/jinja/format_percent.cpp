// printf-style formatting of str and Markup. Not for: str.format (format_braces.cpp).
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

constexpr std::int64_t kLargestPrecision = 5000;

struct Conversion {
  bool left = false, plus = false, space = false, alternate = false, zero = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(const Value& format, const Value& arguments)
      : format_(format.text()), safe_(format.is_safe()), arguments_(arguments) {
    is_tuple_ = arguments.is(Type::kTuple);
    if (is_tuple_) count_ = arguments.object<Sequence>().items.size();
  }

  Value run() {
    while (position_ < format_.size()) {
      const std::size_t percent = std::min(format_.find('%', position_), format_.size());
      out_.append(format_, position_, percent - position_);
      position_ = percent;
      if (position_ == format_.size()) break;
      ++position_;
      convert();
      charge(0);
      if (Budget::active() != nullptr) Budget::active()->check_size(std::ssize(out_));
    }
    const bool mapping = arguments_.is(Type::kDict) || arguments_.is(Type::kList) ||
                         arguments_.is(Type::kUndefined) || arguments_.is(Type::kRange);
    if (next_ < count_ && !mapping) {
      fail_type("not all arguments converted during string formatting");
    }
    return Value(std::move(out_), safe_);
  }

 private:
  char peek() const {
    if (position_ >= format_.size()) fail(ErrorKind::kValue, "incomplete format");
    return format_[position_];
  }

  Value next_argument() {
    if (next_ >= count_) fail_type("not enough arguments for format string");
    ++next_;
    return is_tuple_ ? arguments_.object<Sequence>().items[next_ - 1] : arguments_;
  }

  Value named_argument() {
    if (arguments_.is_undefined()) fail_undefined(arguments_);
    if (!arguments_.is(Type::kDict)) fail_type("format requires a mapping");
    std::string key;
    int depth = 1;
    for (++position_;; ++position_) {
      if (position_ >= format_.size()) fail(ErrorKind::kValue, "incomplete format key");
      const char c = format_[position_];
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (depth == 0) break;
      key += c;
    }
    ++position_;
    next_ = count_;
    const Value* found = arguments_.object<Dict>().get(key);
    if (found == nullptr) fail(ErrorKind::kValue, repr_text(key));
    return *found;
  }

  std::int64_t read_count() {
    if (peek() == '*') {
      ++position_;
      const Value value = next_argument();
      if (!value.is_integral()) fail_type("* wants int");
      return to_index(value, "*");
    }
    std::int64_t number = 0;
    for (; peek() >= '0' && peek() <= '9'; ++position_) {
      number = number * 10 + (peek() - '0');
      if (number > (std::int64_t{1} << 31)) fail(ErrorKind::kValue, "width too big");
    }
    return number;
  }

  Conversion read_conversion(std::optional<Value>& value) {
    Conversion c;
    if (peek() == '(') value = named_argument();
    for (;; ++position_) {
      const char flag = peek();
      if (flag == '-')
        c.left = true;
      else if (flag == '+')
        c.plus = true;
      else if (flag == ' ')
        c.space = true;
      else if (flag == '#')
        c.alternate = true;
      else if (flag == '0')
        c.zero = true;
      else
        break;
    }
    c.width = read_count();
    if (c.width < 0) {
      c.left = true;
      c.width = -c.width;
    }
    if (peek() == '.') {
      ++position_;
      c.precision = std::max<std::int64_t>(0, read_count());
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++position_;
    c.type = peek();
    ++position_;
    return c;
  }

  void convert() {
    std::optional<Value> value;
    const Conversion c = read_conversion(value);
    if (c.type == '%') {
      out_ += '%';
      return;
    }
    if (!value) value = next_argument();
    std::string sign;
    std::string body = text_of(c, *value, sign);
    charge(std::max(c.width, std::ssize(body)));
    const auto size = char_count(body) + std::ssize(sign);
    const auto missing = static_cast<std::size_t>(std::max<std::int64_t>(0, c.width - size));
    const bool numeric = std::string_view("srac").find(c.type) == std::string_view::npos;
    if (c.left) {
      out_ += sign + body + std::string(missing, ' ');
    } else if (c.zero && numeric) {
      out_ += sign + std::string(missing, '0') + body;
    } else {
      out_ += std::string(missing, ' ') + sign + body;
    }
  }

  std::string text_of(const Conversion& c, const Value& value, std::string& sign) const {
    switch (c.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = c.type == 's'   ? to_text(value)
                           : c.type == 'r' ? repr(value)
                                           : ascii_repr(value);
        if (safe_) text = c.type == 's' ? escaped(value) : escape_text(text);
        if (c.precision >= 0) text.resize(char_offset(text, c.precision));
        return text;
      }
      case 'c':
        return character(value);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        return integer(c, value, sign);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return real(c, value, sign);
      default:
        fail(ErrorKind::kValue,
             fmt::format("unsupported format character '{}' (0x{:x}) at index {}", c.type,
                         static_cast<unsigned char>(c.type), position_ - 1));
    }
  }

  static std::string character(const Value& value) {
    if (value.is_str() && char_count(value.text()) == 1) return value.text();
    if (!value.is_integral()) fail_type("%c requires int or char");
    const std::int64_t code = to_index(value, "%c");
    if (code < 0 || code > 0x10FFFF) fail(ErrorKind::kArithmetic, "%c arg not in range(0x110000)");
    std::string text;
    append_char(text, static_cast<char32_t>(code));
    return text;
  }

  static std::string sign_of(const Conversion& c, bool negative) {
    return negative ? "-" : c.plus ? "+" : c.space ? " " : "";
  }

  static std::string integer(const Conversion& c, const Value& value, std::string& sign) {
    const bool decimal = c.type == 'd' || c.type == 'i' || c.type == 'u';
    if (decimal && value.is_undefined()) fail_undefined(value);
    if (!value.is_integral() && !(decimal && value.is(Type::kFloat))) {
      fail_type(fmt::format("%{} format: {} is required, not {}", c.type,
                            decimal ? "a real number" : "an integer", type_name(value)));
    }
    if (value.is(Type::kFloat) && !std::isfinite(value.as_float())) {
      fail(ErrorKind::kArithmetic, "cannot convert float infinity to integer");
    }
    const BigInt number =
        value.is(Type::kFloat) ? BigInt::from_double(value.as_float()) : value.as_big();
    const int base = c.type == 'o' ? 8 : decimal ? 10 : 16;
    std::string body = (number.is_negative() ? number.negated() : number).to_string(base);
    if (c.precision > kLargestPrecision) fail(ErrorKind::kArithmetic, "precision too large");
    if (c.precision > std::ssize(body)) {
      body.insert(0, static_cast<std::size_t>(c.precision) - body.size(), '0');
    }
    sign = sign_of(c, number.is_negative());
    if (c.alternate && !decimal) sign += base == 8 ? "0o" : "0x";
    if (c.type == 'X') {
      body = to_upper(body);
      sign = to_upper(sign);
    }
    return body;
  }

  static std::string real(const Conversion& c, const Value& value, std::string& sign) {
    if (value.is_undefined()) fail_undefined(value);
    if (!value.is_number()) {
      fail_type(fmt::format("must be real number, not {}", type_name(value)));
    }
    if (c.precision > kLargestPrecision) fail(ErrorKind::kValue, "precision too big");
    const double number = value.is(Type::kFloat) ? value.as_float() : value.as_big().to_double();
    const bool negative = std::signbit(number) && !std::isnan(number);
    sign = sign_of(c, negative);
    const int precision = c.precision < 0 ? 6 : static_cast<int>(c.precision);
    return format_float(std::fabs(number), c.type, precision, c.alternate);
  }

  const std::string& format_;
  bool safe_;
  const Value& arguments_;
  bool is_tuple_ = false;
  std::size_t count_ = 1;
  std::size_t next_ = 0;
  std::size_t position_ = 0;
  std::string out_;
};

}  // namespace

Value format_percent(const Value& format, const Value& arguments) {
  return PercentFormatter(format, arguments).run();
}

}  // namespace headway::text::jinja
