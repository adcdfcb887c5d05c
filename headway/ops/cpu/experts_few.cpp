// Experts for few tokens (decoding): matrix-vector products that read the weights of the chosen
// experts once and nothing of the others. Not for: gradients.
// Legend: as in internal/experts_kernel.h.
#include <vector>

#include "headway/ops/cpu/experts_parts.h"
#include "headway/ops/cpu/gemv_kernels.h"

namespace headway::ops::internal {
namespace {

// Pairs up to which every chosen expert has few rows.
constexpr int64_t kMostPairs = 32;
// Outputs of one task, and products a thread should at least get.
constexpr int64_t kOutputs = 32;
constexpr int64_t kGrain = 1 << 15;

struct Chosen {
  int64_t expert, begin, count;
};

/// y [N, rows] = the product of each chosen expert's rows of x [N, inputs] (float32) with its part
/// of a stacked weight, threads over strips of outputs.
void few_products(const std::vector<Chosen>& chosen, const at::Tensor& x, const at::Tensor& weight,
                  at::Tensor& y) {
  const int64_t rows = y.size(1), inputs = x.size(1);
  const int64_t strips = (rows + kOutputs - 1) / kOutputs;
  const int64_t work = std::max<int64_t>(1, kOutputs * inputs);
  const auto tasks = static_cast<int64_t>(chosen.size()) * strips;
  const size_t item = y.element_size();
  at::parallel_for(0, tasks, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const Chosen& c = chosen[task / strips];
      const int64_t first = task % strips * kOutputs;
      const auto* stacked = static_cast<const char*>(weight.const_data_ptr());
      auto* out = static_cast<char*>(y.data_ptr());
      const cpu::Gemv gemv{cpu::element_of(y),
                           c.count,
                           inputs,
                           x.const_data_ptr<float>() + c.begin * inputs,
                           stacked + static_cast<size_t>(c.expert * rows * inputs) * item,
                           inputs,
                           nullptr,
                           out + static_cast<size_t>(c.begin * rows) * item,
                           rows};
      cpu::gemv_outputs(gemv, first, std::min(rows, first + kOutputs));
    }
  });
}

void add_bias(const std::vector<Chosen>& chosen, const at::Tensor& bias, const float* factors,
              at::Tensor& y) {
  if (!bias.defined()) return;
  for (const Chosen& c : chosen) {
    const at::Tensor own = expert_rows(bias, c.expert, y.size(1));
    at::Tensor rows = y.narrow(0, c.begin, c.count);
    if (factors == nullptr) {
      rows.add_(own);
      continue;
    }
    std::vector<float> held(factors + c.begin, factors + c.begin + c.count);
    rows.add_((at::tensor(held, at::kFloat).unsqueeze(1) * own).to(y.scalar_type()));
  }
}

}  // namespace

bool takes_few_tokens(const ExpertArguments& arguments) {
  return arguments.experts.numel() <= kMostPairs && arguments.expert.up.is_contiguous() &&
         arguments.expert.down.is_contiguous();
}

at::Tensor experts_few_tokens(const ExpertArguments& a, const ExpertOrder& order) {
  std::vector<Chosen> chosen;
  for (int64_t e = 0; e < a.options.num_experts; ++e) {
    const int64_t begin = order.offsets[e], count = order.offsets[e + 1] - begin;
    if (count > 0) chosen.push_back({e, begin, count});
  }
  std::vector<float> factors(order.pairs.size());
  for (size_t row = 0; row < factors.size(); ++row) {
    factors[row] = a.weights.const_data_ptr<float>()[order.pairs[row]];
  }
  at::Tensor x = at::empty({order.rows(), a.x.size(1)}, a.x.options());
  gather_tokens(order, 0, a.x, x);
  at::Tensor up = at::empty({order.rows(), a.up_rows()}, a.x.options());
  few_products(chosen, x.to(at::kFloat), a.expert.up, up);
  add_bias(chosen, a.expert.up_bias, nullptr, up);
  at::Tensor h = at::empty({order.rows(), a.expert.down.size(1)}, a.x.options());
  expert_activate(a.options, up, h);
  cpu::scale_expert_rows(cpu::element_of(h), h.data_ptr(), h.size(0), h.size(1), factors.data());
  at::Tensor z = at::empty({order.rows(), a.down_rows()}, a.x.options());
  few_products(chosen, h.to(at::kFloat), a.expert.down, z);
  add_bias(chosen, a.expert.down_bias, factors.data(), z);
  at::Tensor y = at::empty({a.x.size(0), a.down_rows()}, a.x.options());
  combine_tokens(order, z, y);
  return y;
}

}  // namespace headway::ops::internal
