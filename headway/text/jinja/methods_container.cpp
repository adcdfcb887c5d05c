// Methods of lists, tuples, dicts, numbers and template objects, and which type has which.
// Not for: str (methods_text.cpp, methods_search.cpp).
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"

namespace headway::text::jinja {
namespace {

template <ViewKind kKind>
Value view(Interpreter&, Args& args) {
  const Params params(args, "dict view", {"/self"}, 1);
  return std::make_shared<View>(params[0], kKind);
}

Value dict_get(Interpreter&, Args& args) {
  const Params params(args, "get", {"/self", "/key", "/default"}, 2);
  const Value* found = params[0].object<Dict>().find(params[1]);
  return found != nullptr ? *found : params.get(2, Value());
}

Value copy(Interpreter&, Args& args) {
  const Params params(args, "copy", {"/self"}, 1);
  if (params[0].is(Type::kList)) return make_list(params[0].object<Sequence>().items);
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : params[0].object<Dict>().items) dict->set(key, value);
  return dict;
}

Value dict_from_keys(Interpreter&, Args& args) {
  const Params params(args, "fromkeys", {"/self", "/iterable", "/value"}, 2);
  auto dict = std::make_shared<Dict>();
  for (const Value& key : to_values(params[1])) dict->set(key, params.get(2, Value()));
  return dict;
}

Value sequence_index(Interpreter&, Args& args) {
  const Params params(args, "index", {"/self", "/value", "/start", "/stop"}, 2);
  const Values items = to_values(params[0]);
  const auto size = std::ssize(items);
  const auto bound = [&](std::size_t i, std::int64_t missing) {
    const std::int64_t given = params.integer(i, missing);
    return std::clamp<std::int64_t>(given < 0 ? given + size : given, 0, size);
  };
  for (std::int64_t i = bound(2, 0); i < bound(3, size); ++i) {
    if (equal(items[static_cast<std::size_t>(i)], params[1])) return i;
  }
  fail(ErrorKind::kValue, repr(params[1]) + " is not in " + type_name(params[0]));
}

Value sequence_count(Interpreter&, Args& args) {
  const Params params(args, "count", {"/self", "/value"}, 2);
  const Values items = to_values(params[0]);
  return static_cast<std::int64_t>(std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return equal(item, params[1]); }));
}

Value bit_length(Interpreter&, Args& args) { return args.positional.front().as_big().bits(); }
Value conjugate(Interpreter&, Args& args) { return positive(args.positional.front()); }

Value is_integer(Interpreter&, Args& args) {
  const double number = args.positional.front().as_float();
  return std::isfinite(number) && std::floor(number) == number;
}

Value loop_cycle(Interpreter&, Args& args) {
  const auto& loop = args.positional.front().object<Loop>();
  const std::size_t count = args.positional.size() - 1;
  if (count == 0) fail_type("no items for cycling given");
  return args.positional[1 + static_cast<std::size_t>(loop.index0) % count];
}

Value loop_changed(Interpreter&, Args& args) {
  auto& loop = args.positional.front().object<Loop>();
  const Value now = make_tuple(Values(args.positional.begin() + 1, args.positional.end()));
  if (loop.last_changed && equal(*loop.last_changed, now)) return false;
  loop.last_changed = now;
  return true;
}

Value cycler_next(Interpreter&, Args& args) {
  auto& cycler = args.positional.front().object<Cycler>();
  const Value current = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return current;
}

Value cycler_reset(Interpreter&, Args& args) {
  args.positional.front().object<Cycler>().position = 0;
  return {};
}

Value decode_bytes(Interpreter&, Args& args) {
  const Params params(args, "decode", {"/self", "encoding", "errors"}, 1);
  return params[0].object<Bytes>().bytes;  // made from text, so it is UTF-8
}

constexpr NamedNative kDictMethods[] = {{"items", view<ViewKind::kItems>},
                                        {"keys", view<ViewKind::kKeys>},
                                        {"values", view<ViewKind::kValues>},
                                        {"get", dict_get},
                                        {"copy", copy},
                                        {"fromkeys", dict_from_keys}};
constexpr NamedNative kListMethods[] = {
    {"index", sequence_index}, {"count", sequence_count}, {"copy", copy}};
constexpr NamedNative kTupleMethods[] = {{"index", sequence_index}, {"count", sequence_count}};
constexpr NamedNative kIntMethods[] = {{"bit_length", bit_length}, {"conjugate", conjugate}};
constexpr NamedNative kFloatMethods[] = {{"is_integer", is_integer}, {"conjugate", conjugate}};
constexpr NamedNative kLoopMethods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};
constexpr NamedNative kCyclerMethods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
constexpr NamedNative kBytesMethods[] = {{"decode", decode_bytes}};

template <std::size_t N>
Native pick(const NamedNative (&methods)[N], std::string_view name) {
  const auto* found = std::find_if(std::begin(methods), std::end(methods),
                                   [&](const NamedNative& m) { return m.name == name; });
  return found == std::end(methods) ? nullptr : found->function;
}

}  // namespace

Native find_method(const Value& object, std::string_view name) {
  switch (object.type()) {
    case Type::kStr: {
      const Native method = find_text_method(name);
      return method != nullptr ? method : find_format_method(name);
    }
    case Type::kDict:
      return pick(kDictMethods, name);
    case Type::kList:
      return pick(kListMethods, name);
    case Type::kTuple:
    case Type::kRange:
      return pick(kTupleMethods, name);
    case Type::kBool:
    case Type::kInt:
      return pick(kIntMethods, name);
    case Type::kFloat:
      return pick(kFloatMethods, name);
    case Type::kLoop:
      return pick(kLoopMethods, name);
    case Type::kCycler:
      return pick(kCyclerMethods, name);
    case Type::kBytes:
      return pick(kBytesMethods, name);
    default:
      return nullptr;
  }
}

}  // namespace headway::text::jinja
