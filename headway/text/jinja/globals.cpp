// Functions every template can call. Not for: variables of the caller.
#include <fmt/format.h>

#include "headway/text/jinja/attributes.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"

namespace headway::text::jinja {
namespace {

Value range(Interpreter&, Args& args) {
  const Params params(args, "range", {"/start", "/stop", "/step"}, 1);
  const std::int64_t start = params.has(1) ? params.integer(0, 0) : 0;
  const std::int64_t stop = params.has(1) ? params.integer(1, 0) : params.integer(0, 0);
  const std::int64_t step = params.integer(2, 1);
  if (step == 0) fail(ErrorKind::kValue, "range() arg 3 must not be zero");
  return std::make_shared<Range>(start, stop, step);
}

void add_pairs(Dict& dict, const Value& source) {
  if (source.is(Type::kDict)) {
    for (const auto& [key, value] : source.object<Dict>().items) dict.set(key, value);
    return;
  }
  std::int64_t position = 0;
  const auto items = iterate(source);
  for (Value item; items->next(item); ++position) {
    if (!is_iterable(item)) {
      fail_type(fmt::format("cannot convert dictionary update sequence element #{} to a sequence",
                            position));
    }
    const Values pair = to_values(item);
    if (pair.size() != 2) {
      fail(ErrorKind::kValue,
           fmt::format("dictionary update sequence element #{} has length {}; 2 is required",
                       position, pair.size()));
    }
    dict.set(pair[0], pair[1]);
  }
}

void fill_dict(Dict& dict, const Args& args) {
  if (args.positional.size() > 1) {
    fail_type(fmt::format("dict expected at most 1 argument, got {}", args.positional.size()));
  }
  if (!args.positional.empty()) add_pairs(dict, args.positional[0]);
  for (const auto& [name, value] : args.keyword) dict.set(Value(name), value);
}

Value dict(Interpreter&, Args& args) {
  auto result = std::make_shared<Dict>();
  fill_dict(*result, args);
  return result;
}

Value make_namespace(Interpreter& interpreter, Args& args) {
  auto result = std::make_shared<Namespace>();
  fill_dict(result->attributes, args);
  for (const auto& [key, value] : result->attributes.items) {
    if (key.is_str() && key.text().starts_with('_')) fail_underscore(key.text());
  }
  return interpreter.adopt(std::move(result));
}

Value cycler(Interpreter&, Args& args) {
  if (args.positional.empty()) fail(ErrorKind::kRuntime, "at least one item has to be provided");
  return std::make_shared<Cycler>(args.positional);
}

Value joiner(Interpreter&, Args& args) {
  const Params params(args, "Joiner", {"sep"}, 0);
  return std::make_shared<Joiner>(params.get(0, Value(", ")));
}

Value raise(Interpreter&, Args& args) {
  const Params params(args, "raise_exception", {"message"}, 1);
  fail(ErrorKind::kRaised, to_text(params[0]));
}

Value time_now(Interpreter& interpreter, Args& args) {
  const Params params(args, "strftime_now", {"format"}, 1);
  return interpreter.format_time(params.text(0));
}

Value lorem_ipsum(Interpreter&, Args&) {
  fail(ErrorKind::kRuntime, "lipsum() makes random text, which chat templates have no use for");
}

// The template itself, whose blocks could be called; chat templates have none.
Value self_reference(Interpreter&, Args&) {
  fail_type("'TemplateReference' object is not callable");
}

constexpr NamedNative kGlobals[] = {
    {"self", self_reference},      {"range", range},           {"dict", dict},
    {"namespace", make_namespace}, {"cycler", cycler},         {"joiner", joiner},
    {"raise_exception", raise},    {"strftime_now", time_now}, {"lipsum", lorem_ipsum},
};

}  // namespace

Native find_global(std::string_view name) {
  for (const NamedNative& global : kGlobals) {
    if (global.name == name) return global.function;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
