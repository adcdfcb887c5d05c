// Products of small float32 blocks by the sgemm that libtorch carries, row-major.
// Not for: tensors or threads; inside a task it runs on the task's own thread.
#pragma once

#include <cstdint>

// NOLINTNEXTLINE: the Fortran name and calling convention.
extern "C" void sgemm_(const char* trans_a, const char* trans_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace headway::ops::cpu {

/// A factor of a product: rows of `stride` elements, read as they lie or transposed.
struct Block {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

/// C [m,n] = alpha·A [m,k]·B [k,n] + beta·C, C with rows of `ldc`.
inline void block_gemm(int64_t m, int64_t n, int64_t k, float alpha, Block a, Block b, float beta,
                       float* c, int64_t ldc) {
  // Column-major sgemm sees every row-major block transposed: Cᵀ = Bᵀ·Aᵀ.
  const int rows = static_cast<int>(n), columns = static_cast<int>(m), depth = static_cast<int>(k);
  const int lda = static_cast<int>(a.stride), ldb = static_cast<int>(b.stride);
  const int out = static_cast<int>(ldc);
  sgemm_(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &rows, &columns, &depth, &alpha,
         b.data, &ldb, a.data, &lda, &beta, c, &out);
}

}  // namespace headway::ops::cpu
