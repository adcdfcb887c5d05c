// Attribute and item access: object.name, object[key]. Not for: slices.
#include "headway/text/jinja/attributes.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

template <std::size_t N>
bool is_one_of(std::string_view name, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

constexpr std::string_view kListChanges[] = {"append", "clear", "pop",    "reverse",
                                             "insert", "sort",  "extend", "remove"};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
// Attributes every object has in Python, so that an underscore name is refused, not missing.
constexpr std::string_view kObjectAttributes[] = {
    "__class__",         "__doc__",    "__eq__",          "__ne__",
    "__hash__",          "__repr__",   "__str__",         "__init__",
    "__new__",           "__dir__",    "__format__",      "__ge__",
    "__getattribute__",  "__gt__",     "__le__",          "__lt__",
    "__init_subclass__", "__reduce__", "__reduce_ex__",   "__setattr__",
    "__delattr__",       "__sizeof__", "__subclasshook__"};
constexpr std::string_view kContainerAttributes[] = {
    "__len__", "__getitem__", "__contains__", "__iter__", "__add__", "__mul__", "__rmul__"};

// Attributes of a running loop.
std::optional<Value> loop_attribute(Loop& loop, std::string_view name) {
  if (name == "index0") return loop.index0;
  if (name == "index") return loop.index0 + 1;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return loop.is_last();
  if (name == "length") return loop.length();
  if (name == "revindex") return loop.length() - loop.index0;
  if (name == "revindex0") return loop.length() - loop.index0 - 1;
  if (name == "depth0") return loop.depth0;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "previtem") {
    return loop.before && loop.index0 > 0 ? *loop.before
                                          : make_undefined("there is no previous item");
  }
  if (name == "nextitem") {
    const Value* next = loop.peek();
    return next != nullptr ? *next : make_undefined("there is no next item");
  }
  return std::nullopt;
}

std::optional<Value> macro_attribute(const Macro& macro, std::string_view name,
                                     const Template& parsed) {
  if (name == "name") return macro.name.empty() ? Value() : Value(macro.name);
  if (name == "arguments") {
    Values names;
    for (const int parameter : macro.definition.parameters) {
      names.emplace_back(parsed.names[static_cast<std::size_t>(parameter)]);
    }
    return make_list(std::move(names));
  }
  if (name == "catch_kwargs") return macro.definition.uses_kwargs;
  if (name == "catch_varargs") return macro.definition.uses_varargs;
  if (name == "caller") return macro.definition.uses_caller;
  return std::nullopt;
}

std::optional<Value> number_attribute(const Value& value, std::string_view name) {
  if (name == "real") return positive(value);
  if (name == "imag") return value.is(Type::kFloat) ? Value(0.0) : Value(0);
  if (value.is(Type::kFloat)) return std::nullopt;
  if (name == "numerator") return positive(value);
  if (name == "denominator") return Value(1);
  return std::nullopt;
}

std::optional<Value> data_attribute(const Value& object, const std::string& name,
                                    const Template& parsed) {
  switch (object.type()) {
    case Type::kNamespace: {
      const Value* found = object.object<Namespace>().attributes.get(name);
      return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
    }
    case Type::kLoop:
      return loop_attribute(object.object<Loop>(), name);
    case Type::kMacro:
      return macro_attribute(object.object<Macro>(), name, parsed);
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      return number_attribute(object, name);
    case Type::kRange: {
      const auto& range = object.object<Range>();
      if (name == "start") return range.start;
      if (name == "stop") return range.stop;
      if (name == "step") return range.step;
      return std::nullopt;
    }
    case Type::kTuple: {
      const auto& tuple = object.object<Sequence>();
      if (tuple.names == nullptr) return std::nullopt;
      const auto at = std::find(tuple.names->begin(), tuple.names->end(), name);
      if (at == tuple.names->end()) return std::nullopt;
      return tuple.items[static_cast<std::size_t>(at - tuple.names->begin())];
    }
    case Type::kCycler: {
      const auto& cycler = object.object<Cycler>();
      if (name == "current") return cycler.items[cycler.position];
      if (name == "items") return make_tuple(cycler.items);
      if (name == "pos") return cycler.position;
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

bool exists_in_python(const Value& object, std::string_view name) {
  if (is_one_of(name, kObjectAttributes)) return true;
  const bool container = object.is_str() || object.is_sequence() || object.is(Type::kDict) ||
                         object.is(Type::kRange) || object.is(Type::kBytes);
  return container && is_one_of(name, kContainerAttributes);
}

// A member that Python would find, and what the sandbox makes of it; nothing if there is none.
std::optional<Value> member(const Value& object, const std::string& name, const Template& parsed) {
  if (name.starts_with('_')) {
    if (exists_in_python(object, name)) return unsafe_member(object, name);
    return std::nullopt;
  }
  if (is_refused(object, name)) return unsafe_member(object, name);
  if (auto found = data_attribute(object, name, parsed)) return found;
  const Native method = find_method(object, name);
  if (method == nullptr) return std::nullopt;
  auto bound = std::make_shared<Callable>(name, method);
  bound->self = object;
  return Value(bound);
}

std::optional<Value> item(const Value& object, const Value& key) {
  const auto index = [&](std::int64_t size) -> std::optional<std::int64_t> {
    if (!key.is_integral()) return std::nullopt;
    auto i = key.as_big().to_int64();
    if (!i) return std::nullopt;
    if (*i < 0) *i += size;
    return *i >= 0 && *i < size ? i : std::nullopt;
  };
  switch (object.type()) {
    case Type::kDict: {
      if (key.is(Type::kList) || key.is(Type::kDict)) return std::nullopt;
      const Value* found = object.object<Dict>().find(key);
      return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
    }
    case Type::kList:
    case Type::kTuple: {
      const Values& items = object.object<Sequence>().items;
      const auto i = index(std::ssize(items));
      return i ? std::optional<Value>(items[static_cast<std::size_t>(*i)]) : std::nullopt;
    }
    case Type::kStr: {
      const std::string& text = object.text();
      const auto i = index(length(object));
      if (!i) return std::nullopt;
      const std::size_t begin = char_offset(text, *i);
      std::size_t end = begin;
      next_char(text, end);
      return Value(text.substr(begin, end - begin), object.is_safe());
    }
    case Type::kRange: {
      const auto& range = object.object<Range>();
      const auto i = index(range.size);
      return i ? std::optional<Value>(range.at(*i)) : std::nullopt;
    }
    case Type::kBytes: {
      const std::string& bytes = object.object<Bytes>().bytes;
      const auto i = index(std::ssize(bytes));
      if (!i) return std::nullopt;
      return Value(int{static_cast<unsigned char>(bytes[static_cast<std::size_t>(*i)])});
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

bool is_refused(const Value& object, std::string_view name) {
  if (object.is(Type::kList)) return is_one_of(name, kListChanges);
  if (object.is(Type::kDict)) return is_one_of(name, kDictChanges);
  return false;
}

void fail_underscore(const std::string& name) {
  fail(ErrorKind::kSecurity,
       fmt::format("Chat templates cannot store underscore-prefixed attributes on a namespace, but "
                   "got '{}'. Please rename the attribute.",
                   name));
}

Value Interpreter::get_attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) {
    if (is_one_of(name, kObjectAttributes)) return unsafe_member(object, name);
    fail_undefined(object);
  }
  if (auto found = member(object, name, template_)) return *found;
  if (auto found = item(object, Value(name))) return *found;
  return undefined_member(object, Value(name));
}

Value Interpreter::get_item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (auto found = item(object, key)) return *found;
  if (key.is_str()) {
    if (auto found = member(object, key.text(), template_)) return *found;
  }
  return undefined_member(object, key);
}

}  // namespace headway::text::jinja
