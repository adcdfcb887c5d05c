// The values of templates: Python's, as far as a template can see them. All immutable but
// namespaces. Not for: what operators and methods do with them (operators.h, attributes.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "headway/text/jinja/big_int.h"

namespace headway::text::jinja {

enum class Type {
  kNone,
  kBool,
  kInt,
  kFloat,
  kStr,
  kBytes,
  kUndefined,
  kList,
  kTuple,
  kDict,
  kView,
  kRange,
  kNamespace,
  kIterator,
  kCallable,
  kMacro,
  kLoop,
  kCycler,
  kJoiner,
};

/// Everything that is not a number or a text. `depth` is how deeply containers nest in it.
struct Object {
  explicit Object(Type type) : type(type) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  const Type type;
  int depth = 0;
};

/// UTF-8. `safe` marks what markupsafe would: it is not escaped, and escapes what it is joined
/// with.
struct Str {
  std::shared_ptr<const std::string> text;
  bool safe = false;
};

class Value {
 public:
  Value() = default;                                                     // None
  Value(bool value) : data_(value) {}                                    // NOLINT
  Value(int value) : data_(std::int64_t{value}) {}                       // NOLINT
  Value(std::int64_t value) : data_(value) {}                            // NOLINT
  Value(std::size_t value) : data_(static_cast<std::int64_t>(value)) {}  // NOLINT
  Value(double value) : data_(value) {}                                  // NOLINT
  Value(BigInt value);                                   // NOLINT: 64 bits where it fits
  Value(std::string text, bool safe = false);            // NOLINT
  Value(const char* text) : Value(std::string(text)) {}  // NOLINT
  Value(Str text) : data_(std::move(text)) {}            // NOLINT
  template <class T>
  Value(std::shared_ptr<T> object) : data_(std::shared_ptr<Object>(std::move(object))) {}  // NOLINT

  Type type() const;
  bool is(Type wanted) const { return type() == wanted; }
  bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_str() const { return std::holds_alternative<Str>(data_); }
  bool is_undefined() const { return is(Type::kUndefined); }
  /// bool and int: what Python's int() class holds.
  bool is_integral() const { return is(Type::kInt) || is(Type::kBool); }
  bool is_number() const { return is_integral() || is(Type::kFloat); }
  bool is_sequence() const { return is(Type::kList) || is(Type::kTuple); }

  bool as_bool() const { return std::get<bool>(data_); }
  double as_float() const { return std::get<double>(data_); }
  const std::string& text() const { return *std::get<Str>(data_).text; }
  bool is_safe() const { return is_str() && std::get<Str>(data_).safe; }
  const Str& str() const { return std::get<Str>(data_); }
  /// Of a bool or int that fits in 64 bits.
  const std::int64_t* small_int() const { return std::get_if<std::int64_t>(&data_); }
  /// Of any bool or int.
  BigInt as_big() const;
  template <class T>
  T& object() const {
    return static_cast<T&>(*std::get<std::shared_ptr<Object>>(data_));
  }
  const std::shared_ptr<Object>& object_ptr() const {
    return std::get<std::shared_ptr<Object>>(data_);
  }
  /// Same object, as Python's `is`.
  bool is_same(const Value& other) const;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, Str, std::shared_ptr<const BigInt>,
               std::shared_ptr<Object>>
      data_;
};

using Values = std::vector<Value>;

/// list and tuple. `names` are the fields of a named tuple, or null.
struct Sequence : Object {
  Sequence(Type type, Values items);
  Values items;
  const std::vector<std::string>* names = nullptr;
};

struct Dict : Object {
  Dict() : Object(Type::kDict) {}
  /// Adds, or replaces the value of an equal key, which keeps its place and spelling. Only while
  /// the dict is made. Errors: TemplateError of kind type if the key is not hashable.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* get(std::string_view key) const;

  std::vector<std::pair<Value, Value>> items;

 private:
  std::ptrdiff_t position(const Value& key, std::size_t hash) const;
  std::unordered_multimap<std::size_t, std::size_t> index_;  // only of long ones
};

enum class ViewKind { kKeys, kValues, kItems };
struct View : Object {
  View(Value dict, ViewKind kind);
  Value dict;
  ViewKind kind;
};

struct Range : Object {
  Range(std::int64_t start, std::int64_t stop, std::int64_t step);
  std::int64_t at(std::int64_t i) const { return start + i * step; }
  std::int64_t start, stop, step, size;
};

struct Bytes : Object {
  explicit Bytes(std::string bytes) : Object(Type::kBytes), bytes(std::move(bytes)) {}
  std::string bytes;
};

/// What a missing name or item becomes: printable as nothing, an error in most uses.
struct Undefined : Object {
  explicit Undefined(std::string hint) : Object(Type::kUndefined), hint(std::move(hint)) {}
  Undefined(std::string owner, Value name)
      : Object(Type::kUndefined), owner(std::move(owner)), name(std::move(name)) {}
  std::string message() const;

  std::string hint;   // the whole message, if not empty
  std::string owner;  // "'dict object'", or empty for a variable
  Value name;
  bool unsafe = false;  // the sandbox refused: use is a security error
};

struct Namespace : Object {
  Namespace() : Object(Type::kNamespace) {}
  Dict attributes;
};

/// Values made one by one as they are asked for: map, select, items, reversed.
struct Iterator : Object {
  Iterator(std::string name, int source_depth);
  virtual bool next(Value& out) = 0;
  std::string name;  // "generator", "list_reverseiterator"
};

Value make_list(Values items);
Value make_tuple(Values items);
Value make_undefined(std::string hint);
/// Undefined for an attribute or item `name` that `owner` does not have.
Value undefined_member(const Value& owner, Value name);
Value undefined_variable(std::string_view name);
/// For an attribute the sandbox refuses.
Value unsafe_member(const Value& owner, std::string_view name);

/// "str", "NoneType", "dict": Python's name of the class.
std::string type_name(const Value& value);

/// Errors: TemplateError of kind undefined, or security, with the value's own message.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace headway::text::jinja
