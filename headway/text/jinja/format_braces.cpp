// str.format inside the sandbox. Not for: the format mini-language (format_spec.cpp).
#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/print.h"

namespace headway::text::jinja {
namespace {

class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, bool safe, const Args& args)
      : interpreter_(interpreter), safe_(safe), args_(args) {}

  std::string run(std::string_view format, int depth) {
    if (depth < 0) fail(ErrorKind::kValue, "Max string recursion exceeded");
    std::string out;
    for (std::size_t i = 0; i < format.size();) {
      const char c = format[i];
      if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        i += 2;
      } else if (c == '}') {
        fail(ErrorKind::kValue, "Single '}' encountered in format string");
      } else if (c == '{') {
        const std::size_t end = field_end(format, i);
        out += field(format.substr(i + 1, end - i - 1), depth);
        i = end + 1;
      } else {
        out += c;
        ++i;
      }
    }
    charge(std::ssize(out));
    return out;
  }

 private:
  static std::size_t field_end(std::string_view format, std::size_t begin) {
    int depth = 0;
    for (std::size_t i = begin; i < format.size(); ++i) {
      if (format[i] == '{') ++depth;
      if (format[i] == '}' && --depth == 0) return i;
    }
    fail(ErrorKind::kValue, begin + 1 == format.size() ? "Single '{' encountered in format string"
                                                       : "expected '}' before end of string");
  }

  std::string field(std::string_view text, int depth) {
    std::size_t end = text.find_first_of("!:");
    // A bracket may hold these characters.
    if (const std::size_t open = text.find('['); open < end) {
      const std::size_t close = text.find(']', open);
      if (close == std::string_view::npos) fail(ErrorKind::kValue, "Missing ']' in format string");
      end = text.find_first_of("!:", close);
    }
    const std::string_view name = text.substr(0, end);
    char conversion = 0;
    std::string_view spec;
    if (end != std::string_view::npos && text[end] == '!') {
      if (end + 1 >= text.size())
        fail(ErrorKind::kValue, "end of string while looking for conversion specifier");
      conversion = text[end + 1];
      if (end + 2 < text.size() && text[end + 2] != ':') {
        fail(ErrorKind::kValue, "expected ':' after conversion specifier");
      }
      spec = end + 3 <= text.size() ? text.substr(end + 3) : std::string_view();
    } else if (end != std::string_view::npos) {
      spec = text.substr(end + 1);
    }
    Value value = lookup(name);
    if (conversion == 'r')
      value = repr(value);
    else if (conversion == 'a')
      value = ascii_repr(value);
    else if (conversion == 's')
      value = to_text(value);
    else if (conversion != 0) {
      fail(ErrorKind::kValue, fmt::format("Unknown conversion specifier {}", conversion));
    }
    const std::string expanded = run(spec, depth - 1);
    if (!safe_) return format_value(value, expanded);
    if (value.is_safe() && expanded.empty()) return value.text();
    return escape_text(format_value(value, expanded));
  }

  Value lookup(std::string_view name) {
    const std::size_t first_end = std::min(name.find_first_of(".["), name.size());
    Value value = first(name.substr(0, first_end));
    for (std::size_t i = first_end; i < name.size();) {
      if (name[i] == '.') {
        const std::size_t end = std::min(name.find_first_of(".[", i + 1), name.size());
        if (end == i + 1) fail(ErrorKind::kValue, "Empty attribute in format string");
        value = interpreter_.get_attribute(value, std::string(name.substr(i + 1, end - i - 1)));
        i = end;
        continue;
      }
      const std::size_t close = name.find(']', i);
      if (name[i] != '[' || close == std::string_view::npos) {
        fail(ErrorKind::kValue, "Missing ']' in format string");
      }
      const std::string_view key = name.substr(i + 1, close - i - 1);
      value = interpreter_.get_item(
          value, is_number(key) ? Value(*parse_int(key, 10)) : Value(std::string(key)));
      i = close + 1;
    }
    return value;
  }

  static bool is_number(std::string_view text) {
    return !text.empty() && text.size() < 18 &&
           text.find_first_not_of("0123456789") == std::string_view::npos;
  }

  Value first(std::string_view name) {
    if (name.empty() || is_number(name)) {
      if (name.empty() ? manual_ : automatic_) {
        fail(ErrorKind::kValue, "cannot switch between manual and automatic field numbering");
      }
      (name.empty() ? automatic_ : manual_) = true;
      const std::size_t index = name.empty() ? next_++ : std::stoul(std::string(name));
      if (index >= args_.positional.size()) {
        fail(ErrorKind::kValue,
             fmt::format("Replacement index {} out of range for positional args tuple", index));
      }
      return args_.positional[index];
    }
    for (const auto& [key, value] : args_.keyword) {
      if (key == name) return value;
    }
    fail(ErrorKind::kValue, repr_text(name));
  }

  Interpreter& interpreter_;
  bool safe_;
  const Args& args_;
  std::size_t next_ = 0;
  bool automatic_ = false;
  bool manual_ = false;
};

}  // namespace

Value format_braces(Interpreter& interpreter, const Value& format, const Args& args) {
  BraceFormatter formatter(interpreter, format.is_safe(), args);
  return Value(formatter.run(format.text(), 2), format.is_safe());
}

}  // namespace headway::text::jinja
