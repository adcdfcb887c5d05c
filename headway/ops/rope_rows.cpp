// Index arithmetic of rotary rows. Not for: tensors.
#include "headway/ops/rope_rows.h"

#include <algorithm>
#include <string>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

void check_context(const ContextRank& context) {
  constexpr int64_t kMostRanks = 1 << 20;
  const bool fits = context.ranks >= 1 && context.ranks <= kMostRanks && context.rank >= 0 &&
                    context.rank < context.ranks;
  if (fits) return;
  throw ShapeError("[rope_rows] rank = " + std::to_string(context.rank) + " of " +
                   std::to_string(context.ranks) + ", allowed a rank below 1 to " +
                   std::to_string(kMostRanks) + " ranks");
}

void check_boundaries(const std::vector<int64_t>& cu) {
  const bool ordered = !cu.empty() && cu.front() == 0 && std::is_sorted(cu.begin(), cu.end());
  if (!ordered) {
    throw ShapeError(
        "[rope_rows] cu = not ordered, allowed non-decreasing boundaries that begin at 0");
  }
}

/// Position in its sequence of `length` tokens of local token `u`.
int64_t zigzag_position(int64_t length, int64_t u, const ContextRank& context) {
  const int64_t local = length / context.ranks;
  const int64_t front = (local + 1) / 2, back = local / 2;
  if (u < front) return context.rank * front + u;
  return local * context.ranks - (context.rank + 1) * back + u - front;
}

}  // namespace

std::vector<int64_t> packed_rope_rows(const std::vector<int64_t>& cu, int64_t tokens,
                                      const ContextRank& context, const RowSource& table) {
  check_context(context);
  check_boundaries(cu);
  if (table.rows < 1) throw ShapeError("[rope_rows] rows of the table = 0, allowed >= 1");
  std::vector<int64_t> rows;
  rows.reserve(tokens);
  for (size_t k = 0; k + 1 < cu.size(); ++k) {
    const bool last = k + 2 == cu.size();
    const int64_t length = cu[k + 1] - cu[k];
    const int64_t left = tokens - static_cast<int64_t>(rows.size());
    const int64_t held = last ? left : std::min(left, length / context.ranks);
    const int64_t base = table.count == TableRows::kPerToken ? cu[k] : 0;
    for (int64_t u = 0; u < held; ++u) {
      const int64_t row = base + zigzag_position(length, u, context);
      rows.push_back(std::clamp<int64_t>(row, 0, table.rows - 1));
    }
  }
  rows.resize(tokens, 0);
  return rows;
}

std::vector<int64_t> context_rope_rows(int64_t rows, const ContextRank& context) {
  check_context(context);
  const int64_t chunks = context.ranks == 1 ? 1 : 2 * context.ranks;
  if (rows < 0 || rows % chunks != 0) {
    throw ShapeError("[rope_rows] rows = " + std::to_string(rows) + ", allowed a multiple of " +
                     std::to_string(chunks) + ", two chunks a context rank");
  }
  const int64_t size = rows / chunks;
  std::vector<int64_t> kept;
  for (const int64_t chunk : {context.rank, chunks - 1 - context.rank}) {
    if (context.ranks == 1 && !kept.empty()) break;
    for (int64_t i = 0; i < size; ++i) kept.push_back(chunk * size + i);
  }
  return kept;
}

}  // namespace headway::ops
