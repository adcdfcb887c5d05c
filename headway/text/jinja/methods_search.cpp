// Methods of str that search, cut, join and format. Not for: case and padding (methods_text.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/text_search.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

Value pieces(const std::vector<std::string_view>& parts, bool safe, Type type = Type::kList) {
  Values items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.emplace_back(std::string(part), safe);
  return std::make_shared<Sequence>(type, std::move(items));
}

/// The part of the text that start and end arguments name.
struct Window {
  std::string_view text;
  std::int64_t first_char = 0;
  bool inside = true;  // false: start lies behind the end of the text
};

Window window(const Params& params, std::size_t start_at) {
  const std::string& text = params.text(0);
  if (!params.has(start_at)) return {text, 0, true};
  const std::int64_t size = length(params[0]);
  const auto bound = [&](std::size_t i, std::int64_t missing) {
    if (!params.is_set(i)) return missing;
    const std::int64_t given = params.integer(i, 0);
    return given < 0 ? std::max<std::int64_t>(0, given + size) : given;
  };
  const std::int64_t start = bound(start_at, 0);
  const std::int64_t end = std::min(size, bound(start_at + 1, size));
  if (start > size || start > end) return {{}, start, false};
  const std::size_t begin = char_offset(text, start);
  const std::string_view rest = std::string_view(text).substr(begin);
  return {rest.substr(0, char_offset(rest, end - start)), start, true};
}

std::int64_t find_in(const Args& args, const char* name, bool from_right) {
  const Params params(args, name, {"/self", "/sub", "/start", "/end"}, 2);
  const Window part = window(params, 2);
  const std::string& wanted = params.text(1);
  charge(std::ssize(part.text) / 16);
  if (!part.inside) return -1;
  const std::size_t at = from_right ? part.text.rfind(wanted) : part.text.find(wanted);
  if (at == std::string_view::npos) return -1;
  return part.first_char + char_count(part.text.substr(0, at));
}

template <bool kFromRight>
Value find(Interpreter&, Args& args) {
  return find_in(args, "find", kFromRight);
}

template <bool kFromRight>
Value index(Interpreter&, Args& args) {
  const std::int64_t at = find_in(args, "index", kFromRight);
  if (at < 0) fail(ErrorKind::kValue, "substring not found");
  return at;
}

Value count(Interpreter&, Args& args) {
  const Params params(args, "count", {"/self", "/sub", "/start", "/end"}, 2);
  const Window part = window(params, 2);
  charge(std::ssize(part.text) / 16);
  return part.inside ? count_matches(part.text, params.text(1)) : 0;
}

template <bool kStart>
Value begins_or_ends(Interpreter&, Args& args) {
  const char* name = kStart ? "startswith" : "endswith";
  const Params params(args, name, {"/self", "/prefix", "/start", "/end"}, 2);
  const Window part = window(params, 2);
  const auto matches = [&](const Value& wanted) {
    if (!wanted.is_str()) {
      fail_type(fmt::format("{} first arg must be str or a tuple of str, not {}", name,
                            type_name(wanted)));
    }
    return part.inside &&
           (kStart ? part.text.starts_with(wanted.text()) : part.text.ends_with(wanted.text()));
  };
  if (!params[1].is(Type::kTuple)) return matches(params[1]);
  const Values& choices = params[1].object<Sequence>().items;
  return std::any_of(choices.begin(), choices.end(), matches);
}

template <bool kFromRight>
Value split_text(Interpreter&, Args& args) {
  const Params params(args, "split", {"/self", "sep", "maxsplit"}, 1);
  std::optional<std::string_view> separator;
  if (params.is_set(1)) {
    separator = params.text(1);
    if (separator->empty()) fail(ErrorKind::kValue, "empty separator");
  }
  return pieces(split(params.text(0), separator, params.integer(2, -1), kFromRight),
                params[0].is_safe());
}

Value split_text_lines(Interpreter&, Args& args) {
  const Params params(args, "splitlines", {"/self", "keepends"}, 1);
  return pieces(split_lines(params.text(0), params.flag(1)), params[0].is_safe());
}

template <bool kFromRight>
Value partition(Interpreter&, Args& args) {
  const Params params(args, "partition", {"/self", "/sep"}, 2);
  const std::string_view text = params.text(0);
  const std::string& separator = params.text(1);
  if (separator.empty()) fail(ErrorKind::kValue, "empty separator");
  const std::size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  const bool safe = params[0].is_safe();
  if (at == std::string_view::npos) {
    return kFromRight ? pieces({"", "", text}, safe, Type::kTuple)
                      : pieces({text, "", ""}, safe, Type::kTuple);
  }
  return pieces({text.substr(0, at), separator, text.substr(at + separator.size())}, safe,
                Type::kTuple);
}

Value join(Interpreter&, Args& args) {
  const Params params(args, "join", {"/self", "/iterable"}, 2);
  const bool safe = params[0].is_safe();
  if (!is_iterable(params[1])) fail_type("can only join an iterable");
  std::string out;
  std::int64_t position = 0;
  const auto items = iterate(params[1]);
  for (Value item; items->next(item); ++position) {
    if (!safe && !item.is_str()) {
      fail_type(fmt::format("sequence item {}: expected str instance, {} found", position,
                            type_name(item)));
    }
    if (position > 0) out += params[0].text();
    out += safe ? escaped(item) : item.text();
    if (Budget* budget = Budget::active()) budget->check_size(std::ssize(out));
  }
  return Value(std::move(out), safe);
}

Value format(Interpreter& interpreter, Args& args) {
  const Value self = args.positional.front();
  args.positional.erase(args.positional.begin());
  return format_braces(interpreter, self, args);
}

Value format_map(Interpreter& interpreter, Args& args) {
  const Params params(args, "format_map", {"/self", "/mapping"}, 2);
  if (!params[1].is(Type::kDict)) fail_type("format_map() needs a mapping");
  Args named;
  for (const auto& [key, value] : params[1].object<Dict>().items) {
    if (key.is_str()) named.keyword.emplace_back(key.text(), value);
  }
  return format_braces(interpreter, params[0], named);
}

Value encode_text(Interpreter&, Args& args) {
  const Params params(args, "encode", {"/self", "encoding", "errors"}, 1);
  const std::string encoding = params.has(1) ? to_lower(params.text(1)) : "utf-8";
  if (encoding != "utf-8" && encoding != "utf8") {
    fail(ErrorKind::kValue, "unknown encoding: " + encoding + ", allowed utf-8");
  }
  return std::make_shared<Bytes>(params.text(0));
}

constexpr NamedNative kMethods[] = {
    {"find", find<false>},
    {"rfind", find<true>},
    {"index", index<false>},
    {"rindex", index<true>},
    {"count", count},
    {"startswith", begins_or_ends<true>},
    {"endswith", begins_or_ends<false>},
    {"split", split_text<false>},
    {"rsplit", split_text<true>},
    {"splitlines", split_text_lines},
    {"partition", partition<false>},
    {"rpartition", partition<true>},
    {"join", join},
    {"format", format},
    {"format_map", format_map},
    {"encode", encode_text},
};

}  // namespace

Native find_format_method(std::string_view name) {
  for (const NamedNative& method : kMethods) {
    if (method.name == name) return method.function;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
