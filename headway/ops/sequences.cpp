// Builds and checks packed sequence boundaries. Not for: token ids.
#include "headway/ops/sequences.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

at::Tensor fill_positions(const std::vector<int64_t>& cu_q, const std::vector<int64_t>& first) {
  at::Tensor positions = at::empty({cu_q.back()}, at::kLong);
  int64_t* out = positions.data_ptr<int64_t>();
  for (size_t n = 0; n + 1 < cu_q.size(); ++n) {
    for (int64_t t = cu_q[n]; t < cu_q[n + 1]; ++t) out[t] = first[n] + t - cu_q[n];
  }
  return positions;
}

int64_t longest(const std::vector<int64_t>& cu) {
  int64_t length = 0;
  for (size_t n = 0; n + 1 < cu.size(); ++n) length = std::max(length, cu[n + 1] - cu[n]);
  return length;
}

void check_boundaries(const std::vector<int64_t>& cu, int64_t rows, const char* name,
                      const char* op) {
  const bool ordered = !cu.empty() && cu.front() == 0 && std::is_sorted(cu.begin(), cu.end());
  if (ordered && cu.back() == rows) return;
  throw ShapeError(std::string("[") + op + "] sequences." + name + " = " +
                   (cu.empty() ? std::string("empty") : "ends at " + std::to_string(cu.back())) +
                   ", allowed non-decreasing boundaries from 0 to " + std::to_string(rows));
}

}  // namespace

Sequences packed_sequences(std::vector<int64_t> cu_seqlens) {
  Sequences sequences;
  check_boundaries(cu_seqlens, cu_seqlens.empty() ? 0 : cu_seqlens.back(), "cu_seqlens",
                   "packed_sequences");
  sequences.positions = fill_positions(cu_seqlens, std::vector<int64_t>(cu_seqlens.size(), 0));
  sequences.max_q = sequences.max_k = sequences.position_limit = longest(cu_seqlens);
  sequences.cu_k = cu_seqlens;
  sequences.cu_q = std::move(cu_seqlens);
  return sequences;
}

Sequences equal_sequences(int64_t count, int64_t length) {
  std::vector<int64_t> cu(count + 1);
  for (int64_t n = 0; n <= count; ++n) cu[n] = n * length;
  return packed_sequences(std::move(cu));
}

Sequences continued_sequences(const std::vector<int64_t>& past,
                              const std::vector<int64_t>& lengths) {
  Sequences sequences;
  for (size_t n = 0; n < past.size(); ++n) {
    sequences.position_limit = std::max(sequences.position_limit, past[n] + lengths[n]);
    sequences.cu_q.push_back(sequences.cu_q.back() + lengths[n]);
    sequences.cu_k.push_back(sequences.cu_k.back() + past[n] + lengths[n]);
  }
  sequences.positions = fill_positions(sequences.cu_q, past);
  sequences.max_q = longest(sequences.cu_q);
  sequences.max_k = longest(sequences.cu_k);
  return sequences;
}

void check_sequences(const Sequences& sequences, int64_t tokens, int64_t keys, const char* op) {
  check_boundaries(sequences.cu_q, tokens, "cu_q", op);
  check_boundaries(sequences.cu_k, keys, "cu_k", op);
  if (sequences.cu_q.size() != sequences.cu_k.size()) {
    throw ShapeError(
        std::string("[") + op + "] sequences.cu_k has " + std::to_string(sequences.cu_k.size()) +
        " boundaries, allowed as many as cu_q (= " + std::to_string(sequences.cu_q.size()) + ")");
  }
}

}  // namespace headway::ops
