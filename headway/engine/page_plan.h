// How the layers of a model share pages: which rows lie in one page, and how many bytes that is.
// Not for: allocation (page_storage.h) or page ids (block_pool.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::engine {

/// Layers that read and forget the same rows, and so share page ids.
struct PageGroup {
  std::vector<int64_t> layers;
  std::optional<int64_t> window;  // rows behind it are given back
};

/// Where a layer's keys and values start within a page of its group, in elements. A layer that
/// reads another's has none.
struct PageLayer {
  int64_t group = -1;  // -1: no pages of its own
  int64_t k_offset = 0;
  int64_t v_offset = 0;
  int64_t kv_heads = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
};

/// All pages have one size, so that any group can use any page. Layers are first sorted by window;
/// windows with more layers are cut into groups of the greatest common number of layers. A model of
/// one kind of layer is one group, its page holds `block_size` rows of every layer.
struct PagePlan {
  int64_t block_size = 0;
  int64_t page_elements = 0;  // of the largest group
  std::vector<PageGroup> groups;
  std::vector<PageLayer> layers;

  int64_t page_bytes(int64_t element_size) const { return page_elements * element_size; }
};

/// Whether all that the layers keep between tokens are keys and values.
bool pages_hold(const spec::ModelSpec& spec);

/// Kv heads one of `tensor_parallel` ranks keeps: its share, or one when there are fewer than
/// ranks.
int64_t kv_heads_of_rank(int64_t kv_heads, int64_t tensor_parallel);

/// Errors: ConfigError (block size, ranks, sizes beyond 64 bits); UnsupportedError for a layer that
/// keeps something else than keys and values. Test: tests/unit/engine/page_plan_test.cpp
PagePlan plan_pages(const spec::ModelSpec& spec, int64_t block_size, int64_t tensor_parallel = 1);

/// max(2, pages that fit into `bytes`).
int64_t blocks_in(const PagePlan& plan, int64_t bytes, int64_t element_size);

/// Pages a sequence of up to `rows` rows holds at most at a time, all groups together, when at most
/// `step_rows` new rows come in one forward.
int64_t most_blocks(const PagePlan& plan, int64_t rows, int64_t step_rows);

}  // namespace headway::engine
