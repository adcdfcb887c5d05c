// Construction of values, with their cost. Not for: comparing or printing them.
#include "headway/text/jinja/value.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/print.h"

namespace headway::text::jinja {
namespace {

constexpr std::size_t kIndexedDict = 8;

int checked_depth(int depth) {
  const int allowed = Budget::active() != nullptr ? Budget::active()->limits().nesting : 400;
  if (depth > allowed) {
    fail(ErrorKind::kRecursion, fmt::format("values nested more than {} deep", allowed));
  }
  return depth;
}

int depth_of(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kView:
    case Type::kIterator:
      return value.object_ptr()->depth;
    default:
      return 0;
  }
}

// Of an owner, as jinja2.utils.object_type_repr names it, quoted.
std::string owner_name(const Value& owner) {
  if (owner.is_none()) return "'None'";
  switch (owner.type()) {
    case Type::kNamespace:
      return "'transformers.utils.chat_template_utils._cached_compile_jinja_template.<locals>."
             "TemplateNamespace object'";
    case Type::kMacro:
      return "'jinja2.runtime.Macro object'";
    case Type::kLoop:
      return "'jinja2.runtime.LoopContext object'";
    default:
      return "'" + type_name(owner) + " object'";
  }
}

}  // namespace

Value::Value(BigInt value) {
  if (const auto small = value.to_int64()) {
    data_ = *small;
  } else {
    charge(value.bits() / 8);
    data_ = std::make_shared<const BigInt>(std::move(value));
  }
}

Value::Value(std::string text, bool safe) {
  charge(static_cast<std::int64_t>(text.size()));
  data_ = Str{std::make_shared<const std::string>(std::move(text)), safe};
}

Type Value::type() const {
  switch (data_.index()) {
    case 0:
      return Type::kNone;
    case 1:
      return Type::kBool;
    case 2:
    case 5:
      return Type::kInt;
    case 3:
      return Type::kFloat;
    case 4:
      return Type::kStr;
    default:
      return std::get<std::shared_ptr<Object>>(data_)->type;
  }
}

BigInt Value::as_big() const {
  if (const auto* small = std::get_if<std::int64_t>(&data_)) return BigInt(*small);
  if (const auto* truth = std::get_if<bool>(&data_)) return BigInt(*truth ? 1 : 0);
  return *std::get<std::shared_ptr<const BigInt>>(data_);
}

bool Value::is_same(const Value& other) const {
  if (type() != other.type()) return false;
  switch (type()) {
    case Type::kNone:
      return true;
    case Type::kBool:
      return as_bool() == other.as_bool();
    case Type::kInt:
      return as_big() == other.as_big();
    case Type::kFloat:
      return as_float() == other.as_float();
    case Type::kStr:
      return text() == other.text() && is_safe() == other.is_safe();
    default:
      return object_ptr() == other.object_ptr();
  }
}

Sequence::Sequence(Type type, Values values) : Object(type), items(std::move(values)) {
  charge(static_cast<std::int64_t>(items.size() * sizeof(Value)) + 64);
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  depth = checked_depth(depth + 1);
}

std::ptrdiff_t Dict::position(const Value& key, std::size_t hash) const {
  if (items.size() <= kIndexedDict) {
    const auto found = std::find_if(items.begin(), items.end(),
                                    [&](const auto& item) { return equal(item.first, key); });
    return found == items.end() ? -1 : found - items.begin();
  }
  const auto [first, last] = index_.equal_range(hash);
  for (auto i = first; i != last; ++i) {
    if (equal(items[i->second].first, key)) return static_cast<std::ptrdiff_t>(i->second);
  }
  return -1;
}

void Dict::set(const Value& key, Value value) {
  const std::size_t hash = hash_of(key);
  depth = checked_depth(std::max({depth, depth_of(value) + 1, 1}));
  const std::ptrdiff_t at = position(key, hash);
  if (at >= 0) {
    items[static_cast<std::size_t>(at)].second = std::move(value);
    return;
  }
  charge(96);
  items.emplace_back(key, std::move(value));
  if (items.size() == kIndexedDict + 1) {
    for (std::size_t i = 0; i < items.size(); ++i) index_.emplace(hash_of(items[i].first), i);
  } else if (items.size() > kIndexedDict + 1) {
    index_.emplace(hash, items.size() - 1);
  }
}

const Value* Dict::find(const Value& key) const {
  const std::ptrdiff_t at = position(key, hash_of(key));
  return at < 0 ? nullptr : &items[static_cast<std::size_t>(at)].second;
}

const Value* Dict::get(std::string_view key) const {
  const std::size_t hash = hash_of_text(key);
  if (items.size() > kIndexedDict) {
    const auto [first, last] = index_.equal_range(hash);
    for (auto i = first; i != last; ++i) {
      const Value& candidate = items[i->second].first;
      if (candidate.is_str() && candidate.text() == key) return &items[i->second].second;
    }
    return nullptr;
  }
  for (const auto& [candidate, value] : items) {
    if (candidate.is_str() && candidate.text() == key) return &value;
  }
  return nullptr;
}

View::View(Value of, ViewKind kind) : Object(Type::kView), dict(std::move(of)), kind(kind) {
  depth = checked_depth(depth_of(dict) + 1);
}

Range::Range(std::int64_t start, std::int64_t stop, std::int64_t step)
    : Object(Type::kRange), start(start), stop(stop), step(step) {
  const auto distance =
      step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const auto stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const auto count = distance <= 0 ? __int128{0} : (distance + stride - 1) / stride;
  constexpr int kLongest = 100'000;
  if (count > kLongest) {
    fail(ErrorKind::kArithmetic,
         fmt::format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
                     kLongest));
  }
  size = static_cast<std::int64_t>(count);
}

std::string Undefined::message() const {
  if (!hint.empty()) return hint;
  if (owner.empty()) return repr(name) + " is undefined";
  return fmt::format("{} has no {} {}", owner, name.is_str() ? "attribute" : "element", repr(name));
}

Iterator::Iterator(std::string name, int source_depth)
    : Object(Type::kIterator), name(std::move(name)) {
  charge(128);
  depth = checked_depth(source_depth + 2);
}

Value make_list(Values items) { return std::make_shared<Sequence>(Type::kList, std::move(items)); }
Value make_tuple(Values items) {
  return std::make_shared<Sequence>(Type::kTuple, std::move(items));
}
Value make_undefined(std::string hint) { return std::make_shared<Undefined>(std::move(hint)); }

Value undefined_member(const Value& owner, Value name) {
  return std::make_shared<Undefined>(owner_name(owner), std::move(name));
}

Value undefined_variable(std::string_view name) {
  return std::make_shared<Undefined>(std::string(), Value(std::string(name)));
}

Value unsafe_member(const Value& owner, std::string_view name) {
  auto undefined = std::make_shared<Undefined>(
      fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(owner)));
  undefined->unsafe = true;
  return undefined;
}

std::string type_name(const Value& value) {
  switch (value.type()) {
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kStr:
      return value.is_safe() ? "Markup" : "str";
    case Type::kBytes:
      return "bytes";
    case Type::kUndefined:
      return "Undefined";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kView: {
      const ViewKind kind = value.object<View>().kind;
      return kind == ViewKind::kKeys     ? "dict_keys"
             : kind == ViewKind::kValues ? "dict_values"
                                         : "dict_items";
    }
    case Type::kRange:
      return "range";
    case Type::kNamespace:
      return "TemplateNamespace";
    case Type::kIterator:
      return value.object<Iterator>().name;
    case Type::kCallable:
      return "function";
    case Type::kMacro:
      return "Macro";
    case Type::kLoop:
      return "LoopContext";
    case Type::kCycler:
      return "Cycler";
    case Type::kJoiner:
      return "Joiner";
  }
  return "object";
}

void fail_undefined(const Value& value) {
  const auto& undefined = value.object<Undefined>();
  fail(undefined.unsafe ? ErrorKind::kSecurity : ErrorKind::kUndefined, undefined.message());
}

}  // namespace headway::text::jinja
