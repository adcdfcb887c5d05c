// Values that can be called or that belong to a running template: functions, macros, loops.
// Not for: plain data (value.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

class Interpreter;
struct Statement;
struct Frame;

/// Arguments of one call, evaluated. Methods and filters find their object as the first positional.
struct Args {
  Values positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

using Native = Value (*)(Interpreter&, Args&);

/// A built-in function, or a method together with its object.
struct Callable : Object {
  Callable(std::string name, Native function)
      : Object(Type::kCallable), name(std::move(name)), function(function) {}
  std::string name;
  Native function;
  std::optional<Value> self;
};

/// A macro, or the body of a call block, with the scope it was defined in.
struct Macro : Object {
  Macro(const Statement& definition, std::shared_ptr<Frame> scope, bool autoescape);
  const Statement& definition;
  std::shared_ptr<Frame> scope;
  std::string name;
  bool autoescape;
};

/// The variable `loop`. Looks one item ahead only when asked for `last` or `nextitem`.
struct Loop : Object {
  Loop(Value iterable, std::shared_ptr<Iterator> items, int depth0);
  /// The next item, or false at the end.
  bool advance(Value& item);
  bool is_last() { return !peek(); }
  std::int64_t length();
  /// The item after this one, or null.
  const Value* peek();

  std::int64_t index0 = -1;
  int depth0;
  std::optional<Value> before;
  std::optional<Value> current;
  std::optional<Value> last_changed;
  const Statement* recursive = nullptr;  // the loop to run when it is called
  std::shared_ptr<Frame> scope;          // around the loop, if recursive

 private:
  Value iterable_;
  std::shared_ptr<Iterator> items_;
  std::optional<Value> after_;
  std::optional<std::int64_t> length_;
};

struct Cycler : Object {
  explicit Cycler(Values items) : Object(Type::kCycler), items(std::move(items)) {}
  Values items;
  std::size_t position = 0;
};

struct Joiner : Object {
  explicit Joiner(Value separator) : Object(Type::kJoiner), separator(std::move(separator)) {}
  Value separator;
  bool used = false;
};

/// Values of an iterable one by one. Errors: TemplateError of kind type ("'int' object is not
/// iterable").
std::shared_ptr<Iterator> iterate(const Value& value);
bool is_iterable(const Value& value);
/// All of them at once.
Values to_values(const Value& value);
/// An iterator over values already made.
std::shared_ptr<Iterator> iterate_values(Values values, std::string name = "list_iterator");
/// reversed(value), or nothing for a value that has no reverse order.
std::shared_ptr<Iterator> iterate_reversed(const Value& value);

}  // namespace headway::text::jinja
