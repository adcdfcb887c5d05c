// T5's relative position bias: what is added to the scores of every layer of a stack.
// Not for: attention itself (attention.h takes the result as options.bias).
// Legend: R buckets, H heads.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::ops {

struct RelativeBiasOptions {
  bool bidirectional = true;  // half of the buckets for keys after the query; else those share one
  int64_t max_distance = 128;
};

/// Bucket in [0, buckets) of a key `distance` = key - query tokens away. Of the n buckets of a
/// direction the first n/2 hold one distance each, the others grow by a factor up to max_distance,
/// beyond which all share the last. Source: Raffel et al. 2019, T5, section 2.1; Megatron-Core
/// RelativePositionEmbedding.
int64_t relative_bucket(int64_t distance, int64_t buckets, const RelativeBiasOptions& options);

/// bias[0,h,i,j] = table[bucket(j - i'), h] with i' = i + keys - queries, the position of query i.
/// Shapes: table [R,H] -> [1,H,queries,keys]. Dtype: that of the table. Grad: table, summed over
///         all pairs of a bucket. The result may be shared by all layers. Deterministic.
/// Errors: ShapeError (table, sizes); ConfigError (an odd or too small number of buckets, a
///         max_distance that the buckets of one distance reach).
/// Test:   tests/unit/ops/relative_bias_test.cpp
at::Tensor relative_bias(const at::Tensor& table_RH, int64_t queries, int64_t keys,
                         const RelativeBiasOptions& options = {});

}  // namespace headway::ops
