// Buckets of distances and the look-up of their biases. Not for: adding them to scores.
#include "headway/ops/relative_bias.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

void check(const at::Tensor& table, int64_t queries, int64_t keys,
           const RelativeBiasOptions& options) {
  if (!table.defined() || table.dim() != 2 || !table.is_floating_point()) {
    throw ShapeError("[relative_bias] table: allowed a floating tensor [buckets, heads]");
  }
  if (queries < 0 || keys < 0) {
    throw ShapeError("[relative_bias] queries = " + std::to_string(queries) +
                     ", keys = " + std::to_string(keys) + ", allowed >= 0");
  }
  const int64_t directions = options.bidirectional ? 2 : 1;
  const int64_t each = table.size(0) / directions;
  if (table.size(0) % directions != 0 || each < 2) {
    throw ConfigError("[relative_bias] buckets = " + std::to_string(table.size(0)) +
                      ", allowed at least 2 for each direction, as many for either");
  }
  if (options.max_distance <= each / 2) {
    throw ConfigError("[relative_bias] options.max_distance = " +
                      std::to_string(options.max_distance) + ", allowed more than " +
                      std::to_string(each / 2) + ", the distances with a bucket of their own");
  }
}

}  // namespace

int64_t relative_bucket(int64_t distance, int64_t buckets, const RelativeBiasOptions& options) {
  int64_t first = 0, count = buckets, away = -distance;  // tokens back
  if (options.bidirectional) {
    count = buckets / 2;
    if (distance > 0) first = count;
    away = std::abs(distance);
  }
  away = std::max<int64_t>(away, 0);
  const int64_t exact = count / 2;
  if (away < exact) return first + away;
  const double part =
      std::log(static_cast<double>(away) / static_cast<double>(exact)) /
      std::log(static_cast<double>(options.max_distance) / static_cast<double>(exact));
  const auto step = static_cast<int64_t>(part * static_cast<double>(count - exact));
  return first + std::min(exact + step, count - 1);
}

at::Tensor relative_bias(const at::Tensor& table_RH, int64_t queries, int64_t keys,
                         const RelativeBiasOptions& options) {
  check(table_RH, queries, keys, options);
  // Every distance once: a row of pairs is a window into this list.
  std::vector<int64_t> buckets;
  for (int64_t distance = -keys + 1; distance < queries + keys; ++distance) {
    buckets.push_back(relative_bucket(distance, table_RH.size(0), options));
  }
  std::vector<int64_t> rows;
  rows.reserve(queries * keys);
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t position = i + keys - queries;
    for (int64_t j = 0; j < keys; ++j) rows.push_back(buckets[j - position + keys - 1]);
  }
  const at::Tensor index = at::tensor(rows, at::kLong).to(table_RH.device());
  return table_RH.index_select(0, index).view({queries, keys, -1}).permute({2, 0, 1}).unsqueeze(0);
}

}  // namespace headway::ops
