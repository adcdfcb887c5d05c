// Boundaries of the sequences packed into a run of tokens: what replaces padding and mask tensors.
// Not for: token ids or labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace headway::ops {

/// N sequences packed end to end. Queries of sequence n are rows [cu_q[n], cu_q[n+1]) of q, its
/// keys rows [cu_k[n], cu_k[n+1]) of k and v. Without a cache both lists are equal; with one, keys
/// reach further back and the last query of a sequence stands on its last key (bottom-right
/// alignment).
struct Sequences {
  std::vector<int64_t> cu_q{0};
  std::vector<int64_t> cu_k{0};
  at::Tensor positions;  // int64 [T] on the CPU: position of every query token within its sequence
  int64_t max_q = 0;
  int64_t max_k = 0;
  int64_t position_limit = 0;  // every position is below it

  int64_t num_sequences() const { return static_cast<int64_t>(cu_q.size()) - 1; }
  int64_t num_tokens() const { return cu_q.back(); }
  bool self_contained() const { return cu_q == cu_k; }
};

/// Sequences of the given boundaries, positions restarting at 0 in each.
Sequences packed_sequences(std::vector<int64_t> cu_seqlens);

/// `count` sequences of equal `length`.
Sequences equal_sequences(int64_t count, int64_t length);

/// New tokens that follow cached ones: sequence n has past[n] keys before its lengths[n] new
/// tokens; positions continue at past[n].
Sequences continued_sequences(const std::vector<int64_t>& past,
                              const std::vector<int64_t>& lengths);

/// Throws ShapeError if `sequences` is inconsistent or does not match q rows `tokens` and key rows
/// `keys`.
void check_sequences(const Sequences& sequences, int64_t tokens, int64_t keys, const char* op);

}  // namespace headway::ops
