// Filters that read a whole sequence: first, sort, join, … Not for: filters that call others by
// name (filters_select.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/generate.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/slice.h"
#include "headway/text/jinja/sort.h"
#include "headway/text/jinja/text_search.h"

namespace headway::text::jinja {
namespace {

Value count(Interpreter&, Args& args) { return length(Params(args, "len", {"/obj"}, 1)[0]); }

Value list(Interpreter&, Args& args) {
  return make_list(to_values(Params(args, "do_list", {"value"}, 1)[0]));
}

Value first(Interpreter&, Args& args) {
  const auto items = iterate(Params(args, "do_first", {"seq"}, 1)[0]);
  Value item;
  return items->next(item) ? item : make_undefined("No first item, sequence was empty.");
}

Value last(Interpreter&, Args& args) {
  const Value value = Params(args, "do_last", {"seq"}, 1)[0];
  const Value none = make_undefined("No last item, sequence was empty.");
  if (value.is_undefined()) return none;
  if (value.is_str()) {
    return value.text().empty() ? none : slice(Value(value.text()), {-1, Value(), Value()});
  }
  const auto items = iterate_reversed(value);
  if (items == nullptr) fail_type(fmt::format("'{}' object is not reversible", type_name(value)));
  Value item;
  return items->next(item) ? item : none;
}

Value reverse(Interpreter&, Args& args) {
  const Value value = Params(args, "do_reverse", {"value"}, 1)[0];
  if (value.is_str()) return slice(value, {Value(), Value(), -1});
  if (const auto items = iterate_reversed(value)) return items;
  if (value.is_undefined()) return iterate_values({}, "reversed");
  if (!is_iterable(value)) fail(ErrorKind::kRuntime, "argument must be iterable");
  Values items = to_values(value);
  std::reverse(items.begin(), items.end());
  return make_list(std::move(items));
}

struct Keyed {
  Value key;
  Value item;
};

Values sorted(std::vector<Keyed> keyed, bool reversed) {
  stable_sort(keyed, [reversed](const Keyed& a, const Keyed& b) {
    return compare(CompareOp::kLt, reversed ? b.key : a.key, reversed ? a.key : b.key);
  });
  Values items;
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return items;
}

Value sort(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_sort", {"value", "reverse", "case_sensitive", "attribute"}, 1);
  std::vector<AttributePath> paths;
  const Value attribute = params.get(3, Value());
  if (attribute.is_str()) {
    for (const std::string_view part : split(attribute.text(), ",", -1, false)) {
      paths.emplace_back(Value(std::string(part)));
    }
  } else {
    paths.emplace_back(attribute);
  }
  std::vector<Keyed> keyed;
  for (Value& item : to_values(params[0])) {
    Values keys;
    for (const AttributePath& path : paths) {
      const Value key = path.get(interpreter, item);
      keys.push_back(params.flag(2) ? key : ignore_case(key));
    }
    keyed.push_back({make_list(std::move(keys)), std::move(item)});
  }
  return make_list(sorted(std::move(keyed), params.flag(1)));
}

Value dict_sort(Interpreter&, Args& args) {
  const Params params(args, "do_dictsort", {"value", "case_sensitive", "by", "reverse"}, 1);
  const std::string by = params.has(2) ? to_text(params[2]) : "key";
  if (by != "key" && by != "value") {
    fail(ErrorKind::kRuntime, "You can only sort by either \"key\" or \"value\"");
  }
  if (params[0].is_undefined()) fail_undefined(params[0]);
  if (!params[0].is(Type::kDict)) {
    fail_type(fmt::format("'{}' object has no attribute 'items'", type_name(params[0])));
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : params[0].object<Dict>().items) {
    const Value& wanted = by == "key" ? key : value;
    keyed.push_back({params.flag(1) ? wanted : ignore_case(wanted), make_tuple({key, value})});
  }
  return make_list(sorted(std::move(keyed), params.flag(3)));
}

Value items(Interpreter&, Args& args) {
  const Value value = Params(args, "do_items", {"value"}, 1)[0];
  if (value.is_undefined()) return iterate_values({}, "generator");
  if (!value.is(Type::kDict)) fail_type("Can only get item pairs from a mapping.");
  return make_generator(std::make_shared<View>(value, ViewKind::kItems),
                        [](Iterator& source, Value& out) { return source.next(out); });
}

Value unique(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_unique", {"value", "case_sensitive", "attribute"}, 1);
  const AttributePath path(params.get(2, Value()));
  const bool exact = params.flag(1);
  const auto seen = std::make_shared<Dict>();
  return make_generator(params[0], [=, &interpreter](Iterator& source, Value& out) {
    while (source.next(out)) {
      const Value key = path.get(interpreter, out);
      const Value folded = exact ? key : ignore_case(key);
      if (seen->find(folded) != nullptr) continue;
      seen->set(folded, Value());
      return true;
    }
    return false;
  });
}

template <CompareOp kBetter>
Value extreme(Interpreter& interpreter, Args& args) {
  const Params params(args, "min/max", {"value", "case_sensitive", "attribute"}, 1);
  const AttributePath path(params.get(2, Value()));
  const auto key_of = [&](const Value& item) {
    const Value key = path.get(interpreter, item);
    return params.flag(1) ? key : ignore_case(key);
  };
  const auto items = iterate(params[0]);
  Value best;
  if (!items->next(best)) return make_undefined("No aggregated item, sequence was empty.");
  Value best_key = key_of(best);
  for (Value item; items->next(item);) {
    Value key = key_of(item);
    if (!compare(kBetter, key, best_key)) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best;
}

Value sum(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_sum", {"iterable", "attribute", "start"}, 1);
  const AttributePath path(params.get(1, Value()));
  Value total = params.get(2, 0);
  if (total.is_str()) fail_type("sum() can't sum strings [use ''.join(seq) instead]");
  const auto items = iterate(params[0]);
  for (Value item; items->next(item);) {
    total = binary(BinaryOp::kAdd, total, path.get(interpreter, item));
  }
  return total;
}

Value join(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_join", {"value", "d", "attribute"}, 1);
  const bool has_path = params.is_set(2);
  const AttributePath path(params.get(2, Value()));
  Values parts;
  bool any_safe = params.has(1) && params[1].is_safe();
  const auto source = iterate(params[0]);
  for (Value item; source->next(item);) {
    parts.push_back(has_path ? path.get(interpreter, item) : item);
    any_safe = any_safe || parts.back().is_safe();
  }
  const bool escape = interpreter.autoescape() && any_safe;
  const auto text_of = [&](const Value& value) { return escape ? escaped(value) : to_text(value); };
  const std::string separator = params.has(1) ? text_of(params[1]) : "";
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += text_of(parts[i]);
    interpreter.budget().check_size(std::ssize(out));
  }
  return Value(std::move(out), escape);
}

Value batch(Interpreter&, Args& args) {
  const Params params(args, "do_batch", {"value", "linecount", "fill_with"}, 2);
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(1, params.integer(1, 1)));
  const Value fill = params.get(2, Value());
  return make_generator(params[0], [=](Iterator& source, Value& out) {
    Values line;
    for (Value item; line.size() < size && source.next(item);) line.push_back(std::move(item));
    if (line.empty()) return false;
    charge(static_cast<std::int64_t>(fill.is_none() ? 0 : size));
    if (!fill.is_none()) line.resize(size, fill);
    out = make_list(std::move(line));
    return true;
  });
}

Value slices(Interpreter&, Args& args) {
  const Params params(args, "do_slice", {"value", "slices", "fill_with"}, 2);
  const Values all = to_values(params[0]);
  const std::int64_t count = params.integer(1, 1);
  if (count == 0) fail(ErrorKind::kArithmetic, "integer division or modulo by zero");
  charge(std::max<std::int64_t>(0, count) * 64);
  Values result;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool extra = i < std::ssize(all) % count;
    const std::int64_t end = begin + std::ssize(all) / count + (extra ? 1 : 0);
    Values part(all.begin() + begin, all.begin() + end);
    if (params.is_set(2) && !extra) part.push_back(params[2]);
    result.push_back(make_list(std::move(part)));
    begin = end;
  }
  return iterate_values(std::move(result), "generator");
}

Value group_by(Interpreter& interpreter, Args& args) {
  static const std::vector<std::string> kNames{"grouper", "list"};
  const Params params(args, "do_groupby", {"value", "attribute", "default", "case_sensitive"}, 2);
  const AttributePath path(params[1]);
  const Value missing = params.get(2, Value());
  const auto key_of = [&](const Value& item) { return path.get(interpreter, item, missing); };
  const auto folded = [&](const Value& key) { return params.flag(3) ? key : ignore_case(key); };
  std::vector<Keyed> keyed;
  for (Value& item : to_values(params[0])) {
    Value key = folded(key_of(item));
    keyed.push_back({std::move(key), std::move(item)});
  }
  const Values items = sorted(std::move(keyed), false);
  Values groups;
  for (std::size_t begin = 0; begin < items.size();) {
    const Value key = key_of(items[begin]);
    std::size_t end = begin + 1;
    while (end < items.size() && equal(folded(key_of(items[end])), folded(key))) ++end;
    const auto from = items.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto to = items.begin() + static_cast<std::ptrdiff_t>(end);
    auto group = std::make_shared<Sequence>(Type::kTuple, Values{key, make_list(Values(from, to))});
    group->names = &kNames;
    groups.emplace_back(std::move(group));
    begin = end;
  }
  return make_list(std::move(groups));
}

constexpr NamedNative kFilters[] = {
    {"length", count},
    {"count", count},
    {"list", list},
    {"first", first},
    {"last", last},
    {"reverse", reverse},
    {"sort", sort},
    {"dictsort", dict_sort},
    {"items", items},
    {"unique", unique},
    {"min", extreme<CompareOp::kLt>},
    {"max", extreme<CompareOp::kGt>},
    {"sum", sum},
    {"join", join},
    {"batch", batch},
    {"slice", slices},
    {"groupby", group_by},
};

}  // namespace

AttributePath::AttributePath(const Value& attribute) {
  if (attribute.is_none()) return;
  if (!attribute.is_str()) {
    parts_.push_back(attribute);
    return;
  }
  for (const std::string_view part : split(attribute.text(), ".", -1, false)) {
    const bool number = !part.empty() && part.size() < 18 &&
                        part.find_first_not_of("0123456789") == std::string_view::npos;
    parts_.push_back(number ? Value(std::int64_t{std::stoll(std::string(part))})
                            : Value(std::string(part)));
  }
}

Value AttributePath::get(Interpreter& interpreter, Value value, const Value& otherwise) const {
  for (const Value& part : parts_) {
    value = interpreter.get_item(value, part);
    if (!otherwise.is_none() && value.is_undefined()) value = otherwise;
  }
  return value;
}

Native find_sequence_filter(std::string_view name) {
  for (const NamedNative& filter : kFilters) {
    if (filter.name == name) return filter.function;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
