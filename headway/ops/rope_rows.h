// Which row of a rotary table turns which token of a packed or context-parallel batch.
// Not for: tables (nn/rope.h) or the rotation (ops/rope.h).
#pragma once

#include <cstdint>
#include <vector>

namespace headway::ops {

/// One rank of a context-parallel group.
struct ContextRank {
  int64_t ranks = 1;  // C
  int64_t rank = 0;   // r
};

/// Whether row 0 of a table is the first token of every sequence, or of the packed batch. It is
/// said, not guessed from the length of the table as upstream does.
enum class TableRows { kPerSequence, kPerToken };

/// A table as long as `rows`, and how its rows count.
struct RowSource {
  TableRows count = TableRows::kPerSequence;
  int64_t rows = 0;
};

/// Row for each of the `tokens` that `context` holds of packed sequences with padded boundaries
/// `cu` (global). Of a sequence of length l it holds l / C tokens; the first f = ceil(l / 2C) of
/// them stand at r·f + u, the other e = floor(l / 2C) at C(l / C) - (r + 1)e + u - f (zigzag).
/// Tokens beyond the last boundary go on where it ends; rows are cut to the table. Units: tokens.
/// Errors: ShapeError for boundaries that fall or do not begin at 0, a rank outside its group, or
/// no rows. Source: spec/attention.md §4.6. Test: tests/unit/ops/rope_rows_test.cpp
std::vector<int64_t> packed_rope_rows(const std::vector<int64_t>& cu, int64_t tokens,
                                      const ContextRank& context, const RowSource& table);

/// Rows that `context` keeps of a table of `rows`: chunks r and 2C - 1 - r of 2C equal ones; all of
/// them for one rank. Errors: ShapeError when rows % 2C is not 0.
std::vector<int64_t> context_rope_rows(int64_t rows, const ContextRank& context);

}  // namespace headway::ops
