// Every way to run an op: kernels compiled per target once for each, the others once.
// Not for: the choice made in production (kernel_table.h).
#pragma once

#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include "headway/ops/kernel_table.h"

namespace headway::test {

struct KernelVariant {
  std::string kernel;
  std::string target;
};

inline std::ostream& operator<<(std::ostream& out, const KernelVariant& variant) {
  return out << variant.kernel << (variant.target.empty() ? "" : "@") << variant.target;
}

inline std::vector<KernelVariant> kernel_variants(std::initializer_list<const char*> simd,
                                                  std::initializer_list<const char*> plain) {
  std::vector<KernelVariant> variants;
  for (const char* kernel : simd) {
    for (const std::string& target : ops::supported_targets()) variants.push_back({kernel, target});
  }
  for (const char* kernel : plain) variants.push_back({kernel, ""});
  return variants;
}

}  // namespace headway::test
