// Forward of the fused delta rule: one task a sequence and key head walks the chunks with its
// states in cache; short sequences without gradients go token by token.
// Not for: element-wise loops (cpu/delta_rule_kernels.cpp) or the way back.
#include <algorithm>

#include <ATen/Functions.h>

#include "headway/ops/cpu/block_gemm.h"
#include "headway/ops/cpu/delta_rule_plan.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

using cpu::DeltaProblem;
using cpu::DeltaScratch;
using cpu::DeltaStates;

// Up to so many tokens a sequence without gradients is cheaper token by token.
constexpr int64_t kStepTokens = 8;

class DeltaForward {
 public:
  DeltaForward(const DeltaProblem& p, const cpu::HeadRows& out, const DeltaStates& states)
      : p_(p), out_(out), states_(states) {}

  void run() const {
    const auto tasks = cpu::delta_tasks(p_);
    const int64_t workers = num_workers();
    const int64_t spare = states_.slots == nullptr ? 0 : p_.repeats() * p_.state_size();
    const int64_t own = DeltaScratch::floats(p_, false);
    const at::Tensor memory = at::empty({workers, own + (spare + 15) / 16 * 16}, at::kFloat);
    run_tasks(workers, static_cast<int64_t>(tasks.size()), [&](int64_t worker, int64_t i) {
      float* base = memory.data_ptr<float>() + worker * memory.size(1);
      const DeltaScratch s(p_, false, base);
      const cpu::DeltaTask& task = tasks[i];
      float* state = states_of(task, base + own);
      const int64_t count = p_.cu[task.sequence + 1] - p_.cu[task.sequence];
      if (count <= kStepTokens && states_.chunk_states == nullptr) {
        steps(task, state, s);
      } else {
        chunks(task, state, s);
      }
    });
  }

 private:
  /// States of the heads of a task; zeros in `spare` where there is no slot.
  float* states_of(const cpu::DeltaTask& task, float* spare) const {
    int64_t row = task.sequence;
    if (states_.slots != nullptr) row = (*states_.slots)[task.sequence];
    if (row < 0) {
      std::fill_n(spare, p_.repeats() * p_.state_size(), 0.0f);
      return spare;
    }
    return states_.final_states + (row * p_.heads + task.group * p_.repeats()) * p_.state_size();
  }

  void chunks(const cpu::DeltaTask& task, float* states, const DeltaScratch& s) const {
    const int64_t first = p_.cu[task.sequence], end = p_.cu[task.sequence + 1];
    int64_t row = p_.chunk_rows[task.sequence];
    for (int64_t begin = first; begin < end; begin += kDeltaChunk, ++row) {
      const int64_t n = std::min(kDeltaChunk, end - begin);
      cpu::load_keys(p_, begin, n, task.group, s);
      for (int64_t r = 0; r < p_.repeats(); ++r) {
        const int64_t head = task.group * p_.repeats() + r;
        float* state = states + r * p_.state_size();
        if (states_.chunk_states != nullptr) {
          std::copy_n(state, p_.state_size(),
                      states_.chunk_states + (row * p_.heads + head) * p_.state_size());
        }
        cpu::load_head(p_, begin, n, head, s);
        chunk(begin, n, head, state, s);
      }
    }
  }

  void chunk(int64_t begin, int64_t n, int64_t head, float* state, const DeltaScratch& s) const {
    const int64_t keys = p_.key_dim, values = p_.value_dim;
    cpu::correct(p_, n, state, s, s.v);
    cpu::block_gemm(n, values, n, 1.0f, {s.scores, n}, {s.x, values}, 1.0f, s.reads, values);
    cpu::delta_store(s.reads, n, values, out_.rows(begin, head));
    cpu::delta_scale_state(s.from_start + (n - 1) * p_.channels, p_.channels, keys, values, state);
    cpu::block_gemm(keys, values, n, 1.0f, {s.k_end, keys, true}, {s.x, values}, 1.0f, state,
                    values);
  }

  void steps(const cpu::DeltaTask& task, float* states, const DeltaScratch& s) const {
    const auto scale = static_cast<float>(p_.options.scale);
    const auto eps = static_cast<float>(p_.options.l2_eps);
    for (int64_t t = p_.cu[task.sequence]; t < p_.cu[task.sequence + 1]; ++t) {
      cpu::delta_load(p_.q.rows(t, task.group), 1, p_.key_dim, s.q);
      cpu::delta_load(p_.k.rows(t, task.group), 1, p_.key_dim, s.k);
      if (p_.options.l2_norm) {
        cpu::delta_normalise(s.q, 1, p_.key_dim, eps, scale, s.rho_q);
        cpu::delta_normalise(s.k, 1, p_.key_dim, eps, 1.0f, s.rho_k);
      } else {
        cpu::delta_scale_each(s.q, &scale, 1, p_.key_dim);
      }
      for (int64_t r = 0; r < p_.repeats(); ++r) {
        const int64_t head = task.group * p_.repeats() + r, at = t * p_.heads + head;
        cpu::delta_load(p_.v.rows(t, head), 1, p_.value_dim, s.v);
        cpu::delta_step({s.q, s.k, s.v, p_.log_decay + at * p_.channels, p_.channels, p_.beta[at],
                         p_.key_dim, p_.value_dim, states + r * p_.state_size(), s.step, s.reads});
        cpu::delta_store(s.reads, 1, p_.value_dim, out_.rows(t, head));
      }
    }
  }

  const DeltaProblem& p_;
  cpu::HeadRows out_;
  DeltaStates states_;
};

}  // namespace

Support delta_rule_cpu_supports(const DeltaRuleArguments& arguments) {
  return cpu::supports_rows(arguments.inputs.q_TGK);
}

DeltaRuleForward delta_rule_cpu_forward(const DeltaRuleArguments& a) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  DeltaRuleForward result = cpu::empty_forward(a, p);
  DeltaForward(p, cpu::head_rows(result.out), cpu::states_of(result)).run();
  return result;
}

at::Tensor delta_rule_cpu_step(const DeltaRuleArguments& a, const at::Tensor& states_MHKV,
                               const std::vector<int64_t>& slots) {
  const TargetScope target(forced_target("gated_delta_rule"));
  const DeltaProblem p(a);
  at::Tensor out = at::empty(a.inputs.v_THV.sizes(), a.inputs.v_THV.options());
  DeltaStates states;
  states.final_states = states_MHKV.data_ptr<float>();
  states.slots = &slots;
  DeltaForward(p, cpu::head_rows(out), states).run();
  return out;
}

}  // namespace headway::ops::internal
