// The same text as Python's, shared values included. Not for: parsing.
#include "headway/text/jinja/print.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

class Printer {
 public:
  std::string out;

  void add(const Value& value) {
    if (Budget* budget = Budget::active()) {
      budget->step();
      budget->check_size(static_cast<std::int64_t>(out.size()));
    }
    if (++depth_ > kDeepest)
      fail(ErrorKind::kRecursion, "maximum recursion depth exceeded in repr");
    add_any(value);
    --depth_;
  }

 private:
  static constexpr int kDeepest = 500;

  void add_any(const Value& value) {
    switch (value.type()) {
      case Type::kNone:
        out += "None";
        return;
      case Type::kBool:
        out += value.as_bool() ? "True" : "False";
        return;
      case Type::kInt:
        out += value.small_int() ? std::to_string(*value.small_int()) : value.as_big().to_string();
        return;
      case Type::kFloat:
        out += float_text(value.as_float());
        return;
      case Type::kStr:
        out +=
            value.is_safe() ? "Markup(" + repr_text(value.text()) + ")" : repr_text(value.text());
        return;
      case Type::kUndefined:
        out += "Undefined";
        return;
      case Type::kList:
        return add_items(value.object<Sequence>().items, '[', ']');
      case Type::kTuple:
        return add_tuple(value.object<Sequence>().items);
      case Type::kDict:
        return add_dict(value.object<Dict>());
      case Type::kView:
        return add_view(value);
      case Type::kBytes:
        return add_bytes(value.object<Bytes>().bytes);
      case Type::kRange:
        return add_range(value.object<Range>());
      case Type::kNamespace:
        out += "<Namespace ";
        add_dict(value.object<Namespace>().attributes);
        out += '>';
        return;
      default:
        add_other(value);
    }
  }

  void add_other(const Value& value) {
    switch (value.type()) {
      case Type::kMacro:
        out += "<Macro " + repr_text(value.object<Macro>().name) + ">";
        return;
      case Type::kLoop: {
        auto& loop = value.object<Loop>();
        out += fmt::format("<LoopContext {}/{}>", loop.index0 + 1, loop.length());
        return;
      }
      case Type::kCallable:
        out += "<function " + value.object<Callable>().name + ">";
        return;
      default:
        out += "<" + type_name(value) + " object>";
    }
  }

  void add_items(const Values& items, char open, char close) {
    out += open;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += ", ";
      add(items[i]);
    }
    out += close;
  }

  void add_tuple(const Values& items) {
    add_items(items, '(', ')');
    if (items.size() == 1) out.insert(out.size() - 1, ",");
  }

  void add_dict(const Dict& dict) {
    out += '{';
    for (std::size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) out += ", ";
      add(dict.items[i].first);
      out += ": ";
      add(dict.items[i].second);
    }
    out += '}';
  }

  void add_view(const Value& value) {
    const auto& view = value.object<View>();
    out += type_name(value) + "([";
    bool first = true;
    for (const auto& [key, item] : view.dict.object<Dict>().items) {
      if (!first) out += ", ";
      first = false;
      if (view.kind == ViewKind::kItems) {
        out += '(';
        add(key);
        out += ", ";
        add(item);
        out += ')';
      } else {
        add(view.kind == ViewKind::kKeys ? key : item);
      }
    }
    out += "])";
  }

  void add_range(const Range& range) {
    out += fmt::format("range({}, {}", range.start, range.stop);
    if (range.step != 1) out += fmt::format(", {}", range.step);
    out += ')';
  }

  void add_bytes(const std::string& bytes) {
    const char quote =
        bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos ? '"' : '\'';
    out += 'b';
    out += quote;
    for (const char c : bytes) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == quote || c == '\\') {
        out += '\\';
        out += c;
      } else if (c == '\n' || c == '\r' || c == '\t') {
        out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
      } else if (byte < 0x20 || byte >= 0x7F) {
        out += fmt::format("\\x{:02x}", byte);
      } else {
        out += c;
      }
    }
    out += quote;
  }

  int depth_ = 0;
};

void append_escape(std::string& out, char32_t c) {
  if (c == '\n' || c == '\r' || c == '\t') {
    out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
  } else if (c <= 0xFF) {
    out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
  } else if (c <= 0xFFFF) {
    out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
  } else {
    out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
  }
}

}  // namespace

std::string repr_text(std::string_view text) {
  const bool double_quoted =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quoted ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t start = position;
    const char32_t c = next_char(text, position);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (is_printable(c)) {
      out.append(text, start, position - start);
    } else {
      append_escape(out, c);
    }
  }
  out += quote;
  return out;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string scientific(buffer, end.ptr);
  const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto fixed_end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  std::string fixed(buffer, fixed_end.ptr);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string repr(const Value& value) {
  Printer printer;
  printer.add(value);
  return std::move(printer.out);
}

std::string ascii_repr(const Value& value) {
  const std::string text = repr(value);
  std::string out;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_char(text, position);
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      append_escape(out, c);
    }
  }
  return out;
}

std::string to_text(const Value& value) {
  if (value.is_str()) return value.text();
  if (value.is_undefined()) return {};
  return repr(value);
}

}  // namespace headway::text::jinja
