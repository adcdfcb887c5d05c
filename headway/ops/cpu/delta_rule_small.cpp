// The delta rule with small states: one task a sequence and key head goes token by token in double.
// A chunk's triangle would cost more than the states do, and results are those of the definition
// but for the rounding of inputs and outputs.
// Not for: states above kSmallState elements (cpu/delta_rule.cpp).
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <ATen/Functions.h>

#include "headway/ops/cpu/delta_rule_plan.h"
#include "headway/ops/cpu/delta_rule_small_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

using cpu::DeltaProblem;
using cpu::DeltaSinks;
using cpu::DeltaStates;
using cpu::DeltaTask;
using cpu::SmallDeltaBackward;
using cpu::SmallDeltaChunk;

constexpr int64_t kSmallState = 32 * 32;

/// Memory of one worker, cut into named runs of doubles.
class Scratch {
 public:
  Scratch(const DeltaProblem& p, bool backward) {
    const int64_t n = kDeltaChunk, keys = n * p.key_dim, values = n * p.value_dim;
    cut(keys, {&q, &k, &raw_q, &raw_k});
    cut(n, {&rho_q, &rho_k, &beta});
    cut(n * p.channels, {&decay});
    cut(values, {&v, &errors, &out});
    cut(p.state_size(), {&state});
    if (backward) {
      cut(keys, {&d_q, &d_k});
      cut(values, {&d_out, &d_v});
      cut(n * p.channels, {&d_log_decay});
      cut(n, {&d_beta});
      cut(n * p.state_size(), {&decayed});
      cut(2 * p.value_dim, {&update});
      cut(p.repeats() * p.state_size(), {&d_states});
    }
    doubles_.resize(static_cast<size_t>(size_));
    for (const auto& [place, offset] : places_) *place = doubles_.data() + offset;
    rows.resize(static_cast<size_t>(n * std::max(p.key_dim, p.value_dim)));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  double *q = nullptr, *k = nullptr, *raw_q = nullptr, *raw_k = nullptr;
  double *rho_q = nullptr, *rho_k = nullptr, *beta = nullptr, *decay = nullptr;
  double *v = nullptr, *errors = nullptr, *out = nullptr, *state = nullptr;
  double *d_q = nullptr, *d_k = nullptr, *d_out = nullptr, *d_v = nullptr;
  double *d_log_decay = nullptr, *d_beta = nullptr, *decayed = nullptr, *update = nullptr;
  double* d_states = nullptr;
  std::vector<float> rows;  // between an element type and double

 private:
  void cut(int64_t count, std::initializer_list<double**> names) {
    for (double** name : names) {
      places_.emplace_back(name, size_);
      size_ += count;
    }
  }

  int64_t size_ = 0;
  std::vector<std::pair<double**, int64_t>> places_;
  std::vector<double> doubles_;
};

void load(const cpu::ElementRows& from, int64_t n, int64_t width, Scratch& s, double* to) {
  cpu::delta_load(from, n, width, s.rows.data());
  std::copy_n(s.rows.data(), n * width, to);
}

void store(const double* from, int64_t n, int64_t width, const cpu::ElementRows& to, Scratch& s) {
  std::transform(from, from + n * width, s.rows.data(),
                 [](double x) { return static_cast<float>(x); });
  cpu::delta_store(s.rows.data(), n, width, to);
}

/// y = ρ·scale·x, ρ = (|x|² + eps)^-½, or scale·x without normalisation.
void normalise(const double* x, int64_t n, int64_t width, const DeltaRuleOptions& options,
               double scale, double* rho, double* y) {
  for (int64_t t = 0; t < n; ++t) {
    const double* row = x + t * width;
    double sum = 0.0;
    for (int64_t i = 0; i < width; ++i) sum += row[i] * row[i];
    rho[t] = options.l2_norm ? 1.0 / std::sqrt(sum + options.l2_eps) : 1.0;
    for (int64_t i = 0; i < width; ++i) y[t * width + i] = rho[t] * scale * row[i];
  }
}

/// dx = ρ·scale·(dy - ρ² x (x·dy)), in place.
void normalise_backward(const double* x, int64_t n, int64_t width, const DeltaRuleOptions& options,
                        double scale, const double* rho, double* d) {
  for (int64_t t = 0; t < n; ++t) {
    const double* row = x + t * width;
    double* out = d + t * width;
    double along = 0.0;
    for (int64_t i = 0; options.l2_norm && i < width; ++i) along += row[i] * out[i];
    for (int64_t i = 0; i < width; ++i) {
      out[i] = rho[t] * scale * (out[i] - rho[t] * rho[t] * row[i] * along);
    }
  }
}

/// Shared by the heads of a key head.
void load_keys(const DeltaProblem& p, int64_t begin, int64_t n, int64_t group, Scratch& s) {
  load(p.q.rows(begin, group), n, p.key_dim, s, s.raw_q);
  load(p.k.rows(begin, group), n, p.key_dim, s, s.raw_k);
  normalise(s.raw_q, n, p.key_dim, p.options, p.options.scale, s.rho_q, s.q);
  normalise(s.raw_k, n, p.key_dim, p.options, 1.0, s.rho_k, s.k);
}

SmallDeltaChunk load_head(const DeltaProblem& p, int64_t begin, int64_t n, int64_t head,
                          Scratch& s) {
  load(p.v.rows(begin, head), n, p.value_dim, s, s.v);
  for (int64_t t = 0; t < n; ++t) {
    const int64_t at = (begin + t) * p.heads + head;
    s.beta[t] = p.beta[at];
    for (int64_t c = 0; c < p.channels; ++c) {
      s.decay[t * p.channels + c] = std::exp(static_cast<double>(p.log_decay[at * p.channels + c]));
    }
  }
  SmallDeltaChunk chunk{n, p.key_dim, p.value_dim, p.channels};
  chunk.q = s.q;
  chunk.k = s.k;
  chunk.v = s.v;
  chunk.decay = s.decay;
  chunk.beta = s.beta;
  chunk.state = s.state;
  chunk.errors = s.errors;
  return chunk;
}

void to_float(const double* from, int64_t count, float* to) {
  std::transform(from, from + count, to, [](double x) { return static_cast<float>(x); });
}

class SmallForward {
 public:
  SmallForward(const DeltaProblem& p, const cpu::HeadRows& out, const DeltaStates& states)
      : p_(p), out_(out), states_(states) {}

  void task(const DeltaTask& task, Scratch& s) const {
    const int64_t first = p_.cu[task.sequence], end = p_.cu[task.sequence + 1];
    std::vector<double> carried(static_cast<size_t>(p_.repeats() * p_.state_size()), 0.0);
    const int64_t slot = states_.slots == nullptr ? task.sequence : (*states_.slots)[task.sequence];
    const int64_t head0 = task.group * p_.repeats();
    float* held = slot < 0 ? nullptr
                           : states_.final_states + (slot * p_.heads + head0) * p_.state_size();
    if (held != nullptr) std::copy_n(held, carried.size(), carried.begin());
    int64_t row = p_.chunk_rows[task.sequence];
    for (int64_t begin = first; begin < end; begin += kDeltaChunk, ++row) {
      const int64_t n = std::min(kDeltaChunk, end - begin);
      load_keys(p_, begin, n, task.group, s);
      for (int64_t r = 0; r < p_.repeats(); ++r) {
        SmallDeltaChunk chunk = load_head(p_, begin, n, head0 + r, s);
        chunk.state = carried.data() + r * p_.state_size();
        chunk.out = s.out;
        if (states_.chunk_states != nullptr) {
          to_float(chunk.state, p_.state_size(),
                   states_.chunk_states + (row * p_.heads + head0 + r) * p_.state_size());
        }
        cpu::small_delta_forward(chunk);
        store(s.out, n, p_.value_dim, out_.rows(begin, head0 + r), s);
      }
    }
    if (held != nullptr) to_float(carried.data(), static_cast<int64_t>(carried.size()), held);
  }

 private:
  const DeltaProblem& p_;
  cpu::HeadRows out_;
  DeltaStates states_;
};

class SmallBackward {
 public:
  SmallBackward(const DeltaProblem& p, const float* states, const cpu::HeadRows& d_out,
                const DeltaSinks& sinks)
      : p_(p), states_(states), d_out_(d_out), sinks_(sinks) {}

  void task(const DeltaTask& task, Scratch& s) const {
    const int64_t first = p_.cu[task.sequence], head0 = task.group * p_.repeats();
    const int64_t row0 = p_.chunk_rows[task.sequence], size = p_.repeats() * p_.state_size();
    float* d_initial =
        sinks_.initial_state + (task.sequence * p_.heads + head0) * p_.state_size();
    std::copy_n(d_initial, size, s.d_states);
    for (int64_t row = p_.chunk_rows[task.sequence + 1] - 1; row >= row0; --row) {
      const int64_t begin = first + (row - row0) * kDeltaChunk;
      const int64_t n = std::min(kDeltaChunk, p_.cu[task.sequence + 1] - begin);
      load_keys(p_, begin, n, task.group, s);
      std::fill_n(s.d_q, n * p_.key_dim, 0.0);
      std::fill_n(s.d_k, n * p_.key_dim, 0.0);
      for (int64_t r = 0; r < p_.repeats(); ++r) {
        head_chunk(begin, n, head0 + r, row, s.d_states + r * p_.state_size(), s);
      }
      normalise_backward(s.raw_q, n, p_.key_dim, p_.options, p_.options.scale, s.rho_q, s.d_q);
      normalise_backward(s.raw_k, n, p_.key_dim, p_.options, 1.0, s.rho_k, s.d_k);
      store(s.d_q, n, p_.key_dim, sinks_.q.rows(begin, task.group), s);
      store(s.d_k, n, p_.key_dim, sinks_.k.rows(begin, task.group), s);
    }
    to_float(s.d_states, size, d_initial);
  }

 private:
  void head_chunk(int64_t begin, int64_t n, int64_t head, int64_t row, double* d_state,
                  Scratch& s) const {
    SmallDeltaBackward backward;
    backward.forward = load_head(p_, begin, n, head, s);
    backward.forward.decayed = s.decayed;
    std::copy_n(states_ + (row * p_.heads + head) * p_.state_size(), p_.state_size(), s.state);
    cpu::small_delta_forward(backward.forward);
    load(d_out_.rows(begin, head), n, p_.value_dim, s, s.d_out);
    backward.d_out = s.d_out;
    backward.d_state = d_state;
    backward.d_q = s.d_q;
    backward.d_k = s.d_k;
    backward.d_v = s.d_v;
    backward.d_log_decay = s.d_log_decay;
    backward.d_beta = s.d_beta;
    backward.update = s.update;
    cpu::small_delta_backward(backward);
    store(s.d_v, n, p_.value_dim, sinks_.v.rows(begin, head), s);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t at = (begin + t) * p_.heads + head;
      sinks_.beta[at] = static_cast<float>(s.d_beta[t]);
      to_float(s.d_log_decay + t * p_.channels, p_.channels, sinks_.log_decay + at * p_.channels);
    }
  }

  const DeltaProblem& p_;
  const float* states_;
  cpu::HeadRows d_out_;
  DeltaSinks sinks_;
};

template <class Pass>
void run(const DeltaProblem& p, bool backward, const Pass& pass) {
  const auto tasks = cpu::delta_tasks(p);
  const int64_t workers = num_workers();
  std::vector<std::unique_ptr<Scratch>> scratch(static_cast<size_t>(workers));
  run_tasks(workers, static_cast<int64_t>(tasks.size()), [&](int64_t worker, int64_t i) {
    auto& own = scratch[static_cast<size_t>(worker)];
    if (own == nullptr) own = std::make_unique<Scratch>(p, backward);
    pass.task(tasks[static_cast<size_t>(i)], *own);
  });
}

}  // namespace

Support delta_rule_small_supports(const DeltaRuleArguments& a) {
  if (a.key_dim() * a.value_dim() > kSmallState) {
    return Support::no("a state has more than " + std::to_string(kSmallState) + " elements");
  }
  return cpu::supports_rows(a.inputs.q_TGK);
}

DeltaRuleForward delta_rule_small_forward(const DeltaRuleArguments& a) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  DeltaRuleForward result = cpu::empty_forward(a, p);
  run(p, false, SmallForward(p, cpu::head_rows(result.out), cpu::states_of(result)));
  return result;
}

at::Tensor delta_rule_small_step(const DeltaRuleArguments& a, const at::Tensor& states_MHKV,
                                 const std::vector<int64_t>& slots) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  at::Tensor out = at::empty(a.inputs.v_THV.sizes(), a.inputs.v_THV.options());
  DeltaStates states;
  states.final_states = states_MHKV.data_ptr<float>();
  states.slots = &slots;
  run(p, false, SmallForward(p, cpu::head_rows(out), states));
  return out;
}

DeltaRuleGradients delta_rule_small_backward(const DeltaRuleArguments& a,
                                             const DeltaRuleBackwardArguments& wanted) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  const cpu::DeltaGradientBuffers buffers(a, p, wanted);
  const float* states = wanted.states.const_data_ptr<float>();
  run(p, true, SmallBackward(p, states, buffers.d_out(), buffers.sinks()));
  return buffers.finish(a);
}

}  // namespace headway::ops::internal
