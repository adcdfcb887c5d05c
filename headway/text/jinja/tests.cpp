// The tests of `x is …`. Not for: filters.
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

using Predicate = bool (*)(const Value&);

template <Predicate kHolds>
Value unary(Interpreter&, Args& args) {
  return kHolds(Params(args, "test", {"value"}, 1)[0]);
}

template <CompareOp kOp>
Value comparison(Interpreter&, Args& args) {
  const Params params(args, "comparison", {"/a", "/b"}, 2);
  return compare(kOp, params[0], params[1]);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.is(Type::kBool); }
bool is_true(const Value& v) { return v.is(Type::kBool) && v.as_bool(); }
bool is_false(const Value& v) { return v.is(Type::kBool) && !v.as_bool(); }
bool is_integer(const Value& v) { return v.is(Type::kInt); }
bool is_float(const Value& v) { return v.is(Type::kFloat); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is_str(); }
bool is_mapping(const Value& v) { return v.is(Type::kDict); }
bool is_escaped(const Value& v) { return v.is_safe(); }

// len() and item access.
bool is_a_sequence(const Value& v) {
  return has_length(v) && !v.is(Type::kView) && !v.is(Type::kLoop);
}

bool is_callable(const Value& v) {
  return v.is(Type::kCallable) || v.is(Type::kMacro) || v.is(Type::kLoop) || v.is(Type::kJoiner) ||
         v.is_undefined();
}

template <bool (*kCase)(char32_t)>
bool is_all(const Value& v) {
  const std::string text = to_text(v);
  bool any = false;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_char(text, position);
    if (is_cased(c) && !kCase(c)) return false;
    any = any || kCase(c);
  }
  return any;
}

Value remainder_is(const Value& value, const Value& divisor, const Value& wanted) {
  return equal(binary(BinaryOp::kMod, value, divisor), wanted);
}

Value is_odd(Interpreter&, Args& args) {
  return remainder_is(Params(args, "test_odd", {"value"}, 1)[0], 2, 1);
}
Value is_even(Interpreter&, Args& args) {
  return remainder_is(Params(args, "test_even", {"value"}, 1)[0], 2, 0);
}
Value is_divisible(Interpreter&, Args& args) {
  const Params params(args, "test_divisibleby", {"value", "num"}, 2);
  return remainder_is(params[0], params[1], 0);
}
Value is_in(Interpreter&, Args& args) {
  const Params params(args, "test_in", {"value", "seq"}, 2);
  return contains(params[1], params[0]);
}
Value is_same(Interpreter&, Args& args) {
  const Params params(args, "test_sameas", {"value", "other"}, 2);
  return params[0].is_same(params[1]);
}
Value is_filter(Interpreter&, Args& args) {
  const Params params(args, "test_filter", {"value"}, 1);
  hash_of(params[0]);  // an unhashable value is an error, as a key would be
  return params[0].is_str() && find_filter(params[0].text()) != nullptr;
}
Value is_test(Interpreter&, Args& args) {
  const Params params(args, "test_test", {"value"}, 1);
  hash_of(params[0]);
  return params[0].is_str() && find_test(params[0].text()) != nullptr;
}

constexpr NamedNative kTests[] = {
    {"odd", is_odd},
    {"even", is_even},
    {"divisibleby", is_divisible},
    {"defined", unary<is_defined>},
    {"undefined", unary<is_undefined>},
    {"filter", is_filter},
    {"test", is_test},
    {"none", unary<is_none>},
    {"boolean", unary<is_boolean>},
    {"false", unary<is_false>},
    {"true", unary<is_true>},
    {"integer", unary<is_integer>},
    {"float", unary<is_float>},
    {"lower", unary<is_all<is_lower>>},
    {"upper", unary<is_all<is_upper>>},
    {"string", unary<is_string>},
    {"mapping", unary<is_mapping>},
    {"number", unary<is_number>},
    {"sequence", unary<is_a_sequence>},
    {"iterable", unary<is_iterable>},
    {"callable", unary<is_callable>},
    {"sameas", is_same},
    {"escaped", unary<is_escaped>},
    {"in", is_in},
    {"==", comparison<CompareOp::kEq>},
    {"eq", comparison<CompareOp::kEq>},
    {"equalto", comparison<CompareOp::kEq>},
    {"!=", comparison<CompareOp::kNe>},
    {"ne", comparison<CompareOp::kNe>},
    {">", comparison<CompareOp::kGt>},
    {"gt", comparison<CompareOp::kGt>},
    {"greaterthan", comparison<CompareOp::kGt>},
    {">=", comparison<CompareOp::kGe>},
    {"ge", comparison<CompareOp::kGe>},
    {"<", comparison<CompareOp::kLt>},
    {"lt", comparison<CompareOp::kLt>},
    {"lessthan", comparison<CompareOp::kLt>},
    {"<=", comparison<CompareOp::kLe>},
    {"le", comparison<CompareOp::kLe>},
};

}  // namespace

Native find_test(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [&](const NamedNative& test) { return test.name == name; });
  return found == std::end(kTests) ? nullptr : found->function;
}

}  // namespace headway::text::jinja
