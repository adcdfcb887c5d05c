// A do-nothing kernel compiled for every target: its table tells which targets the build holds.
#include "headway/ops/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/targets.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/highway.h>

#if HWY_ONCE
#include <hwy/targets.h>

namespace headway::ops::cpu {

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  // One bit per target, the best in the lowest bit.
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if (usable & target) names.emplace_back(hwy::TargetName(target));
  }
  return names;
}

bool restrict_target(std::string_view name) {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if ((usable & target) && name == hwy::TargetName(target)) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      return true;
    }
  }
  return false;
}

void lift_restriction() {
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace headway::ops::cpu
#endif
