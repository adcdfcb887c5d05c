// What the sandbox shows of a value. Not for: the methods themselves (methods_*.cpp).
#pragma once

#include <string>
#include <string_view>

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

/// Names beginning with '_' are refused on every value, names that change a value on lists and
/// dicts: using the result is then an error of kind security.
bool is_refused(const Value& object, std::string_view name);

[[noreturn]] void fail_underscore(const std::string& name);

}  // namespace headway::text::jinja
