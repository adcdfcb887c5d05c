// Argument checks, kernel table and autograd node of the gated delta rule. Not for: arithmetic.
#include "headway/ops/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/delta_rule_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/delta_rule_chunked.h"
#include "headway/ops/reference/delta_rule_reference.h"

namespace headway::ops {
namespace {

using internal::DeltaRuleArguments;
using internal::DeltaRuleKernel;
using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "gated_delta_rule";

Support always(const DeltaRuleArguments&) { return Support::yes(); }

constexpr DeltaRuleKernel kKernels[] = {
    {"small",
     true,
     internal::delta_rule_small_supports,
     {internal::delta_rule_small_forward, internal::delta_rule_small_backward,
      internal::delta_rule_small_step}},
    {"cpu",
     true,
     internal::delta_rule_cpu_supports,
     {internal::delta_rule_cpu_forward, internal::delta_rule_cpu_backward,
      internal::delta_rule_cpu_step}},
    {"composed",
     false,
     always,
     {reference::delta_rule_chunked_forward, reference::delta_rule_chunked_backward, nullptr}},
    {"reference",
     false,
     always,
     {reference::delta_rule_forward, reference::delta_rule_backward, nullptr}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

std::string shape_text(at::IntArrayRef sizes, const char* why) {
  std::ostringstream text;
  text << sizes << why;
  return text.str();
}

void check_rows(const char* name, const at::Tensor& x, const char* layout) {
  internal::check_dims(kOp, name, x, 3, layout);
  internal::check_floating(kOp, name, x);
  if (x.size(1) < 1 || x.size(2) < 1)
    throw_shape(kOp, name, x.sizes(), "at least one head and channel");
  if (x.size(2) > 1 && x.stride(2) != 1) {
    throw_shape(kOp, name, x.strides(), "strides with a contiguous last dimension");
  }
}

/// Floating, of the dtype of q or of its sums, on q's device.
void check_side(const char* name, const at::Tensor& x, const at::Tensor& q) {
  if (x.scalar_type() != q.scalar_type() && x.scalar_type() != internal::accumulate_type(q)) {
    throw_shape(kOp, name, x.scalar_type(),
                std::string(c10::toString(q.scalar_type())) + ", the dtype of q, or " +
                    c10::toString(internal::accumulate_type(q)));
  }
  if (x.device() != q.device()) {
    throw_shape(kOp, name, x.device(), q.device().str() + ", the device of q");
  }
}

void check_heads(const DeltaRuleInputs& in) {
  const at::Tensor &q = in.q_TGK, &k = in.k_TGK, &v = in.v_THV;
  check_rows("q", q, "[T,G,K]");
  check_rows("k", k, "[T,G,K]");
  check_rows("v", v, "[T,H,V]");
  internal::check_like(kOp, "k", k, "q", q);
  internal::check_like(kOp, "v", v, "q", q);
  if (k.sizes() != q.sizes()) {
    throw_shape(kOp, "k", k.sizes(), shape_text(q.sizes(), ", the shape of q"));
  }
  if (v.size(0) != q.size(0)) {
    throw_shape(kOp, "v", v.sizes(), "[" + std::to_string(q.size(0)) + ",H,V], the tokens of q");
  }
  if (v.size(1) % q.size(1) != 0) {
    throw_shape(
        kOp, "v", v.sizes(),
        "a number of heads that is a multiple of the " + std::to_string(q.size(1)) + " of q");
  }
}

void check_gates(const DeltaRuleInputs& in) {
  const int64_t tokens = in.v_THV.size(0), heads = in.v_THV.size(1);
  internal::check_dims(kOp, "beta", in.beta_TH, 2, "[T,H]");
  if (in.beta_TH.sizes() != at::IntArrayRef({tokens, heads})) {
    throw_shape(kOp, "beta", in.beta_TH.sizes(), shape_text({tokens, heads}, ", [T,H]"));
  }
  check_side("beta", in.beta_TH, in.q_TGK);
  const at::Tensor& g = in.log_decay;
  const std::vector<int64_t> scalar{tokens, heads}, channel{tokens, heads, in.q_TGK.size(2)};
  if (!g.defined() || (g.sizes() != scalar && g.sizes() != channel)) {
    const std::string allowed =
        shape_text(scalar, " (a decay per head) or ") + shape_text(channel, " (per channel)");
    if (!g.defined()) throw_shape(kOp, "log_decay", "undefined", allowed);
    throw_shape(kOp, "log_decay", g.sizes(), allowed);
  }
  check_side("log_decay", g, in.q_TGK);
}

void check_states(const char* name, const at::Tensor& states, int64_t rows,
                  const DeltaRuleInputs& in) {
  const std::vector<int64_t> wanted{rows, in.v_THV.size(1), in.q_TGK.size(2), in.v_THV.size(2)};
  if (states.sizes() != wanted) {
    throw_shape(kOp, name, states.sizes(), shape_text(wanted, ", [N,H,K,V]"));
  }
  const at::ScalarType type = internal::accumulate_type(in.q_TGK);
  if (states.scalar_type() != type) {
    throw_shape(kOp, name, states.scalar_type(), std::string(c10::toString(type)));
  }
  if (states.device() != in.q_TGK.device()) {
    throw_shape(kOp, name, states.device(), in.q_TGK.device().str() + ", the device of q");
  }
}

void check_arguments(const DeltaRuleInputs& in, const Sequences& sequences,
                     const DeltaRuleOptions& options) {
  check_heads(in);
  check_gates(in);
  check_sequences(sequences, in.q_TGK.size(0), sequences.cu_k.back(), kOp);
  if (in.initial_state_NHKV.defined()) {
    check_states("initial_state", in.initial_state_NHKV, sequences.num_sequences(), in);
  }
  if (!std::isfinite(options.scale)) {
    throw ConfigError("[gated_delta_rule] options.scale = " + std::to_string(options.scale) +
                      ", allowed a finite number");
  }
  if (!(options.l2_eps >= 0) || !std::isfinite(options.l2_eps)) {
    throw ConfigError("[gated_delta_rule] options.l2_eps = " + std::to_string(options.l2_eps) +
                      ", allowed a finite number >= 0");
  }
}

using MaybeTensor = std::optional<at::Tensor>;

class DeltaRuleFunction : public torch::autograd::Function<DeltaRuleFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& g, const at::Tensor& beta,
                               const MaybeTensor& initial, const std::vector<int64_t>& cu,
                               const DeltaRuleOptions& options) {
    const DeltaRuleArguments arguments{
        {q, k, v, g, beta, initial.value_or(at::Tensor())}, cu, options, true};
    auto result = select_kernel(kOp, kKernels, arguments).run.forward(arguments);
    context->save_for_backward({q, k, v, g, beta, result.states});
    context->saved_data["cu"] = cu;
    context->saved_data["scale"] = options.scale;
    context->saved_data["l2_norm"] = options.l2_norm;
    context->saved_data["l2_eps"] = options.l2_eps;
    context->saved_data["initial"] = initial.has_value();
    context->set_materialize_grads(false);
    return {result.out, result.final_state};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const bool initial = data["initial"].toBool();
    variable_list result(8);
    if (!grads[0].defined() && !grads[1].defined()) return result;
    const std::vector<int64_t> cu = data["cu"].toIntVector();
    const DeltaRuleOptions options{data["scale"].toDouble(), data["l2_norm"].toBool(),
                                   data["l2_eps"].toDouble()};
    const DeltaRuleArguments arguments{
        {saved[0], saved[1], saved[2], saved[3], saved[4], at::Tensor()}, cu, options, true};
    internal::DeltaRuleBackwardArguments wanted{saved[5], grads[0], grads[1]};
    if (wanted.d_out.defined() && wanted.d_out.stride(2) != 1) {
      wanted.d_out = wanted.d_out.contiguous();
    }
    if (wanted.d_final_state.defined()) wanted.d_final_state = wanted.d_final_state.contiguous();
    auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, wanted);
    result[0] = gradients.q;
    result[1] = gradients.k;
    result[2] = gradients.v;
    result[3] = gradients.log_decay;
    result[4] = gradients.beta;
    if (initial) result[5] = gradients.initial_state;
    return result;
  }
};

void check_slots(const std::vector<int64_t>& slots, int64_t sequences, int64_t rows) {
  if (static_cast<int64_t>(slots.size()) != sequences) {
    throw_shape(kOp, "slots", slots.size(), std::to_string(sequences) + ", one per sequence");
  }
  std::set<int64_t> seen;
  for (const int64_t slot : slots) {
    if (slot < -1 || slot >= rows) {
      throw_shape(kOp, "slots", slot, "-1 to " + std::to_string(rows - 1));
    }
    if (slot >= 0 && !seen.insert(slot).second) {
      throw_shape(kOp, "slots", slot, "every slot once");
    }
  }
}

/// States gathered, continued and put back.
at::Tensor step_by_forward(DeltaRuleArguments arguments, const at::Tensor& states,
                           const std::vector<int64_t>& slots, const DeltaRuleKernel& kernel) {
  std::vector<at::Tensor> held;
  for (const int64_t slot : slots) {
    held.push_back(slot < 0 ? at::zeros_like(states[0]) : states[slot]);
  }
  if (!held.empty()) arguments.inputs.initial_state_NHKV = at::stack(held);
  const auto result = kernel.run.forward(arguments);
  for (size_t n = 0; n < slots.size(); ++n) {
    if (slots[n] >= 0) states[slots[n]].copy_(result.final_state[static_cast<int64_t>(n)]);
  }
  return result.out;
}

}  // namespace

namespace internal {

std::vector<int64_t> delta_chunk_offsets(const std::vector<int64_t>& cu) {
  std::vector<int64_t> offsets{0};
  for (size_t n = 0; n + 1 < cu.size(); ++n) {
    offsets.push_back(offsets.back() + (cu[n + 1] - cu[n] + kDeltaChunk - 1) / kDeltaChunk);
  }
  return offsets;
}

}  // namespace internal

DeltaRuleResult gated_delta_rule(const DeltaRuleInputs& in, const Sequences& sequences,
                                 const DeltaRuleOptions& options) {
  check_arguments(in, sequences, options);
  const at::Tensor& initial = in.initial_state_NHKV;
  if (!internal::records_gradient(in.q_TGK, in.k_TGK, in.v_THV, in.log_decay, in.beta_TH,
                                  initial)) {
    const DeltaRuleArguments arguments{in, sequences.cu_q, options, false};
    const auto result = select_kernel(kOp, kKernels, arguments).run.forward(arguments);
    return {result.out, result.final_state};
  }
  const MaybeTensor maybe = initial.defined() ? MaybeTensor(initial) : std::nullopt;
  const auto result = DeltaRuleFunction::apply(in.q_TGK, in.k_TGK, in.v_THV, in.log_decay,
                                               in.beta_TH, maybe, sequences.cu_q, options);
  return {result[0], result[1]};
}

at::Tensor gated_delta_step(const DeltaRuleInputs& in, const at::Tensor& states_MHKV,
                            const std::vector<int64_t>& slots, const Sequences& sequences,
                            const DeltaRuleOptions& options) {
  check_arguments(in, sequences, options);
  internal::check_dims(kOp, "states", states_MHKV, 4, "[M,H,K,V]");
  if (in.initial_state_NHKV.defined()) {
    throw_shape(kOp, "initial_state", in.initial_state_NHKV.sizes(), "none beside slots");
  }
  check_states("states", states_MHKV, states_MHKV.size(0), in);
  if (!states_MHKV.is_contiguous()) {
    throw_shape(kOp, "states", states_MHKV.strides(), "contiguous memory");
  }
  check_slots(slots, sequences.num_sequences(), states_MHKV.size(0));
  const at::NoGradGuard no_grad;
  const DeltaRuleArguments arguments{in, sequences.cu_q, options, false};
  const DeltaRuleKernel& kernel = select_kernel(kOp, kKernels, arguments);
  if (kernel.run.step != nullptr) return kernel.run.step(arguments, states_MHKV, slots);
  return step_by_forward(arguments, states_MHKV, slots, kernel);
}

}  // namespace headway::ops
