// Not for: anything but delta_rule_plan.h.
#include "headway/ops/cpu/delta_rule_plan.h"

#include <algorithm>

#include "headway/ops/cpu/block_gemm.h"
#include "headway/ops/cpu/tensor_rows.h"

namespace headway::ops::cpu {
namespace {

constexpr int64_t kChunk = internal::kDeltaChunk;

/// Hands out pieces of a block of memory, each on its own cache line; without memory it counts.
class Pieces {
 public:
  explicit Pieces(float* memory) : memory_(memory) {}
  float* take(int64_t floats) {
    float* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (floats + 15) / 16 * 16;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

struct Sizes {
  int64_t keys, values, pairs, sums;
};

Sizes sizes_of(const DeltaProblem& p) {
  return {kChunk * p.key_dim, kChunk * p.value_dim, kChunk * kChunk, kChunk * p.channels};
}

void take_forward(DeltaScratch& s, Pieces& pieces, const DeltaProblem& p) {
  const Sizes size = sizes_of(p);
  s.q = pieces.take(size.keys);
  s.k = pieces.take(size.keys);
  s.rho_q = pieces.take(kChunk);
  s.rho_k = pieces.take(kChunk);
  s.q_k = pieces.take(size.pairs);
  s.k_k = pieces.take(size.pairs);
  s.v = pieces.take(size.values);
  s.log_decay = pieces.take(size.sums);
  s.beta = pieces.take(kChunk);
  s.from_start = pieces.take(size.sums);
  s.to_end = pieces.take(size.sums);
  s.pairs = pieces.take(size.pairs);
  s.factors = pieces.take(size.sums);
  s.keys = pieces.take(size.pairs);
  s.scores = pieces.take(size.pairs);
  s.starts = pieces.take(2 * size.keys);
  s.k_end = pieces.take(size.keys);
  s.reads = pieces.take(2 * size.values);
  s.x = pieces.take(size.values);
  s.step = pieces.take(p.value_dim + p.key_dim);
}

void take_backward(DeltaScratch& s, Pieces& pieces, const DeltaProblem& p) {
  const Sizes size = sizes_of(p);
  s.error = pieces.take(size.values);
  s.outer = pieces.take(2 * size.values);
  s.d_pairs = pieces.take(2 * size.pairs);
  s.d_starts = pieces.take(2 * size.keys);
  s.d_k_end = pieces.take(size.keys);
  s.d_x = pieces.take(size.values);
  s.d_sums = pieces.take(size.sums);
  s.d_total = pieces.take(p.channels);
  s.d_beta = pieces.take(kChunk);
  s.d_q = pieces.take(size.keys);
  s.d_k = pieces.take(size.keys);
  s.d_q_k = pieces.take(size.pairs);
  s.d_k_k = pieces.take(size.pairs);
  s.d_states = pieces.take(p.repeats() * p.state_size());
}

}  // namespace

HeadRows head_rows(const at::Tensor& x) {
  return {element_of(x), const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1)};
}

DeltaProblem::DeltaProblem(const internal::DeltaRuleArguments& a)
    : cu(a.cu),
      chunk_rows(internal::delta_chunk_offsets(a.cu)),
      q(head_rows(a.inputs.q_TGK)),
      k(head_rows(a.inputs.k_TGK)),
      v(head_rows(a.inputs.v_THV)),
      held_decay(a.inputs.log_decay.to(at::kFloat).contiguous()),
      held_beta(a.inputs.beta_TH.to(at::kFloat).contiguous()),
      log_decay(held_decay.const_data_ptr<float>()),
      beta(held_beta.const_data_ptr<float>()),
      groups(a.key_heads()),
      heads(a.heads()),
      key_dim(a.key_dim()),
      value_dim(a.value_dim()),
      channels(a.channel_decay() ? a.key_dim() : 1),
      options(a.options) {}

int64_t DeltaScratch::floats(const DeltaProblem& p, bool backward) {
  Pieces pieces(nullptr);
  DeltaScratch s(p, backward, nullptr);  // pointers of nothing
  take_forward(s, pieces, p);
  if (backward) take_backward(s, pieces, p);
  return pieces.used();
}

DeltaScratch::DeltaScratch(const DeltaProblem& p, bool backward, float* memory) {
  Pieces pieces(memory);
  take_forward(*this, pieces, p);
  if (backward) take_backward(*this, pieces, p);
}

void load_keys(const DeltaProblem& p, int64_t begin, int64_t n, int64_t group,
               const DeltaScratch& s) {
  const int64_t width = p.key_dim;
  const auto scale = static_cast<float>(p.options.scale);
  delta_load(p.q.rows(begin, group), n, width, s.q);
  delta_load(p.k.rows(begin, group), n, width, s.k);
  if (p.options.l2_norm) {
    const auto eps = static_cast<float>(p.options.l2_eps);
    delta_normalise(s.q, n, width, eps, scale, s.rho_q);
    delta_normalise(s.k, n, width, eps, 1.0f, s.rho_k);
  } else {
    std::fill_n(s.rho_q, n, scale);
    delta_scale_each(s.q, s.rho_q, n, width);
  }
  if (p.channels > 1) return;
  block_gemm(n, n, width, 1.0f, {s.q, width}, {s.k, width, true}, 0.0f, s.q_k, n);
  block_gemm(n, n, width, 1.0f, {s.k, width}, {s.k, width, true}, 0.0f, s.k_k, n);
}

DeltaScores scores_of(const DeltaProblem& p, int64_t n, const DeltaScratch& s) {
  DeltaScores scores;
  scores.decay = {
      n,        p.channels, s.log_decay, s.from_start, s.to_end, p.channels > 1 ? nullptr : s.pairs,
      s.factors};
  scores.width = p.key_dim;
  scores.q = s.q;
  scores.k = s.k;
  scores.q_k = s.q_k;
  scores.k_k = s.k_k;
  scores.keys = s.keys;
  scores.scores = s.scores;
  return scores;
}

void load_head(const DeltaProblem& p, int64_t begin, int64_t n, int64_t head,
               const DeltaScratch& s) {
  delta_load(p.v.rows(begin, head), n, p.value_dim, s.v);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = (begin + i) * p.heads + head;
    s.beta[i] = p.beta[at];
    std::copy_n(p.log_decay + at * p.channels, p.channels, s.log_decay + i * p.channels);
  }
  const DeltaScores scores = scores_of(p, n, s);
  delta_decay(scores.decay);
  delta_scores(scores);
  const int64_t width = p.key_dim;
  delta_scale_rows(s.q, s.from_start, p.channels, n, width, s.starts);
  delta_scale_rows(s.k, s.from_start, p.channels, n, width, s.starts + n * width);
  delta_scale_rows(s.k, s.to_end, p.channels, n, width, s.k_end);
}

void correct(const DeltaProblem& p, int64_t n, const float* state, const DeltaScratch& s,
             float* error) {
  const int64_t width = p.value_dim, size = n * width;
  block_gemm(2 * n, width, p.key_dim, 1.0f, {s.starts, p.key_dim}, {state, width}, 0.0f, s.reads,
             width);
  const float* read = s.reads + size;
  for (int64_t i = 0; i < size; ++i) error[i] = s.v[i] - read[i];
  std::copy_n(error, size, s.x);
  delta_scale_each(s.x, s.beta, n, width);
  delta_solve(s.keys, s.beta, n, width, s.x);
}

std::vector<DeltaTask> delta_tasks(const DeltaProblem& p) {
  std::vector<DeltaTask> tasks;
  for (int64_t n = 0; n < p.sequences(); ++n) {
    for (int64_t group = 0; group < p.groups; ++group) tasks.push_back({n, group});
  }
  std::stable_sort(tasks.begin(), tasks.end(), [&](const DeltaTask& a, const DeltaTask& b) {
    return p.cu[a.sequence + 1] - p.cu[a.sequence] > p.cu[b.sequence + 1] - p.cu[b.sequence];
  });
  return tasks;
}

internal::DeltaRuleForward empty_forward(const internal::DeltaRuleArguments& a,
                                         const DeltaProblem& p) {
  internal::DeltaRuleForward result;
  result.out = at::empty(a.inputs.v_THV.sizes(), a.inputs.v_THV.options());
  const std::vector<int64_t> sizes{p.sequences(), p.heads, p.key_dim, p.value_dim};
  const at::Tensor& initial = a.inputs.initial_state_NHKV;
  result.final_state = initial.defined() ? initial.detach().clone(at::MemoryFormat::Contiguous)
                                         : at::zeros(sizes, at::kFloat);
  if (a.keeps_states) {
    result.states = at::empty({p.chunk_rows.back(), p.heads, p.key_dim, p.value_dim}, at::kFloat);
  }
  return result;
}

DeltaStates states_of(const internal::DeltaRuleForward& forward) {
  DeltaStates states;
  states.final_states = forward.final_state.data_ptr<float>();
  if (forward.states.defined()) states.chunk_states = forward.states.data_ptr<float>();
  return states;
}

DeltaGradientBuffers::DeltaGradientBuffers(const internal::DeltaRuleArguments& a,
                                           const DeltaProblem& p,
                                           const internal::DeltaRuleBackwardArguments& wanted) {
  const auto like = [](const at::Tensor& x) { return at::empty(x.sizes(), x.options()); };
  gradients_.q = like(a.inputs.q_TGK);
  gradients_.k = like(a.inputs.k_TGK);
  gradients_.v = like(a.inputs.v_THV);
  d_decay_ = like(p.held_decay);
  d_beta_ = like(p.held_beta);
  gradients_.initial_state =
      wanted.d_final_state.defined()
          ? wanted.d_final_state.clone(at::MemoryFormat::Contiguous)
          : at::zeros({p.sequences(), p.heads, p.key_dim, p.value_dim}, at::kFloat);
  d_out_ = wanted.d_out.defined() ? wanted.d_out : at::zeros_like(gradients_.v);
}

DeltaSinks DeltaGradientBuffers::sinks() const {
  return {head_rows(gradients_.q),   head_rows(gradients_.k),
          head_rows(gradients_.v),   d_decay_.data_ptr<float>(),
          d_beta_.data_ptr<float>(), gradients_.initial_state.data_ptr<float>()};
}

internal::DeltaRuleGradients DeltaGradientBuffers::finish(
    const internal::DeltaRuleArguments& a) const {
  internal::DeltaRuleGradients result = gradients_;
  result.log_decay = d_decay_.to(a.inputs.log_decay.scalar_type());
  result.beta = d_beta_.to(a.inputs.beta_TH.scalar_type());
  return result;
}

}  // namespace headway::ops::cpu
