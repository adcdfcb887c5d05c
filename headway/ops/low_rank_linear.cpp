// Argument checks and autograd node of low_rank_linear. Not for: the product with the weight
// (linear.cpp).
#include "headway/ops/low_rank_linear.h"

#include <cmath>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/linear.h"

namespace headway::ops {
namespace {

using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "low_rank_linear";

int64_t rank_of(const LowRank& pairs) { return pairs.b_PR.size(1); }

/// Calls with (i, run, first row of the run in b).
template <class F>
void for_each_run(const LowRank& pairs, F call) {
  int64_t first = 0;
  for (size_t i = 0; i < pairs.runs.size(); ++i) {
    call(static_cast<int64_t>(i), pairs.runs[i], first);
    first += pairs.runs[i].rows;
  }
}

void check_runs(const at::Tensor& weight, const LowRank& pairs) {
  int64_t end = 0, rows = 0;
  for (const LowRank::Run& run : pairs.runs) {
    if (run.rows < 1 || run.begin < end || run.rows > weight.size(0) - run.begin) {
      throw_shape(kOp, "runs", run.begin, "runs in order, within the rows of the weight");
    }
    end = run.begin + run.rows;
    rows += run.rows;
  }
  const auto count = static_cast<int64_t>(pairs.runs.size());
  if (count == 0) throw_shape(kOp, "runs", "none", "at least one");
  internal::check_dims(kOp, "b", pairs.b_PR, 2, "[P,R]");
  internal::check_dims(kOp, "a", pairs.a_NI, 2, "[N·R,I]");
  internal::check_like(kOp, "b", pairs.b_PR, "weight", weight);
  internal::check_like(kOp, "a", pairs.a_NI, "weight", weight);
  if (pairs.b_PR.size(0) != rows || rank_of(pairs) < 1) {
    throw_shape(kOp, "b", pairs.b_PR.sizes(), "[" + std::to_string(rows) + ",R]");
  }
  if (pairs.a_NI.size(0) != count * rank_of(pairs) || pairs.a_NI.size(1) != weight.size(1)) {
    throw_shape(kOp, "a", pairs.a_NI.sizes(), "[N·R,I], R as in b, I as in the weight");
  }
  if (!std::isfinite(pairs.scale)) throw_shape(kOp, "scale", pairs.scale, "a finite number");
  if (!pairs.magnitude_P.defined()) return;
  internal::check_dims(kOp, "magnitude", pairs.magnitude_P, 1, "[P]");
  internal::check_like(kOp, "magnitude", pairs.magnitude_P, "weight", weight);
  if (pairs.magnitude_P.size(0) != rows) {
    throw_shape(kOp, "magnitude", pairs.magnitude_P.sizes(), "[" + std::to_string(rows) + "]");
  }
}

/// Column runs of y as views, in the order of the runs.
at::Tensor columns(const at::Tensor& y_TO, const LowRank::Run& run) {
  return y_TO.narrow(1, run.begin, run.rows);
}

struct Forward {
  at::Tensor y_TO;
  at::Tensor u_TN;    // x Aᵀ
  at::Tensor v_TP;    // adapted rows before magnitudes
  at::Tensor norm_P;  // n
};

Forward run_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const LowRank& pairs) {
  const bool dora = pairs.magnitude_P.defined();
  const int64_t rank = rank_of(pairs);
  Forward result;
  result.y_TO = ops::linear(x, weight, dora ? at::Tensor() : bias);
  result.u_TN = ops::linear(x, pairs.a_NI, at::Tensor());
  for_each_run(pairs, [&](int64_t i, const LowRank::Run& run, int64_t first) {
    columns(result.y_TO, run)
        .addmm_(result.u_TN.narrow(1, i * rank, rank), pairs.b_PR.narrow(0, first, run.rows).t(), 1,
                pairs.scale);
  });
  if (!dora) return result;
  result.norm_P = low_rank_row_norms(weight, pairs);
  std::vector<at::Tensor> adapted;
  for (const LowRank::Run& run : pairs.runs) adapted.push_back(columns(result.y_TO, run));
  result.v_TP = at::cat(adapted, 1);
  const at::Tensor factor = pairs.magnitude_P / result.norm_P;
  for_each_run(pairs, [&](int64_t, const LowRank::Run& run, int64_t first) {
    columns(result.y_TO, run).mul_(factor.narrow(0, first, run.rows));
  });
  if (bias.defined()) result.y_TO.add_(bias);
  return result;
}

class LowRankLinearFunction : public torch::autograd::Function<LowRankLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& a, const at::Tensor& b,
                            const std::optional<at::Tensor>& magnitude,
                            const std::optional<at::Tensor>& bias, const std::vector<int64_t>& runs,
                            double scale) {
    const LowRank pairs{unpack(runs), a, b, magnitude.value_or(at::Tensor()), scale};
    const Forward result = run_forward(x, weight, bias.value_or(at::Tensor()), pairs);
    context->save_for_backward(
        {x, weight, a, b, pairs.magnitude_P, result.u_TN, result.v_TP, result.norm_P});
    context->saved_data["runs"] = runs;
    context->saved_data["scale"] = scale;
    return result.y_TO;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const LowRank pairs{unpack(context->saved_data["runs"].toIntVector()), saved[2], saved[3],
                        saved[4], context->saved_data["scale"].toDouble()};
    const at::Tensor &x = saved[0], &weight = saved[1], &u = saved[5];
    const int64_t rank = rank_of(pairs);
    variable_list result(8);
    at::Tensor dv = grads[0];
    if (pairs.magnitude_P.defined()) {
      result[4] = at::empty_like(pairs.magnitude_P);
      dv = through_magnitude(pairs, saved[6], saved[7], grads[0], result[4]);
    }
    at::Tensor du = at::empty_like(u);
    result[3] = at::empty_like(pairs.b_PR);
    for_each_run(pairs, [&](int64_t i, const LowRank::Run& run, int64_t first) {
      const at::Tensor own = columns(dv, run);
      const at::Tensor u_i = u.narrow(1, i * rank, rank);
      du.narrow(1, i * rank, rank)
          .copy_(at::mm(own, pairs.b_PR.narrow(0, first, run.rows)).mul_(pairs.scale));
      result[3].narrow(0, first, run.rows).copy_(at::mm(own.t(), u_i).mul_(pairs.scale));
    });
    result[2] = at::mm(du.t(), x);
    if (context->needs_input_grad(0)) {
      result[0] = at::mm(dv, weight).addmm_(du, pairs.a_NI);
    }
    return result;
  }

  static std::vector<int64_t> pack(const std::vector<LowRank::Run>& runs) {
    std::vector<int64_t> numbers;
    for (const LowRank::Run& run : runs) numbers.insert(numbers.end(), {run.begin, run.rows});
    return numbers;
  }

 private:
  static std::vector<LowRank::Run> unpack(const std::vector<int64_t>& numbers) {
    std::vector<LowRank::Run> runs;
    for (size_t i = 0; i + 1 < numbers.size(); i += 2) runs.push_back({numbers[i], numbers[i + 1]});
    return runs;
  }

  /// dy behind the magnitudes; fills their gradient.
  static at::Tensor through_magnitude(const LowRank& pairs, const at::Tensor& v_TP,
                                      const at::Tensor& norm_P, const at::Tensor& dy,
                                      at::Tensor& d_magnitude) {
    const at::ScalarType wide = internal::accumulate_type(dy);
    const at::Tensor factor = pairs.magnitude_P / norm_P;
    at::Tensor dv = dy.clone();
    for_each_run(pairs, [&](int64_t, const LowRank::Run& run, int64_t first) {
      const at::Tensor own = columns(dy, run);
      const at::Tensor sum = (own.to(wide) * v_TP.narrow(1, first, run.rows).to(wide)).sum(0) /
                             norm_P.narrow(0, first, run.rows).to(wide);
      d_magnitude.narrow(0, first, run.rows).copy_(sum);
      columns(dv, run).mul_(factor.narrow(0, first, run.rows));
    });
    return dv;
  }
};

std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

}  // namespace

at::Tensor low_rank_row_norms(const at::Tensor& weight_OI, const LowRank& pairs) {
  check_runs(weight_OI, pairs);
  const at::NoGradGuard no_grad;
  const at::ScalarType wide = internal::accumulate_type(weight_OI);
  const int64_t rank = rank_of(pairs);
  std::vector<at::Tensor> norms;
  for_each_run(pairs, [&](int64_t i, const LowRank::Run& run, int64_t first) {
    const at::Tensor rows =
        at::addmm(weight_OI.narrow(0, run.begin, run.rows).to(wide),
                  pairs.b_PR.narrow(0, first, run.rows).to(wide),
                  pairs.a_NI.narrow(0, i * rank, rank).to(wide), 1, pairs.scale);
    norms.push_back(at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}));
  });
  return at::cat(norms).to(weight_OI.scalar_type());
}

at::Tensor low_rank_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                           const at::Tensor& bias_O, const LowRank& pairs) {
  internal::check_dims(kOp, "weight", weight_OI, 2, "[O,I]");
  check_runs(weight_OI, pairs);
  if (internal::records_gradient(weight_OI, bias_O)) {
    throw UnsupportedError(
        "[low_rank_linear] weight = requires a gradient, allowed a frozen weight and bias");
  }
  if (!internal::records_gradient(x_TI, pairs.a_NI, pairs.b_PR, pairs.magnitude_P)) {
    return run_forward(x_TI, weight_OI, bias_O, pairs).y_TO;
  }
  return LowRankLinearFunction::apply(x_TI, weight_OI, pairs.a_NI, pairs.b_PR,
                                      optional(pairs.magnitude_P), optional(bias_O),
                                      LowRankLinearFunction::pack(pairs.runs), pairs.scale);
}

}  // namespace headway::ops
