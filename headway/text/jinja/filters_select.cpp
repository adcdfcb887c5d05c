// Filters that apply another filter or test to every item, when the item is asked for; and attr.
// Not for: filters on whole sequences (filters_sequence.cpp).
#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/generate.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"

namespace headway::text::jinja {
namespace {

std::optional<Value> keyword(const Args& args, std::string_view name) {
  for (const auto& [known, value] : args.keyword) {
    if (known == name) return value;
  }
  return std::nullopt;
}

// A filter or test called by name with the item in front of the remaining arguments.
class NamedCall {
 public:
  NamedCall(bool is_filter, const Args& args, std::size_t name_at)
      : is_filter_(is_filter), name_(args.positional[name_at]) {
    rest_.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(name_at) + 1,
                            args.positional.end());
    rest_.keyword = args.keyword;
  }
  Value operator()(Interpreter& interpreter, const Value& item) const {
    const std::string name = to_text(name_);
    const Native native = is_filter_ ? find_filter(name) : find_test(name);
    if (native == nullptr || !name_.is_str()) {
      fail(ErrorKind::kRuntime,
           fmt::format("No {} named {}.", is_filter_ ? "filter" : "test", repr(name_)));
    }
    Args args = rest_;
    args.positional.insert(args.positional.begin(), item);
    interpreter.budget().step();
    return native(interpreter, args);
  }

 private:
  bool is_filter_;
  Value name_;
  Args rest_;
};

Value nothing() { return iterate_values({}, "generator"); }

Value map_attribute(Interpreter& interpreter, const Args& args) {
  const Value otherwise = keyword(args, "default").value_or(Value());
  for (const auto& [name, value] : args.keyword) {
    if (name != "attribute" && name != "default") {
      fail(ErrorKind::kRuntime, fmt::format("Unexpected keyword argument '{}'", name));
    }
  }
  const AttributePath path(*keyword(args, "attribute"));
  return make_generator(args.positional[0], [=, &interpreter](Iterator& source, Value& out) {
    if (!source.next(out)) return false;
    out = path.get(interpreter, out, otherwise);
    return true;
  });
}

Value map(Interpreter& interpreter, Args& args) {
  if (!truth(args.positional[0])) return nothing();
  if (args.positional.size() == 1 && keyword(args, "attribute")) {
    return map_attribute(interpreter, args);
  }
  if (args.positional.size() == 1) fail(ErrorKind::kRuntime, "map requires a filter argument");
  const NamedCall filter(true, args, 1);
  return make_generator(args.positional[0], [=, &interpreter](Iterator& source, Value& out) {
    if (!source.next(out)) return false;
    out = filter(interpreter, out);
    return true;
  });
}

template <bool kWanted, bool kByAttribute>
Value choose(Interpreter& interpreter, Args& args) {
  if (!truth(args.positional[0])) return nothing();
  const std::size_t name_at = kByAttribute ? 2 : 1;
  if (kByAttribute && args.positional.size() < 2) {
    fail(ErrorKind::kRuntime, "Missing parameter for attribute name");
  }
  const AttributePath path(kByAttribute ? args.positional[1] : Value());
  std::optional<NamedCall> test;
  if (args.positional.size() > name_at) test.emplace(false, args, name_at);
  return make_generator(args.positional[0], [=, &interpreter](Iterator& source, Value& out) {
    while (source.next(out)) {
      const Value subject = path.get(interpreter, out);
      if (truth(test ? (*test)(interpreter, subject) : subject) == kWanted) return true;
    }
    return false;
  });
}

// Attributes only, unlike the dot, which also looks for items.
Value attribute(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_attr", {"obj", "name"}, 2);
  const std::string& name = params.text(1);
  const Value found = interpreter.get_attribute(params[0], name);
  const bool is_item = params[0].is(Type::kDict) && find_method(params[0], name) == nullptr;
  return is_item ? undefined_member(params[0], params[1]) : found;
}

constexpr NamedNative kFilters[] = {
    {"map", map},
    {"select", choose<true, false>},
    {"reject", choose<false, false>},
    {"selectattr", choose<true, true>},
    {"rejectattr", choose<false, true>},
    {"attr", attribute},
};

}  // namespace

Native find_selection_filter(std::string_view name) {
  for (const NamedNative& filter : kFilters) {
    if (filter.name == name) return filter.function;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
