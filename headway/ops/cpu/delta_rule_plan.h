// What the forward and backward drivers of the fused delta rule share: the problem as pointers, the
// scratch of a worker, and the chunk of one head that both passes build.
// Not for: callers of the op, or tensors beyond reading their pointers.
// Legend: G key heads, H value heads, K key dim, V value dim, n tokens of a chunk.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/cpu/delta_rule_kernels.h"
#include "headway/ops/internal/delta_rule_kernel.h"

namespace headway::ops::cpu {

/// [tokens, heads, width] with a contiguous last dim.
struct HeadRows {
  Element element = Element::kFloat;
  void* data = nullptr;
  int64_t row = 0;
  int64_t head = 0;

  ElementRows rows(int64_t token, int64_t head_index) const {
    return ElementRows{element, data, row}.at(token * row + head_index * head);
  }
};
HeadRows head_rows(const at::Tensor& x);

struct DeltaProblem {
  explicit DeltaProblem(const internal::DeltaRuleArguments& arguments);

  const std::vector<int64_t>& cu;
  std::vector<int64_t> chunk_rows;  // first chunk of every sequence
  HeadRows q, k, v;
  at::Tensor held_decay, held_beta;  // float32, contiguous
  const float* log_decay = nullptr;  // [T,H,channels]
  const float* beta = nullptr;       // [T,H]
  int64_t groups = 0, heads = 0, key_dim = 0, value_dim = 0, channels = 1;
  DeltaRuleOptions options;

  int64_t repeats() const { return heads / groups; }
  int64_t sequences() const { return static_cast<int64_t>(cu.size()) - 1; }
  int64_t state_size() const { return key_dim * value_dim; }
};

/// Memory of one worker; which parts are used depends on the pass.
class DeltaScratch {
 public:
  /// Floats a worker needs.
  static int64_t floats(const DeltaProblem& p, bool backward);
  DeltaScratch(const DeltaProblem& p, bool backward, float* memory);

  // Keys of the chunk, shared by its heads.
  float *q, *k, *rho_q, *rho_k, *q_k, *k_k;
  // One head.
  float *v, *log_decay, *beta, *from_start, *to_end, *pairs, *factors, *keys, *scores;
  float* starts;  // [2n,K]: q∘e^G above k∘e^G
  float* k_end;   // k∘e^(G_n-G)
  float* reads;   // [2n,V]
  float* x;       // [n,V]
  float* step;    // [V+K]
  // Backward.
  float *error, *outer, *d_pairs, *d_starts, *d_k_end, *d_x, *d_sums, *d_total, *d_beta;
  float *d_q, *d_k, *d_q_k, *d_k_k, *d_states;
};

/// Loads q and k of a chunk of key head `group`, normalised, q scaled; their products for a decay
/// per head.
void load_keys(const DeltaProblem& p, int64_t begin, int64_t n, int64_t group,
               const DeltaScratch& s);
/// Loads the rest of value head `head` and builds decay, scores and the scaled copies.
void load_head(const DeltaProblem& p, int64_t begin, int64_t n, int64_t head,
               const DeltaScratch& s);
/// The decay and scores of the loaded head, as the kernels take them.
DeltaScores scores_of(const DeltaProblem& p, int64_t n, const DeltaScratch& s);

/// reads = [e^G q; e^G k]·S; error = v - reads below (in place of v's copy when they are the same
/// memory); x = (I+L)⁻¹ β·error.
void correct(const DeltaProblem& p, int64_t n, const float* state, const DeltaScratch& s,
             float* error);

/// Where the states of a forward pass lie.
struct DeltaStates {
  float* final_states = nullptr;  // [N,H,K,V], or [M,H,K,V] with slots
  const std::vector<int64_t>* slots = nullptr;
  float* chunk_states = nullptr;  // [C,H,K,V] or null
};

/// Results to fill: out, final states that begin as the initial ones, chunk states if kept.
internal::DeltaRuleForward empty_forward(const internal::DeltaRuleArguments& arguments,
                                         const DeltaProblem& p);
DeltaStates states_of(const internal::DeltaRuleForward& forward);

/// Gradients as the tasks fill them; decay and beta in float32.
struct DeltaSinks {
  HeadRows q, k, v;
  float* log_decay = nullptr;      // [T,H,channels]
  float* beta = nullptr;           // [T,H]
  float* initial_state = nullptr;  // [N,H,K,V]; holds the final state's gradient at first
};

/// Memory of the gradients of a backward pass.
class DeltaGradientBuffers {
 public:
  DeltaGradientBuffers(const internal::DeltaRuleArguments& arguments, const DeltaProblem& p,
                       const internal::DeltaRuleBackwardArguments& wanted);
  DeltaSinks sinks() const;
  /// The output's gradient, zeros where there was none.
  HeadRows d_out() const { return head_rows(d_out_); }
  /// In the dtypes of the inputs.
  internal::DeltaRuleGradients finish(const internal::DeltaRuleArguments& arguments) const;

 private:
  internal::DeltaRuleGradients gradients_;
  at::Tensor d_decay_, d_beta_, d_out_;
};

/// A sequence and a key head, the longest first.
struct DeltaTask {
  int64_t sequence;
  int64_t group;
};
std::vector<DeltaTask> delta_tasks(const DeltaProblem& p);

}  // namespace headway::ops::cpu
