// A merge sort for comparisons that may throw or contradict themselves (NaN), as Python's sort
// survives them: std::stable_sort need not. Not for: speed.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace headway::text::jinja {

/// Sorts `items`; equal ones keep their order. `less(a, b)` may throw.
template <class T, class Less>
void stable_sort(std::vector<T>& items, Less less) {
  std::vector<T> merged(items.size());
  for (std::size_t width = 1; width < items.size(); width *= 2) {
    for (std::size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const std::size_t middle = begin + width < items.size() ? begin + width : items.size();
      const std::size_t end = begin + 2 * width < items.size() ? begin + 2 * width : items.size();
      std::size_t left = begin;
      std::size_t right = middle;
      for (std::size_t out = begin; out < end; ++out) {
        const bool take_right = left == middle || (right < end && less(items[right], items[left]));
        merged[out] = std::move(take_right ? items[right++] : items[left++]);
      }
    }
    std::swap(items, merged);
  }
}

}  // namespace headway::text::jinja
