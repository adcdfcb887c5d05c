// Python's slice arithmetic. Not for: assignment to slices; values do not change.
#include "headway/text/jinja/slice.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

struct Indices {
  std::int64_t start, stop, step, count;
};

// Integers beyond 64 bits are as good as the largest.
std::optional<std::int64_t> part(const Value& value) {
  if (value.is_none()) return std::nullopt;
  if (!value.is_integral()) {
    fail_type("slice indices must be integers or None or have an __index__ method");
  }
  const BigInt big = value.as_big();
  constexpr std::int64_t kLarge = std::numeric_limits<std::int64_t>::max() / 4;
  const std::int64_t number = big.to_int64().value_or(big.is_negative() ? -kLarge : kLarge);
  return std::clamp(number, -kLarge, kLarge);
}

Indices indices(const SliceParts& parts, std::int64_t size) {
  const std::int64_t step = part(parts.step).value_or(1);
  if (step == 0) fail(ErrorKind::kValue, "slice step cannot be zero");
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? size : size - 1;
  const auto bound = [&](std::optional<std::int64_t> given, std::int64_t missing) {
    if (!given) return missing;
    return std::clamp(*given < 0 ? *given + size : *given, low, high);
  };
  const std::int64_t start = bound(part(parts.start), step > 0 ? low : high);
  const std::int64_t stop = bound(part(parts.stop), step > 0 ? high : low);
  const std::int64_t distance = step > 0 ? stop - start : start - stop;
  const std::int64_t stride = step > 0 ? step : -step;
  return {start, stop, step, distance <= 0 ? 0 : (distance + stride - 1) / stride};
}

Value slice_text(const Value& object, const SliceParts& parts) {
  const std::string& text = object.text();
  const std::int64_t size = length(object);
  const Indices range = indices(parts, size);
  charge(std::ssize(text) / 8);
  if (range.step == 1 || range.count == 0) {
    const std::size_t begin = char_offset(text, range.start);
    const std::string_view rest = std::string_view(text).substr(begin);
    return Value(std::string(rest.substr(0, range.count == 0 ? 0 : char_offset(rest, range.count))),
                 object.is_safe());
  }
  const std::u32string chars = decode(text);
  std::u32string picked;
  for (std::int64_t i = 0; i < range.count; ++i) {
    picked += chars[static_cast<std::size_t>(range.start + i * range.step)];
  }
  return Value(encode(picked), object.is_safe());
}

}  // namespace

Value slice(const Value& object, const SliceParts& parts) {
  switch (object.type()) {
    case Type::kStr:
      return slice_text(object, parts);
    case Type::kList:
    case Type::kTuple: {
      const Values& items = object.object<Sequence>().items;
      const Indices range = indices(parts, std::ssize(items));
      Values picked;
      for (std::int64_t i = 0; i < range.count; ++i) {
        picked.push_back(items[static_cast<std::size_t>(range.start + i * range.step)]);
      }
      return std::make_shared<Sequence>(object.type(), std::move(picked));
    }
    case Type::kRange: {
      const auto& from = object.object<Range>();
      const Indices range = indices(parts, from.size);
      const std::int64_t start = from.start + range.start * from.step;
      const std::int64_t step = from.step * range.step;
      return std::make_shared<Range>(start, from.start + range.stop * from.step, step);
    }
    case Type::kBytes: {
      const std::string& bytes = object.object<Bytes>().bytes;
      const Indices range = indices(parts, std::ssize(bytes));
      std::string picked;
      for (std::int64_t i = 0; i < range.count; ++i) {
        picked += bytes[static_cast<std::size_t>(range.start + i * range.step)];
      }
      return std::make_shared<Bytes>(std::move(picked));
    }
    case Type::kUndefined:
      fail_undefined(object);
    case Type::kDict:
      fail_type("unhashable type: 'slice'");
    default:
      fail_type(fmt::format("'{}' object is not subscriptable", type_name(object)));
  }
}

}  // namespace headway::text::jinja
