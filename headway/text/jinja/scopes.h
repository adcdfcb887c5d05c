// Which names a scope hides from the start. Not for: values.
#pragma once

#include "headway/text/jinja/ast.h"

namespace headway::text::jinja {

// parse_template interns these first, so that their numbers are known.
inline constexpr int kLoopName = 0;
inline constexpr int kCallerName = 1;
inline constexpr int kKwargsName = 2;
inline constexpr int kVarargsName = 3;

/// Fills `unset` and `uses_*`. Jinja compiles a scope to Python variables and decides from the text
/// where each gets its first value: one that is assigned for certain, and not read before in the
/// same scope, starts out undefined there, even if the caller passes a variable of that name.
void resolve_scopes(Template& parsed);

}  // namespace headway::text::jinja
