// Element types of the CPU kernels, which see raw pointers only. Not for: tensors.
#pragma once

#include <cstdint>

namespace headway::ops::cpu {

/// The upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

enum class Element { kFloat, kBFloat16 };

}  // namespace headway::ops::cpu
