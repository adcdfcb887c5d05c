// Backward of the fused delta rule: one task a sequence and key head walks the chunks from the last
// to the first. Only the state's gradient runs from chunk to chunk; everything else is formed again
// from the inputs and the state a chunk starts from. With X the corrections of a chunk and R what
// they are solved from, (I+L) X = R, dR = (I+L)⁻ᵀ dX and dL = -dR Xᵀ: no inverse is stored.
// Not for: element-wise loops (cpu/delta_rule_kernels.cpp).
#include <algorithm>

#include <ATen/Functions.h>

#include "headway/ops/cpu/block_gemm.h"
#include "headway/ops/cpu/delta_rule_plan.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

using cpu::block_gemm;
using cpu::DeltaProblem;
using cpu::DeltaScratch;
using cpu::DeltaSinks;

class DeltaBackward {
 public:
  DeltaBackward(const DeltaProblem& p, const float* states, const cpu::HeadRows& d_out,
                const DeltaSinks& sinks)
      : p_(p), states_(states), d_out_(d_out), sinks_(sinks) {}

  void run() const {
    const auto tasks = cpu::delta_tasks(p_);
    const int64_t workers = num_workers();
    const at::Tensor memory = at::empty({workers, DeltaScratch::floats(p_, true)}, at::kFloat);
    run_tasks(workers, static_cast<int64_t>(tasks.size()), [&](int64_t worker, int64_t i) {
      const DeltaScratch s(p_, true, memory.data_ptr<float>() + worker * memory.size(1));
      task(tasks[i], s);
    });
  }

 private:
  void task(const cpu::DeltaTask& task, const DeltaScratch& s) const {
    const int64_t first = p_.cu[task.sequence], end = p_.cu[task.sequence + 1];
    const int64_t row0 = p_.chunk_rows[task.sequence];
    float* d_states = sinks_.initial_state +
                      (task.sequence * p_.heads + task.group * p_.repeats()) * p_.state_size();
    for (int64_t row = p_.chunk_rows[task.sequence + 1] - 1; row >= row0; --row) {
      const int64_t begin = first + (row - row0) * kDeltaChunk;
      const int64_t n = std::min(kDeltaChunk, end - begin);
      cpu::load_keys(p_, begin, n, task.group, s);
      std::fill_n(s.d_q, n * p_.key_dim, 0.0f);
      std::fill_n(s.d_k, n * p_.key_dim, 0.0f);
      std::fill_n(s.d_q_k, n * n, 0.0f);
      std::fill_n(s.d_k_k, n * n, 0.0f);
      for (int64_t r = 0; r < p_.repeats(); ++r) {
        const int64_t head = task.group * p_.repeats() + r;
        cpu::load_head(p_, begin, n, head, s);
        head_chunk(begin, n, head, states_ + (row * p_.heads + head) * p_.state_size(),
                   d_states + r * p_.state_size(), s);
      }
      finish_keys(begin, n, task.group, s);
    }
  }

  /// d_q_k, d_k_k and the normalisation; stores dq and dk.
  void finish_keys(int64_t begin, int64_t n, int64_t group, const DeltaScratch& s) const {
    const int64_t width = p_.key_dim;
    if (p_.channels == 1) {
      block_gemm(n, width, n, 1.0f, {s.d_q_k, n}, {s.k, width}, 1.0f, s.d_q, width);
      block_gemm(n, width, n, 1.0f, {s.d_q_k, n, true}, {s.q, width}, 1.0f, s.d_k, width);
      for (int64_t i = 0; i < n; ++i) {  // symmetric part: d_k_k + its transpose
        for (int64_t j = 0; j < i; ++j) s.d_k_k[j * n + i] = s.d_k_k[i * n + j];
        s.d_k_k[i * n + i] = 0.0f;
      }
      block_gemm(n, width, n, 1.0f, {s.d_k_k, n}, {s.k, width}, 1.0f, s.d_k, width);
    }
    const auto scale = static_cast<float>(p_.options.scale);
    if (p_.options.l2_norm) {
      cpu::delta_normalise_backward(s.q, n, width, scale, s.rho_q, s.d_q);
      cpu::delta_normalise_backward(s.k, n, width, 1.0f, s.rho_k, s.d_k);
    } else {
      cpu::delta_scale_each(s.d_q, s.rho_q, n, width);  // rho_q holds the scale
    }
    cpu::delta_store(s.d_q, n, width, sinks_.q.rows(begin, group));
    cpu::delta_store(s.d_k, n, width, sinks_.k.rows(begin, group));
  }

  void head_chunk(int64_t begin, int64_t n, int64_t head, const float* state, float* d_state,
                  const DeltaScratch& s) const {
    const int64_t keys = p_.key_dim, values = p_.value_dim, size = n * values;
    cpu::correct(p_, n, state, s, s.error);
    cpu::delta_load(d_out_.rows(begin, head), n, values, s.outer);
    // dX, then dR in place.
    block_gemm(n, values, n, 1.0f, {s.scores, n, true}, {s.outer, values}, 0.0f, s.d_x, values);
    block_gemm(n, values, keys, 1.0f, {s.k_end, keys}, {d_state, values}, 1.0f, s.d_x, values);
    cpu::delta_solve_transposed(s.keys, s.beta, n, values, s.d_x);
    float* below = s.outer + size;
    std::copy_n(s.d_x, size, below);
    // d_scores above -d_lower.
    block_gemm(2 * n, n, values, 1.0f, {s.outer, values}, {s.x, values, true}, 0.0f, s.d_pairs, n);
    block_gemm(n, keys, values, 1.0f, {s.x, values}, {d_state, values, true}, 0.0f, s.d_k_end,
               keys);
    std::fill_n(s.d_beta, n, 0.0f);
    cpu::delta_add_row_dots(s.d_x, s.error, n, values, s.d_beta);
    // d_error = β dR is also dv; its negative goes through the state.
    cpu::delta_scale_each(s.d_x, s.beta, n, values);
    cpu::delta_store(s.d_x, n, values, sinks_.v.rows(begin, head));
    for (int64_t i = 0; i < size; ++i) below[i] = -s.d_x[i];
    block_gemm(2 * n, keys, values, 1.0f, {s.outer, values}, {state, values, true}, 0.0f,
               s.d_starts, keys);
    decay_chunk(n, state, d_state, s);
    store_gates(begin, n, head, s);
    cpu::delta_scale_state(s.from_start + (n - 1) * p_.channels, p_.channels, keys, values,
                           d_state);
    block_gemm(keys, values, 2 * n, 1.0f, {s.starts, keys, true}, {s.outer, values}, 1.0f, d_state,
               values);
  }

  /// Gradients by q, k and the decay's sums of everything that the decay scaled; d_beta's last
  /// part.
  void decay_chunk(int64_t n, const float* state, const float* d_state,
                   const DeltaScratch& s) const {
    const int64_t width = p_.key_dim, channels = p_.channels;
    std::fill_n(s.d_sums, n * channels, 0.0f);
    std::fill_n(s.d_total, channels, 0.0f);
    cpu::delta_state_decay_backward(state, d_state, s.from_start + (n - 1) * channels, channels,
                                    width, p_.value_dim, s.d_total);
    float* d_keys = s.d_pairs + n * n;  // -d_lower -> gradient by k·k∘D, after d_beta's part
    for (int64_t i = 0; i < n * n; ++i) d_keys[i] = -d_keys[i];
    cpu::delta_add_lower_dots(d_keys, s.keys, n, s.d_beta);
    cpu::delta_scale_each(d_keys, s.beta, n, n);
    cpu::delta_scores_backward(
        {cpu::scores_of(p_, n, s), d_keys, s.d_pairs, s.d_k_k, s.d_q_k, s.d_q, s.d_k, s.d_sums});
    const float* k_start = s.starts + n * width;
    cpu::delta_factor_backward(
        {s.starts, s.d_starts, s.from_start, channels, n, width, 1.0f, s.d_q, s.d_sums, nullptr});
    cpu::delta_factor_backward({k_start, s.d_starts + n * width, s.from_start, channels, n, width,
                                1.0f, s.d_k, s.d_sums, nullptr});
    cpu::delta_factor_backward(
        {s.k_end, s.d_k_end, s.to_end, channels, n, width, -1.0f, s.d_k, s.d_sums, s.d_total});
  }

  /// d_g: what reaches G_i and everything after it.
  void store_gates(int64_t begin, int64_t n, int64_t head, const DeltaScratch& s) const {
    const int64_t channels = p_.channels;
    for (int64_t i = n - 1; i >= 0; --i) {
      const int64_t at = (begin + i) * p_.heads + head;
      sinks_.beta[at] = s.d_beta[i];
      float* to = sinks_.log_decay + at * channels;
      for (int64_t c = 0; c < channels; ++c) {
        s.d_total[c] += s.d_sums[i * channels + c];
        to[c] = s.d_total[c];
      }
    }
  }

  const DeltaProblem& p_;
  const float* states_;
  cpu::HeadRows d_out_;
  DeltaSinks sinks_;
};

}  // namespace

DeltaRuleGradients delta_rule_cpu_backward(const DeltaRuleArguments& a,
                                           const DeltaRuleBackwardArguments& wanted) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  const cpu::DeltaGradientBuffers buffers(a, p, wanted);
  DeltaBackward(p, wanted.states.const_data_ptr<float>(), buffers.d_out(), buffers.sinks()).run();
  return buffers.finish(a);
}

}  // namespace headway::ops::internal
