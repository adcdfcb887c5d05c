// How ops over an indexer cut their queries: runs of rows of one sequence whose scores fit a fixed
// buffer.
// Not for: callers of the ops.
#pragma once

#include <cstdint>
#include <vector>

#include "headway/ops/select_keys.h"
#include "headway/ops/sequences.h"

namespace headway::ops::internal {

/// Query rows [row, row + rows) of one sequence. Query row + i sees the keys
/// [first_key, first_key + seen + i), and never more than `keys`, those that the last one sees.
struct IndexBlock {
  int64_t row = 0;
  int64_t rows = 0;
  int64_t first_key = 0;
  int64_t seen = 0;   // keys that the first query sees; may be <= 0
  int64_t keys = 0;   // keys that the last query sees
  int64_t total = 0;  // keys of the sequence
};

/// Blocks of queries that see a key, in order. `width`: numbers held for one pair of query and key.
std::vector<IndexBlock> index_blocks(const Sequences& sequences, int64_t width);

/// Checks shapes and dtypes of what an indexer compares against `sequences`.
void check_index(const char* op, const IndexInputs& in, const Sequences& sequences);

}  // namespace headway::ops::internal
