// Equality, order, membership, truth and hashes. Not for: arithmetic (operators.cpp).
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

// Values that contain themselves many times over would otherwise take exponential time.
void count_step() {
  if (Budget* budget = Budget::active()) budget->step();
}

// Exact, also between an integer and a float.
std::partial_ordering order_numbers(const Value& a, const Value& b) {
  if (a.is(Type::kFloat) && b.is(Type::kFloat)) return a.as_float() <=> b.as_float();
  if (a.small_int() && b.small_int()) return *a.small_int() <=> *b.small_int();
  if (b.is(Type::kFloat)) {
    const double right = b.as_float();
    if (std::isnan(right)) return std::partial_ordering::unordered;
    if (std::isinf(right)) {
      return right > 0 ? std::partial_ordering::less : std::partial_ordering::greater;
    }
    const auto whole = a.as_big() <=> BigInt::from_double(std::trunc(right));
    if (whole != 0) return whole;
    return 0.0 <=> (right - std::trunc(right));
  }
  if (a.is(Type::kFloat)) {
    const auto order = order_numbers(b, a);
    return order == std::partial_ordering::unordered ? order : 0 <=> order;
  }
  return a.as_big() <=> b.as_big();
}

bool equal_items(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equal(a[i], b[i])) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(value, *other)) return false;
  }
  return true;
}

bool equal_ranges(const Range& a, const Range& b) {
  if (a.size != b.size) return false;
  return a.size == 0 || (a.start == b.start && (a.size == 1 || a.step == b.step));
}

bool equal_views(const View& a, const View& b) {
  if (a.kind != b.kind || a.kind == ViewKind::kValues) return &a == &b;
  const auto& left = a.dict.object<Dict>();
  const auto& right = b.dict.object<Dict>();
  if (a.kind == ViewKind::kItems) return equal_dicts(left, right);
  if (left.items.size() != right.items.size()) return false;
  for (const auto& [key, value] : left.items) {
    if (right.find(key) == nullptr) return false;
  }
  return true;
}

// Whether `item` is what a list would find: the same object or an equal one.
bool matches(const Value& candidate, const Value& item) {
  return candidate.is(Type::kFloat) && item.is(Type::kFloat)
             ? candidate.as_float() == item.as_float()
             : equal(candidate, item);
}

bool order_values(CompareOp op, const Value& a, const Value& b);

bool order_sequences(CompareOp op, const Values& a, const Values& b) {
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if (!equal(a[i], b[i])) return order_values(op, a[i], b[i]);
  }
  return order_values(op, Value(a.size()), Value(b.size()));
}

bool holds(CompareOp op, std::partial_ordering order) {
  switch (op) {
    case CompareOp::kLt:
      return order < 0;
    case CompareOp::kLe:
      return order <= 0;
    case CompareOp::kGt:
      return order > 0;
    default:
      return order >= 0;
  }
}

bool order_values(CompareOp op, const Value& a, const Value& b) {
  count_step();
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) return holds(op, order_numbers(a, b));
  // Byte order of UTF-8 is code point order.
  if (a.is_str() && b.is_str()) return holds(op, a.text().compare(b.text()) <=> 0);
  if (a.is_sequence() && a.type() == b.type()) {
    return order_sequences(op, a.object<Sequence>().items, b.object<Sequence>().items);
  }
  constexpr std::string_view kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  fail_type(fmt::format("'{}' not supported between instances of '{}' and '{}'",
                        kSymbols[static_cast<int>(op)], type_name(a), type_name(b)));
}

bool contains_iterated(const Value& container, const Value& item) {
  const auto items = iterate(container);
  for (Value candidate; items->next(candidate);) {
    if (matches(candidate, item)) return true;
  }
  return false;
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  count_step();
  if (a.is_number() && b.is_number()) return order_numbers(a, b) == 0;
  if (a.is_str() && b.is_str()) return a.text() == b.text();
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kNone:
    case Type::kUndefined:
      return true;
    default:
      break;
  }
  if (a.object_ptr() == b.object_ptr()) return true;
  switch (a.type()) {
    case Type::kList:
    case Type::kTuple:
      return equal_items(a.object<Sequence>().items, b.object<Sequence>().items);
    case Type::kDict:
      return equal_dicts(a.object<Dict>(), b.object<Dict>());
    case Type::kRange:
      return equal_ranges(a.object<Range>(), b.object<Range>());
    case Type::kView:
      return equal_views(a.object<View>(), b.object<View>());
    case Type::kBytes:
      return a.object<Bytes>().bytes == b.object<Bytes>().bytes;
    case Type::kCallable: {
      const auto& left = a.object<Callable>();
      const auto& right = b.object<Callable>();
      return left.function == right.function && left.self.has_value() == right.self.has_value() &&
             (!left.self || left.self->is_same(*right.self));
    }
    default:
      return false;
  }
}

bool compare(CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEq:
      return equal(a, b);
    case CompareOp::kNe:
      return !equal(a, b);
    case CompareOp::kIn:
      return contains(b, a);
    case CompareOp::kNotIn:
      return !contains(b, a);
    default:
      return order_values(op, a, b);
  }
}

bool contains(const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kStr:
      if (!item.is_str()) {
        fail_type(
            fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
      }
      charge(0);
      if (Budget* budget = Budget::active()) budget->step(std::ssize(container.text()) / 256);
      return container.text().find(item.text()) != std::string::npos;
    case Type::kDict:
      return container.object<Dict>().find(item) != nullptr;
    case Type::kView: {
      const auto& view = container.object<View>();
      if (view.kind == ViewKind::kKeys) return contains(view.dict, item);
      return contains_iterated(container, item);
    }
    case Type::kNone:
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      fail_type(fmt::format("argument of type '{}' is not iterable", type_name(container)));
    default:
      if (!is_iterable(container)) {
        fail_type(fmt::format("argument of type '{}' is not iterable", type_name(container)));
      }
      return contains_iterated(container, item);
  }
}

bool truth(const Value& value) {
  switch (value.type()) {
    case Type::kNone:
    case Type::kUndefined:
      return false;
    case Type::kBool:
      return value.as_bool();
    case Type::kInt:
      return !value.small_int() || *value.small_int() != 0;
    case Type::kFloat:
      return value.as_float() != 0.0;
    case Type::kStr:
      return !value.text().empty();
    default:
      return !has_length(value) || length(value) != 0;
  }
}

bool has_length(const Value& value) {
  switch (value.type()) {
    case Type::kStr:
    case Type::kBytes:
    case Type::kUndefined:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kView:
    case Type::kRange:
    case Type::kLoop:
      return true;
    default:
      return false;
  }
}

std::int64_t length(const Value& value) {
  switch (value.type()) {
    case Type::kStr:
      if (Budget* budget = Budget::active()) budget->step(std::ssize(value.text()) / 1024);
      return char_count(value.text());
    case Type::kBytes:
      return std::ssize(value.object<Bytes>().bytes);
    case Type::kUndefined:
      return 0;
    case Type::kList:
    case Type::kTuple:
      return std::ssize(value.object<Sequence>().items);
    case Type::kDict:
      return std::ssize(value.object<Dict>().items);
    case Type::kView:
      return length(value.object<View>().dict);
    case Type::kRange:
      return value.object<Range>().size;
    case Type::kLoop:
      return value.object<Loop>().length();
    default:
      fail_type(fmt::format("object of type '{}' has no len()", type_name(value)));
  }
}

std::size_t hash_of_text(std::string_view text) { return std::hash<std::string_view>()(text); }

std::size_t hash_of(const Value& value) {
  count_step();
  switch (value.type()) {
    case Type::kStr:
      return hash_of_text(value.text());
    case Type::kBool:
      return std::hash<std::int64_t>()(value.as_bool() ? 1 : 0);
    case Type::kInt:
      return value.small_int() ? std::hash<std::int64_t>()(*value.small_int())
                               : std::hash<double>()(value.as_big().to_double());
    case Type::kFloat: {
      const double number = value.as_float();
      if (std::trunc(number) == number && std::fabs(number) < 0x1p63) {
        return std::hash<std::int64_t>()(static_cast<std::int64_t>(number));
      }
      return std::hash<double>()(number);
    }
    case Type::kTuple: {
      std::size_t hash = 17;
      for (const Value& item : value.object<Sequence>().items)
        hash = hash * 1000003 + hash_of(item);
      return hash;
    }
    case Type::kList:
    case Type::kDict:
      fail_type(fmt::format("unhashable type: '{}'", type_name(value)));
    case Type::kNone:
      return 0x6E6F6E65;
    case Type::kUndefined:
      return 0x756E6466;
    default:
      return std::hash<const void*>()(value.object_ptr().get());
  }
}

}  // namespace headway::text::jinja
