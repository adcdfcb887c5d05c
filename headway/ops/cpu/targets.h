// The Highway targets this build holds and this machine runs, and the restriction of dispatch to
// one of them. Not for: kernels.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headway::ops::cpu {

/// Names (AVX3, AVX2, SSE4, …), best first.
std::vector<std::string> target_names();

/// Restricts dynamic dispatch to `name`; false if it is not in target_names().
bool restrict_target(std::string_view name);

/// Lifts the restriction.
void lift_restriction();

}  // namespace headway::ops::cpu
