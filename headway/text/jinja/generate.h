// Values computed when they are asked for, and look-up of attributes by path, for filters.
// Not for: loops.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {

/// A generator over `source`: `step` finds the next value with it, or returns false.
class Generator final : public Iterator {
 public:
  using Step = std::function<bool(Iterator& source, Value& out)>;
  Generator(std::shared_ptr<Iterator> source, Step step)
      : Iterator("generator", source->depth), source_(std::move(source)), step_(std::move(step)) {}
  bool next(Value& out) override { return step_(*source_, out); }

 private:
  std::shared_ptr<Iterator> source_;
  Step step_;
};

inline Value make_generator(const Value& source, Generator::Step step) {
  return std::make_shared<Generator>(iterate(source), std::move(step));
}

/// Text in lower case; other values as they are.
inline Value ignore_case(const Value& value) {
  return value.is_str() ? Value(to_lower(value.text())) : value;
}

/// A way into a value: "a.b.0", or a key as it is. Empty: the value itself.
class AttributePath {
 public:
  explicit AttributePath(const Value& attribute);
  Value get(Interpreter& interpreter, Value value) const {
    return get(interpreter, value, Value());
  }
  /// `otherwise`, unless None, stands in for whatever is undefined on the way.
  Value get(Interpreter& interpreter, Value value, const Value& otherwise) const;

 private:
  Values parts_;
};

}  // namespace headway::text::jinja
