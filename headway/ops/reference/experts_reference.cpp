// Every expert on its tokens, as the formula reads. Not for: argument checks (experts.cpp).
#include "headway/ops/reference/experts_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/internal/activation_kernel.h"
#include "headway/ops/internal/arguments.h"
#include "headway/ops/reference/activation_reference.h"

namespace headway::ops::reference {
namespace {

using internal::expert_rows;
using internal::ExpertArguments;
using internal::ExpertOrder;
using internal::ExpertsForward;
using internal::ExpertsGradients;
using internal::ExpertsWanted;

at::Tensor rows_of(const ExpertOrder& order, int64_t begin, int64_t end, const at::Tensor& like) {
  const std::vector<int64_t> pairs(order.pairs.begin() + begin, order.pairs.begin() + end);
  return at::tensor(pairs, at::kLong).to(like.device());
}

/// One expert's share of the sorted rows, gathered.
struct Share {
  int64_t begin, count;
  at::Tensor pairs, tokens;  // int64
};

Share share_of(const ExpertArguments& a, const ExpertOrder& order, int64_t e) {
  Share share{order.offsets[e], order.offsets[e + 1] - order.offsets[e], {}, {}};
  share.pairs = rows_of(order, share.begin, share.begin + share.count, a.x);
  share.tokens = at::floor_divide(share.pairs, order.top_k);
  return share;
}

at::Tensor activate(const ExpertArguments& a, const at::Tensor& up) {
  const ExpertOptions& o = a.options;
  return activation_forward({up, o.activation, o.gated, o.gated_options()});
}

at::Tensor with_bias(const at::Tensor& product, const at::Tensor& bias, int64_t e, int64_t rows) {
  return bias.defined() ? product + expert_rows(bias, e, rows) : product;
}

at::Tensor zeros_if(bool wanted, const at::Tensor& like) {
  return wanted ? at::zeros_like(like.detach()) : at::Tensor();
}

/// One expert's part of every gradient that is wanted.
void add_gradients(const ExpertArguments& a, const Share& share, int64_t e,
                   const at::Tensor& up_rows, const at::Tensor& d_y, ExpertsGradients& sums) {
  const ExpertOptions& o = a.options;
  const at::ScalarType type = a.x.scalar_type();
  const int64_t up_width = a.up_rows(), outputs = a.down_rows();
  const at::Tensor up = up_rows.narrow(0, share.begin, share.count);
  const at::Tensor dy = d_y.index_select(0, share.tokens);
  const at::Tensor w = a.weights.flatten().index_select(0, share.pairs).unsqueeze(1);
  const at::Tensor h = activate(a, up).to(w.scalar_type());
  const at::Tensor d_weighted =
      at::mm(dy, expert_rows(a.expert.down, e, outputs)).to(w.scalar_type());
  if (sums.weights.defined()) {
    at::Tensor d_w = (d_weighted * h).sum(1);
    if (a.expert.down_bias.defined()) {
      d_w = d_w + at::mv(dy.to(w.scalar_type()),
                         expert_rows(a.expert.down_bias, e, outputs).to(w.scalar_type()));
    }
    sums.weights.flatten().index_copy_(0, share.pairs, d_w);
  }
  if (sums.down.defined()) {
    expert_rows(sums.down, e, outputs).copy_(at::mm(dy.t(), (h * w).to(type)));
  }
  if (sums.down_bias.defined()) {
    expert_rows(sums.down_bias, e, outputs).copy_((dy.to(w.scalar_type()) * w).sum(0));
  }
  const at::Tensor d_up = activation_backward({up, o.activation, o.gated, o.gated_options()},
                                              (d_weighted * w).to(type));
  if (sums.up.defined()) {
    expert_rows(sums.up, e, up_width).copy_(at::mm(d_up.t(), a.x.index_select(0, share.tokens)));
  }
  if (sums.up_bias.defined()) expert_rows(sums.up_bias, e, up_width).copy_(d_up.sum(0));
  if (sums.x.defined()) {
    const at::Tensor dx = at::mm(d_up, expert_rows(a.expert.up, e, up_width));
    sums.x.index_add_(0, share.tokens, dx.to(sums.x.scalar_type()));
  }
}

}  // namespace

ExpertsForward experts_forward(const ExpertArguments& a, bool keep_up) {
  at::NoGradGuard no_grad;
  const ExpertOrder order = internal::expert_order(a.experts, a.options.num_experts);
  const int64_t up_width = a.up_rows(), outputs = a.down_rows();
  ExpertsForward result;
  at::Tensor sum = at::zeros({a.x.size(0), outputs}, a.weights.options());
  if (keep_up) result.up_rows = at::empty({order.rows(), up_width}, a.x.options());
  for (int64_t e = 0; e < a.options.num_experts; ++e) {
    const Share share = share_of(a, order, e);
    if (share.count == 0) continue;
    const at::Tensor x = a.x.index_select(0, share.tokens);
    const at::Tensor up = with_bias(at::mm(x, expert_rows(a.expert.up, e, up_width).t()),
                                    a.expert.up_bias, e, up_width);
    if (keep_up) result.up_rows.narrow(0, share.begin, share.count).copy_(up);
    const at::Tensor w = a.weights.flatten().index_select(0, share.pairs).unsqueeze(1);
    const at::Tensor weighted = (activate(a, up).to(w.scalar_type()) * w).to(up.scalar_type());
    at::Tensor z = at::mm(weighted, expert_rows(a.expert.down, e, outputs).t()).to(w.scalar_type());
    if (a.expert.down_bias.defined()) z = z + w * expert_rows(a.expert.down_bias, e, outputs);
    sum.index_add_(0, share.tokens, z);  // no token stands twice in one expert's rows
  }
  result.y = sum.to(a.x.scalar_type());
  return result;
}

ExpertsGradients experts_backward(const ExpertArguments& a, const at::Tensor& up_rows,
                                  const at::Tensor& d_y, const ExpertsWanted& wanted) {
  at::NoGradGuard no_grad;
  const ExpertOrder order = internal::expert_order(a.experts, a.options.num_experts);
  ExpertsGradients sums;
  if (wanted.x) {
    sums.x = at::zeros(a.x.sizes(), a.x.options().dtype(internal::accumulate_type(a.x)));
  }
  sums.weights = zeros_if(wanted.weights, a.weights);
  sums.up = zeros_if(wanted.up, a.expert.up);
  sums.up_bias = zeros_if(wanted.up_bias, a.expert.up_bias);
  sums.down = zeros_if(wanted.down, a.expert.down);
  sums.down_bias = zeros_if(wanted.down_bias, a.expert.down_bias);
  for (int64_t e = 0; e < a.options.num_experts; ++e) {
    const Share share = share_of(a, order, e);
    if (share.count > 0) add_gradients(a, share, e, up_rows, d_y, sums);
  }
  if (wanted.x) sums.x = sums.x.to(a.x.scalar_type());
  return sums;
}

}  // namespace headway::ops::reference
