// Python's operators on values. Not for: short-circuit and, or, not (evaluate.cpp).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

enum class BinaryOp { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

/// a op b. Errors: TemplateError as Python's exceptions (type, arithmetic, undefined).
Value binary(BinaryOp op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);

bool equal(const Value& a, const Value& b);
/// Errors: TemplateError of kind type for operands without an order.
bool compare(CompareOp op, const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
bool truth(const Value& value);

/// Equal values hash alike. Errors: TemplateError of kind type ("unhashable type: 'list'").
std::size_t hash_of(const Value& value);
std::size_t hash_of_text(std::string_view text);

/// len(): errors as Python's. `has_length` tells whether it would work.
std::int64_t length(const Value& value);
bool has_length(const Value& value);

/// markupsafe.escape: safe text as it is, anything else as text with & < > ' " replaced.
std::string escaped(const Value& value);
std::string escape_text(std::string_view text);

/// The value as a 64-bit index. Errors: TemplateError of kind type, or value if it is longer.
std::int64_t to_index(const Value& value, std::string_view what);

}  // namespace headway::text::jinja
