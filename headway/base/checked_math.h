// Arithmetic on sizes that come from files or configs: an overflow is an error, never a wrapped
// value. Not for: hot loops or floating point.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "headway/base/error.h"

namespace headway {

/// a·b or a+b in int64. Throws E (CheckpointError by default) naming `where` and both numbers.
template <class E = CheckpointError>
int64_t checked_mul(int64_t a, int64_t b, std::string_view where) {
  int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) {
    throw E("[" + std::string(where) + "] product = " + std::to_string(a) + " x " +
            std::to_string(b) + ", allowed a 64-bit size");
  }
  return result;
}

template <class E = CheckpointError>
int64_t checked_add(int64_t a, int64_t b, std::string_view where) {
  int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) {
    throw E("[" + std::string(where) + "] sum = " + std::to_string(a) + " + " + std::to_string(b) +
            ", allowed a 64-bit size");
  }
  return result;
}

/// Product of a list of sizes, 1 when empty. `Sizes` is any range of int64.
template <class E = CheckpointError, class Sizes = std::initializer_list<int64_t>>
int64_t checked_product(const Sizes& sizes, std::string_view where) {
  int64_t result = 1;
  for (const int64_t size : sizes) result = checked_mul<E>(result, size, where);
  return result;
}

}  // namespace headway
