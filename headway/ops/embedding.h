// Token embedding lookup with scale.
// Not for: positions.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// y[t,:] = table[ids[t],:]·scale.
/// Shapes: ids int64 [T], table [V,D] -> [T,D].
/// Dtype:  product in fp32 (fp64 for fp64), one rounding to the table's dtype.
/// Grad:   table: dense, duplicates summed in token order, so deterministic; row `padding_id` gets
///   none (-1 = off). Large gradients are zero pages that cost memory only where a token wrote.
/// Errors: ShapeError naming the first id outside [0,V). Test: tests/kernels/embedding_test.cpp
at::Tensor embedding(const at::Tensor& ids_T, const at::Tensor& table_VD, double scale = 1.0,
                     int64_t padding_id = -1);

/// The same values and gradient, but the table's gradient is a sparse tensor of the rows that
/// tokens name (ascending, each once): memory and time of backward do not depend on V.
at::Tensor row_sparse_embedding(const at::Tensor& ids_T, const at::Tensor& table_VD,
                                double scale = 1.0, int64_t padding_id = -1);

}  // namespace headway::ops
