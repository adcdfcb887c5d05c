// Python's str() and repr(). Not for: JSON (to_json.h).
#pragma once

#include <string>
#include <string_view>

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

/// str(): what `{{ value }}` prints.
std::string to_text(const Value& value);
/// repr(): what a list prints of its items.
std::string repr(const Value& value);
std::string repr_text(std::string_view text);
/// ascii(): repr() with everything beyond ASCII escaped.
std::string ascii_repr(const Value& value);
/// repr(float): the shortest digits that read back, 1e-05 and 1e+16 beyond 4 and 16 places.
std::string float_text(double value);

}  // namespace headway::text::jinja
