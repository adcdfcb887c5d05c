// Where the rows of a tensor lie: all dimensions but the last, folded into at most two strides.
// Not for: tensors whose last dimension is strided.
#pragma once

#include <cstdint>
#include <optional>

namespace at {
class Tensor;
}

namespace headway::ops::internal {

/// Row r starts at element (r / inner)·outer_stride + (r % inner)·inner_stride.
struct RowLayout {
  int64_t rows = 0;
  int64_t inner = 1;
  int64_t outer_stride = 0;
  int64_t inner_stride = 0;
};

/// Walks over consecutive rows without a division per row.
class RowCursor {
 public:
  RowCursor(const RowLayout& layout, int64_t row)
      : layout_(layout), outer_(row / layout.inner), inner_(row % layout.inner) {}

  int64_t offset() const { return outer_ * layout_.outer_stride + inner_ * layout_.inner_stride; }
  void next() {
    if (++inner_ == layout_.inner) {
      inner_ = 0;
      ++outer_;
    }
  }

 private:
  const RowLayout& layout_;
  int64_t outer_;
  int64_t inner_;
};

/// Nothing if the last dimension is strided or more than two strides remain: copy such a tensor.
std::optional<RowLayout> row_layout(const at::Tensor& x);

/// Rows of `width` elements a task of a parallel loop should at least get.
inline int64_t row_grain(int64_t width) {
  constexpr int64_t kElements = 1 << 14;
  return width >= kElements ? 1 : kElements / (width < 1 ? 1 : width);
}

}  // namespace headway::ops::internal
