// Groups of layers and the layout of a page. Not for: memory.
#include "headway/engine/page_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/spec/kv_sharing.h"

namespace headway::engine {
namespace {

constexpr char kWhere[] = "page plan";

int64_t rounded_up(int64_t rows, int64_t block) { return (rows + block - 1) / block; }

void check(int64_t block_size, int64_t tensor_parallel) {
  if (block_size < 1) {
    throw ConfigError("[page plan] block_size = " + std::to_string(block_size) +
                      ", allowed 1 or more tokens");
  }
  if (tensor_parallel < 1) {
    throw ConfigError("[page plan] tensor_parallel = " + std::to_string(tensor_parallel) +
                      ", allowed 1 or more");
  }
}

/// Layers by window, cut into groups of equal count.
std::vector<PageGroup> make_groups(const spec::ModelSpec& spec) {
  // No window sorts first.
  std::map<std::optional<int64_t>, std::vector<int64_t>> by_window;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto rows = spec::cached_rows(spec.layers[i]);
    if (!rows) {
      throw UnsupportedError("[page plan] layer " + std::to_string(i) +
                             ": its state does not lie in pages in this build; allowed attention, "
                             "or one sequence at a time (Generator)");
    }
    if (spec::kv_source_of(spec.layers[i])) continue;  // it reads another layer's pages
    by_window[rows->window].push_back(static_cast<int64_t>(i));
  }
  int64_t size = 0;
  for (const auto& [window, layers] : by_window) {
    size = std::gcd(size, static_cast<int64_t>(layers.size()));
  }
  std::vector<PageGroup> groups;
  for (const auto& [window, layers] : by_window) {
    for (size_t i = 0; i < layers.size(); i += static_cast<size_t>(size)) {
      groups.push_back({{layers.begin() + static_cast<ptrdiff_t>(i),
                         layers.begin() + static_cast<ptrdiff_t>(i) + size},
                        window});
    }
  }
  return groups;
}

}  // namespace

bool pages_hold(const spec::ModelSpec& spec) {
  return std::all_of(spec.layers.begin(), spec.layers.end(), [](const spec::LayerSpec& layer) {
    return spec::cached_rows(layer).has_value();
  });
}

int64_t kv_heads_of_rank(int64_t kv_heads, int64_t tensor_parallel) {
  return kv_heads < tensor_parallel ? 1 : kv_heads / tensor_parallel;
}

PagePlan plan_pages(const spec::ModelSpec& spec, int64_t block_size, int64_t tensor_parallel) {
  check(block_size, tensor_parallel);
  PagePlan plan;
  plan.block_size = block_size;
  plan.groups = make_groups(spec);
  plan.layers.resize(spec.layers.size());
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    int64_t offset = 0;
    for (const int64_t i : plan.groups[g].layers) {
      const spec::CachedRows held = *spec::cached_rows(spec.layers[static_cast<size_t>(i)]);
      PageLayer& layer = plan.layers[static_cast<size_t>(i)];
      layer.group = static_cast<int64_t>(g);
      layer.kv_heads = kv_heads_of_rank(held.heads, tensor_parallel);
      layer.key_dim = held.key_dim;
      layer.value_dim = held.value_dim;
      const int64_t rows = checked_mul<ConfigError>(block_size, layer.kv_heads, kWhere);
      layer.k_offset = offset;
      layer.v_offset = checked_add<ConfigError>(
          offset, checked_mul<ConfigError>(rows, layer.key_dim, kWhere), kWhere);
      offset = checked_add<ConfigError>(
          layer.v_offset, checked_mul<ConfigError>(rows, layer.value_dim, kWhere), kWhere);
    }
    plan.page_elements = std::max(plan.page_elements, offset);
  }
  return plan;
}

int64_t blocks_in(const PagePlan& plan, int64_t bytes, int64_t element_size) {
  return std::max<int64_t>(2, bytes / std::max<int64_t>(1, plan.page_bytes(element_size)));
}

int64_t most_blocks(const PagePlan& plan, int64_t rows, int64_t step_rows) {
  int64_t total = 0;
  for (const PageGroup& group : plan.groups) {
    int64_t blocks = rounded_up(rows, plan.block_size);
    if (group.window) {
      // Rows in sight of a step and its own, lying across one block boundary more than they fill.
      const int64_t seen = *group.window - 1 + std::min(step_rows, rows);
      blocks = std::min(blocks, rounded_up(seen, plan.block_size) + 1);
    }
    total += blocks;
  }
  return total;
}

}  // namespace headway::engine
