// Iteration over every kind of value, and the loop variable. Not for: filters (filters_*.cpp).
#include <algorithm>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

class ValuesIterator final : public Iterator {
 public:
  ValuesIterator(Values values, std::string name)
      : Iterator(std::move(name), 0), values_(std::move(values)) {
    for (const Value& value : values_) {
      if (value.is_sequence() || value.is(Type::kDict)) {
        depth = std::max(depth, value.object_ptr()->depth + 1);
      }
    }
  }
  bool next(Value& out) override {
    if (position_ == values_.size()) return false;
    out = std::move(values_[position_++]);
    return true;
  }

 private:
  Values values_;
  std::size_t position_ = 0;
};

/// Over a list, tuple, dict, view or range, which it keeps alive.
class ContainerIterator final : public Iterator {
 public:
  ContainerIterator(Value container, bool reversed)
      : Iterator(name_of(container, reversed), container.object_ptr()->depth),
        container_(std::move(container)),
        reversed_(reversed) {}
  bool next(Value& out) override {
    const std::int64_t size = length(container_);
    if (position_ >= size) return false;
    const auto i = static_cast<std::size_t>(reversed_ ? size - 1 - position_ : position_);
    ++position_;
    out = item(i);
    return true;
  }

 private:
  static std::string name_of(const Value& container, bool reversed) {
    return type_name(container) + (reversed ? "_reverseiterator" : "_iterator");
  }
  Value item(std::size_t i) const {
    switch (container_.type()) {
      case Type::kDict:
        return container_.object<Dict>().items[i].first;
      case Type::kRange:
        return container_.object<Range>().at(static_cast<std::int64_t>(i));
      case Type::kView: {
        const auto& view = container_.object<View>();
        const auto& [key, value] = view.dict.object<Dict>().items[i];
        if (view.kind == ViewKind::kItems) return make_tuple({key, value});
        return view.kind == ViewKind::kKeys ? key : value;
      }
      default:
        return container_.object<Sequence>().items[i];
    }
  }

  Value container_;
  bool reversed_;
  std::int64_t position_ = 0;
};

class TextIterator final : public Iterator {
 public:
  explicit TextIterator(Str text) : Iterator("str_iterator", 0), text_(std::move(text)) {}
  bool next(Value& out) override {
    if (position_ == text_.text->size()) return false;
    const std::size_t start = position_;
    next_char(*text_.text, position_);
    out = Value(text_.text->substr(start, position_ - start));
    return true;
  }

 private:
  Str text_;
  std::size_t position_ = 0;
};

}  // namespace

bool is_iterable(const Value& value) {
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
    case Type::kIterator:
      return true;
    default:
      return false;
  }
}

std::shared_ptr<Iterator> iterate_values(Values values, std::string name) {
  return std::make_shared<ValuesIterator>(std::move(values), std::move(name));
}

std::shared_ptr<Iterator> iterate(const Value& value) {
  switch (value.type()) {
    case Type::kStr:
      return std::make_shared<TextIterator>(value.str());
    case Type::kBytes: {
      Values bytes;
      for (const char c : value.object<Bytes>().bytes)
        bytes.emplace_back(int{static_cast<unsigned char>(c)});
      return iterate_values(std::move(bytes), "bytes_iterator");
    }
    case Type::kUndefined:
      return iterate_values({}, "generator");
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kView:
    case Type::kRange:
      return std::make_shared<ContainerIterator>(value, false);
    case Type::kIterator:
      return std::static_pointer_cast<Iterator>(value.object_ptr());
    default:
      fail_type("'" + type_name(value) + "' object is not iterable");
  }
}

std::shared_ptr<Iterator> iterate_reversed(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kView:
    case Type::kRange:
      return std::make_shared<ContainerIterator>(value, true);
    default:
      return nullptr;
  }
}

Values to_values(const Value& value) {
  if (value.is_sequence()) {
    charge(static_cast<std::int64_t>(value.object<Sequence>().items.size() * sizeof(Value)));
    return value.object<Sequence>().items;
  }
  Values values;
  const auto items = iterate(value);
  for (Value item; items->next(item);) {
    charge(sizeof(Value));
    values.push_back(std::move(item));
  }
  return values;
}

Loop::Loop(Value iterable, std::shared_ptr<Iterator> items, int depth0)
    : Object(Type::kLoop),
      depth0(depth0),
      iterable_(std::move(iterable)),
      items_(std::move(items)) {}

const Value* Loop::peek() {
  if (!after_) {
    Value item;
    if (!items_->next(item)) return nullptr;
    after_ = std::move(item);
  }
  return &*after_;
}

bool Loop::advance(Value& item) {
  if (after_) {
    item = std::move(*after_);
    after_.reset();
  } else if (!items_->next(item)) {
    return false;
  }
  ++index0;
  before = std::move(current);
  current = item;
  return true;
}

std::int64_t Loop::length() {
  if (length_) return *length_;
  if (has_length(iterable_)) {
    length_ = jinja::length(iterable_);
  } else {
    Values rest;
    for (Value item; items_->next(item);) rest.push_back(std::move(item));
    length_ = static_cast<std::int64_t>(rest.size()) + index0 + 1 + (after_ ? 1 : 0);
    items_ = iterate_values(std::move(rest));
  }
  return *length_;
}

}  // namespace headway::text::jinja
