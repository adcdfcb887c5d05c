// Calls: of macros with their parameters, and of every other value that can be called.
// Not for: the arguments' evaluation (evaluate.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/scopes.h"

namespace headway::text::jinja {
namespace {

std::optional<Value> take_keyword(Args& args, std::string_view name) {
  const auto found = std::find_if(args.keyword.begin(), args.keyword.end(),
                                  [&](const auto& item) { return item.first == name; });
  if (found == args.keyword.end()) return std::nullopt;
  Value value = std::move(found->second);
  args.keyword.erase(found);
  return value;
}

Value keyword_dict(const Args& args) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : args.keyword) dict->set(Value(name), value);
  return dict;
}

class CallDepth {
 public:
  CallDepth(int& calls, int limit) : calls_(calls) {
    if (calls >= limit) fail(ErrorKind::kRecursion, "maximum recursion depth exceeded");
    ++calls_;
  }
  ~CallDepth() { --calls_; }

 private:
  int& calls_;
};

}  // namespace

Macro::Macro(const Statement& definition, std::shared_ptr<Frame> scope, bool autoescape)
    : Object(Type::kMacro),
      definition(definition),
      scope(std::move(scope)),
      autoescape(autoescape) {}

// The order of steps decides which error a wrong call gets; it is the reference's.
void Interpreter::bind_parameters(const Macro& macro, Args& args, const FramePtr& frame) {
  const Statement& s = macro.definition;
  const auto name_of = [&](int name) -> const std::string& {
    return template_.names[static_cast<std::size_t>(name)];
  };
  const std::size_t count = s.parameters.size();
  std::vector<std::optional<Value>> given(count);
  for (std::size_t i = 0; i < count; ++i) {
    given[i] = i < args.positional.size() ? std::optional<Value>(args.positional[i])
                                          : take_keyword(args, name_of(s.parameters[i]));
  }
  const bool explicit_caller =
      std::find(s.parameters.begin(), s.parameters.end(), kCallerName) != s.parameters.end();
  if (s.uses_caller && !explicit_caller) {
    auto caller = take_keyword(args, "caller");
    frame->set(kCallerName, caller ? *caller : make_undefined("No caller defined"));
  }
  if (s.uses_kwargs) {
    frame->set(kKwargsName, keyword_dict(args));
  } else if (!args.keyword.empty()) {
    const std::string& surplus = args.keyword.front().first;
    fail_type(fmt::format("macro {} takes no keyword argument {}", repr_text(macro.name),
                          repr_text(surplus)));
  }
  if (s.uses_varargs) {
    const auto rest = std::min(count, args.positional.size());
    frame->set(kVarargsName,
               make_tuple(Values(args.positional.begin() + static_cast<std::ptrdiff_t>(rest),
                                 args.positional.end())));
  } else if (args.positional.size() > count) {
    fail_type(
        fmt::format("macro {} takes not more than {} argument(s)", repr_text(macro.name), count));
  }
  const std::size_t required = count - s.defaults.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (given[i]) frame->set(s.parameters[i], *given[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (given[i]) continue;
    frame->set(s.parameters[i], i < required
                                    ? make_undefined(fmt::format("parameter '{}' was not provided",
                                                                 name_of(s.parameters[i])))
                                    : evaluate(*s.defaults[i - required], frame));
  }
}

Value Interpreter::call_macro(const Macro& macro, Args& args) {
  const CallDepth calls(calls_, budget_.limits().calls);
  const auto frame = std::make_shared<Frame>(macro.scope);
  const bool before = autoescape_;
  bind_parameters(macro, args, frame);
  frame->hide(macro.definition.unset);
  Buffer buffer(*this);
  execute(macro.definition.body, frame);
  autoescape_ = before;
  return Value(std::move(buffer.text), autoescape_);
}

Value Interpreter::call(const Value& callee, Args args) {
  const Depth depth(*this);
  switch (callee.type()) {
    case Type::kUndefined:
      fail_undefined(callee);
    case Type::kMacro:
      return call_macro(callee.object<Macro>(), args);
    case Type::kLoop: {
      const CallDepth calls(calls_, budget_.limits().calls);
      return call_loop(callee.object<Loop>(), args);
    }
    case Type::kCallable: {
      const auto& function = callee.object<Callable>();
      if (function.self) args.positional.insert(args.positional.begin(), *function.self);
      return function.function(*this, args);
    }
    case Type::kJoiner: {
      auto& joiner = callee.object<Joiner>();
      const bool used = std::exchange(joiner.used, true);
      return used ? joiner.separator : Value("");
    }
    default:
      fail_type(fmt::format("'{}' object is not callable", type_name(callee)));
  }
}

}  // namespace headway::text::jinja
