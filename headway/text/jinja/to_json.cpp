// json.dumps over template values. Not for: HTML-safe JSON; chat templates do not want it.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/json_text.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/sort.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}
  std::string out;

  void write(const Value& value) {
    if (Budget* budget = Budget::active()) {
      budget->step();
      budget->check_size(std::ssize(out));
    }
    switch (value.type()) {
      case Type::kNone:
        out += "null";
        return;
      case Type::kBool:
        out += value.as_bool() ? "true" : "false";
        return;
      case Type::kInt:
        out += repr(value);
        return;
      case Type::kFloat:
        out += number(value.as_float());
        return;
      case Type::kStr:
        return write_text(value.text());
      case Type::kList:
      case Type::kTuple:
        return write_list(value.object<Sequence>().items);
      case Type::kDict:
        return write_dict(value.object<Dict>());
      default:
        fail_type(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return float_text(value);
  }

  void write_escape(char32_t c) {
    if (c >= 0x10000) {
      const auto rest = static_cast<std::uint32_t>(c) - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    } else {
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    }
  }

  void write_text(const std::string& text) {
    out += '"';
    for (std::size_t position = 0; position < text.size();) {
      const std::size_t start = position;
      const char32_t c = next_char(text, position);
      switch (c) {
        case '"':
          out += "\\\"";
          break;
        case '\\':
          out += "\\\\";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\f':
          out += "\\f";
          break;
        case '\b':
          out += "\\b";
          break;
        default:
          if (c < 0x20 || (style_.ensure_ascii && c > 0x7E)) {
            if (c == 0x7F) {
              out += '\x7F';
            } else {
              write_escape(c);
            }
          } else {
            out.append(text, start, position - start);
          }
      }
    }
    out += '"';
  }

  void new_line(int depth) {
    if (!style_.indent) return;
    out += '\n';
    for (int i = 0; i < depth; ++i) out += *style_.indent;
  }

  void write_list(const Values& items) {
    if (items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    ++depth_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      new_line(depth_);
      write(items[i]);
    }
    new_line(--depth_);
    out += ']';
  }

  static std::string key_text(const Value& key) {
    switch (key.type()) {
      case Type::kStr:
        return key.text();
      case Type::kNone:
        return "null";
      case Type::kBool:
        return key.as_bool() ? "true" : "false";
      case Type::kInt:
        return repr(key);
      case Type::kFloat:
        return number(key.as_float());
      default:
        fail_type(
            fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
  }

  void write_dict(const Dict& dict) {
    if (dict.items.empty()) {
      out += "{}";
      return;
    }
    auto items = dict.items;
    if (style_.sort_keys) {
      stable_sort(items, [](const auto& a, const auto& b) {
        return compare(CompareOp::kLt, a.first, b.first);
      });
    }
    out += '{';
    ++depth_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      new_line(depth_);
      write_text(key_text(items[i].first));
      out += style_.key_separator;
      write(items[i].second);
    }
    new_line(--depth_);
    out += '}';
  }

  const JsonStyle& style_;
  int depth_ = 0;
};

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value);
  return std::move(writer.out);
}

}  // namespace headway::text::jinja
