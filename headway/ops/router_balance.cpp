// Auxiliary losses of a router, counts of its choices, and what a full expert drops.
// Not for: the choice itself (router.cpp).
// Legend: T tokens, E experts, K chosen ones, N documents, L losses.
#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/base/error.h"
#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/router_kernel.h"
#include "headway/ops/router.h"

namespace headway::ops {
namespace {

using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kCount[] = "count_choices";
constexpr char kBalance[] = "balance_losses";
constexpr char kCapacity[] = "limit_capacity";

void check_boundaries(const char* op, const std::vector<int64_t>& boundaries, int64_t tokens) {
  const bool fits = boundaries.size() >= 2 && boundaries.front() == 0 &&
                    boundaries.back() == tokens &&
                    std::is_sorted(boundaries.begin(), boundaries.end());
  if (fits) return;
  throw_shape(op, "boundaries", std::to_string(boundaries.size()) + " numbers",
              "rising numbers from 0 to the tokens (= " + std::to_string(tokens) + ")");
}

/// p of the losses: scores that add up to one.
at::Tensor shares(const at::Tensor& scores, RouterScore score) {
  if (score == RouterScore::kSoftmax) return scores;
  return scores / (scores.sum(-1, true) + internal::kScoreEpsilon);
}

at::Tensor shares_backward(const at::Tensor& logits, RouterScore score, const at::Tensor& d_p) {
  const at::Tensor scores = internal::router_scores(logits, score);
  at::Tensor d_scores = d_p;
  if (score != RouterScore::kSoftmax) {
    const at::Tensor sum = scores.sum(-1, true) + internal::kScoreEpsilon;
    d_scores = (d_p - (d_p * scores).sum(-1, true) / sum) / sum;
  }
  return internal::router_scores_backward(logits, scores, score, d_scores);
}

/// The document of every token.
at::Tensor documents_of(const std::vector<int64_t>& boundaries, const at::Tensor& like) {
  std::vector<int64_t> ids(boundaries.back());
  for (size_t n = 0; n + 1 < boundaries.size(); ++n) {
    std::fill(ids.begin() + boundaries[n], ids.begin() + boundaries[n + 1], int64_t(n));
  }
  return at::tensor(ids, at::kLong).to(like.device());
}

/// Σ_t p of every document, [N,E] in double: one sum after another.
at::Tensor sums_by_document(const at::Tensor& p_TE, const std::vector<int64_t>& boundaries) {
  std::vector<at::Tensor> rows;
  for (size_t n = 0; n + 1 < boundaries.size(); ++n) {
    const int64_t length = boundaries[n + 1] - boundaries[n];
    rows.push_back(p_TE.narrow(0, boundaries[n], length).sum(0, false, at::kDouble));
  }
  return at::stack(rows);
}

/// What multiplies p_te in each loss, [L,N,E] in double.
at::Tensor factors(const BalanceInput& input, const BalanceOptions& o, int64_t valid_tokens) {
  const at::Tensor counts = input.counts_NE.to(at::kDouble).to(input.logits_TE.device());
  const int64_t documents = counts.size(0);
  const auto experts = static_cast<double>(counts.size(1));
  const double top_k = static_cast<double>(o.top_k);
  const auto tokens = static_cast<double>(std::max<int64_t>(valid_tokens, 1));
  std::vector<at::Tensor> all;
  for (const BalanceLoss& loss : o.losses) {
    const double unit = loss.coefficient * experts / top_k;
    if (loss.kind == BalanceKind::kSequence) {
      std::vector<double> scale;
      for (int64_t n = 0; n < documents; ++n) {
        const int64_t own = input.valid_T.defined() ? valid_tokens / documents
                                                    : input.boundaries[n + 1] - input.boundaries[n];
        const auto length = static_cast<double>(std::max<int64_t>(own, 1));
        scale.push_back(unit / (length * length * static_cast<double>(documents)));
      }
      all.push_back(counts * at::tensor(scale, at::kDouble).to(counts.device()).unsqueeze(1));
      continue;
    }
    const bool averaged = loss.kind == BalanceKind::kGlobal && input.mean_counts_E.defined();
    const at::Tensor total =
        averaged ? input.mean_counts_E.to(counts.device(), at::kDouble) : counts.sum(0);
    all.push_back((total * (unit / (tokens * tokens))).expand_as(counts));
  }
  return all.empty() ? at::zeros({0, documents, counts.size(1)}, counts.options()) : at::stack(all);
}

class BalanceFunction : public torch::autograd::Function<BalanceFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits,
                            const BalanceInput& input, const BalanceOptions& options) {
    const at::Tensor z = logits.to(internal::accumulate_type(logits));
    const at::Tensor valid =
        input.valid_T.defined() ? input.valid_T.to(z.scalar_type()).unsqueeze(1) : at::Tensor();
    const int64_t tokens = valid.defined() ? input.valid_T.sum().item<int64_t>() : logits.size(0);
    const at::Tensor factors_LNE = factors(input, options, tokens);
    at::Tensor p = shares(internal::router_scores(z, options.score), options.score);
    if (valid.defined()) p = p * valid;
    at::Tensor losses = (factors_LNE * sums_by_document(p, input.boundaries)).sum({1, 2});
    const double z_unit = options.z_loss / static_cast<double>(std::max<int64_t>(tokens, 1));
    if (options.z_loss > 0) {
      at::Tensor squares = at::logsumexp(z, -1).square();
      if (valid.defined()) squares = squares * valid.squeeze(1);
      losses = at::cat({losses, (squares.sum(0, false, at::kDouble) * z_unit).reshape({1})});
    }
    context->save_for_backward({logits, factors_LNE, documents_of(input.boundaries, logits),
                                valid.defined() ? valid : at::Tensor()});
    context->saved_data["score"] = static_cast<int64_t>(options.score);
    context->saved_data["z_unit"] = z_unit;
    return losses.to(z.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor z = saved[0].to(internal::accumulate_type(saved[0]));
    const auto score = static_cast<RouterScore>(context->saved_data["score"].toInt());
    const double z_unit = context->saved_data["z_unit"].toDouble();
    const at::Tensor g = grads[0].to(at::kDouble);
    const int64_t losses = saved[1].size(0);
    const at::Tensor by_document =
        (saved[1] * g.narrow(0, 0, losses).view({-1, 1, 1})).sum(0).to(z.scalar_type());
    const at::Tensor d_p = by_document.index_select(0, saved[2]);
    at::Tensor d_z = shares_backward(z, score, d_p);
    if (z_unit > 0) {
      const at::Tensor lse = at::logsumexp(z, -1, true);
      d_z = d_z + at::softmax(z, -1) * lse * (g[losses].to(z.scalar_type()) * (2 * z_unit));
    }
    if (saved[3].defined()) d_z = d_z * saved[3];
    return {d_z.to(saved[0].scalar_type()), at::Tensor(), at::Tensor()};
  }
};

void check_balance(const BalanceInput& input, const BalanceOptions& options) {
  internal::check_dims(kBalance, "logits", input.logits_TE, 2, "[T,E]");
  internal::check_floating(kBalance, "logits", input.logits_TE);
  check_boundaries(kBalance, input.boundaries, input.logits_TE.size(0));
  const auto documents = static_cast<int64_t>(input.boundaries.size()) - 1;
  const int64_t experts = input.logits_TE.size(1);
  internal::check_dims(kBalance, "counts", input.counts_NE, 2, "[N,E]");
  if (input.counts_NE.size(0) != documents || input.counts_NE.size(1) != experts) {
    throw_shape(kBalance, "counts", input.counts_NE.sizes(),
                "[" + std::to_string(documents) + "," + std::to_string(experts) + "]");
  }
  if (input.valid_T.defined() &&
      (input.valid_T.dim() != 1 || input.valid_T.size(0) != input.logits_TE.size(0))) {
    throw_shape(kBalance, "valid", input.valid_T.sizes(), "[T]");
  }
  if (options.top_k < 1 || options.top_k > experts) {
    throw_shape(kBalance, "top_k", options.top_k, "1 to the number of experts");
  }
}

void check_choices(const char* op, const at::Tensor& experts_TK, int64_t num_experts) {
  internal::check_dims(op, "experts", experts_TK, 2, "[T,K]");
  if (experts_TK.scalar_type() != at::kLong) {
    throw_shape(op, "experts", experts_TK.scalar_type(), "int64");
  }
  if (experts_TK.numel() == 0) return;
  const int64_t most = experts_TK.max().item<int64_t>();
  if (most >= num_experts) {
    throw_shape(op, "experts", most, "numbers below " + std::to_string(num_experts));
  }
}

}  // namespace

at::Tensor count_choices(const at::Tensor& experts_TK, int64_t num_experts,
                         const std::vector<int64_t>& boundaries, const at::Tensor& valid_T) {
  check_choices(kCount, experts_TK, num_experts);
  check_boundaries(kCount, boundaries, experts_TK.size(0));
  const at::Tensor experts = experts_TK.cpu().contiguous();
  const at::Tensor valid = valid_T.defined() ? valid_T.to(at::kBool).cpu().contiguous() : valid_T;
  const auto documents = static_cast<int64_t>(boundaries.size()) - 1;
  at::Tensor counts = at::zeros({documents, num_experts}, at::kDouble);
  const int64_t* chosen = experts.const_data_ptr<int64_t>();
  const int64_t top_k = experts.size(1);
  for (int64_t n = 0; n < documents; ++n) {
    double* row = counts.data_ptr<double>() + n * num_experts;
    for (int64_t t = boundaries[n]; t < boundaries[n + 1]; ++t) {
      if (valid.defined() && !valid.const_data_ptr<bool>()[t]) continue;
      for (int64_t j = 0; j < top_k; ++j) {
        if (const int64_t e = chosen[t * top_k + j]; e >= 0) row[e] += 1.0;
      }
    }
  }
  return counts;
}

at::Tensor balance_losses(const BalanceInput& input, const BalanceOptions& options) {
  check_balance(input, options);
  return BalanceFunction::apply(input.logits_TE, input, options);
}

at::Tensor sinkhorn_keys(const at::Tensor& logits_TE) {
  at::NoGradGuard no_grad;
  internal::check_dims("sinkhorn_keys", "logits", logits_TE, 2, "[T,E]");
  internal::check_floating("sinkhorn_keys", "logits", logits_TE);
  constexpr double kTolerance = 1e-4, kEpsilon = 1e-8;
  constexpr int kMostTurns = 10000;  // where numbers go back and forth for good
  const at::Tensor cost = logits_TE.to(internal::accumulate_type(logits_TE)).exp();
  const auto tokens = static_cast<double>(std::max<int64_t>(cost.size(0), 1));
  const auto experts = static_cast<double>(std::max<int64_t>(cost.size(1), 1));
  at::Tensor of_token = at::ones({cost.size(0), 1}, cost.options());
  at::Tensor of_expert = at::ones({1, cost.size(1)}, cost.options());
  for (int turn = 0; turn < kMostTurns; ++turn) {
    of_token = 1 / (tokens * ((of_expert * cost).sum(1, true) + kEpsilon));
    const at::Tensor next = 1 / (experts * ((of_token * cost).sum(0, true) + kEpsilon));
    const double moved = (next - of_expert).abs().mean().item<double>();
    of_expert = next;
    if (!(moved > kTolerance)) break;
  }
  return of_expert * cost * of_token;
}

double routing_entropy(const at::Tensor& logits_TE, RouterScore score) {
  at::NoGradGuard no_grad;
  if (logits_TE.size(0) == 0 || logits_TE.size(1) < 2) return 0.0;
  const at::Tensor z = logits_TE.to(internal::accumulate_type(logits_TE));
  const at::Tensor p = shares(internal::router_scores(z, score), score);
  const double nats = -at::xlogy(p, p).sum(-1).mean().item<double>();
  return nats / std::log(static_cast<double>(logits_TE.size(1)));
}

at::Tensor limit_capacity(const at::Tensor& experts_TK, const at::Tensor& weights_TK,
                          int64_t num_experts, int64_t capacity, DropPolicy policy) {
  at::NoGradGuard no_grad;
  check_choices(kCapacity, experts_TK, num_experts);
  if (weights_TK.sizes() != experts_TK.sizes()) {
    throw_shape(kCapacity, "weights", weights_TK.sizes(), "the shape of experts");
  }
  if (capacity < 0) throw_shape(kCapacity, "capacity", capacity, "at least 0");
  at::Tensor kept = experts_TK.cpu().clone();
  // Sorting wants numbers: what is none counts as the largest.
  const at::Tensor weights = weights_TK.to(at::kCPU, at::kDouble)
                                 .nan_to_num(std::numeric_limits<double>::max())
                                 .contiguous();
  int64_t* chosen = kept.data_ptr<int64_t>();
  const double* weight = weights.const_data_ptr<double>();
  std::vector<std::vector<int64_t>> by_expert(num_experts);
  for (int64_t pair = 0; pair < kept.numel(); ++pair) {
    if (chosen[pair] >= 0) by_expert[chosen[pair]].push_back(pair);
  }
  for (std::vector<int64_t>& pairs : by_expert) {
    if (static_cast<int64_t>(pairs.size()) <= capacity) continue;
    if (policy == DropPolicy::kWeights) {
      std::stable_sort(pairs.begin(), pairs.end(),
                       [&](int64_t a, int64_t b) { return weight[a] > weight[b]; });
    }
    for (size_t i = static_cast<size_t>(capacity); i < pairs.size(); ++i) chosen[pairs[i]] = -1;
  }
  return kept.to(experts_TK.device());
}

int64_t expert_capacity(int64_t tokens, int64_t top_k, int64_t num_experts, double factor) {
  const double share = static_cast<double>(tokens * top_k) / static_cast<double>(num_experts);
  return static_cast<int64_t>(std::ceil(share * factor));
}

}  // namespace headway::ops
