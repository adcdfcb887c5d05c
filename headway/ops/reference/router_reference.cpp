// Routing as its formulas read. Not for: argument checks (router.cpp).
#include "headway/ops/reference/router_reference.h"

#include <limits>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/base/error.h"
#include "headway/ops/internal/arguments.h"

namespace headway::ops {
namespace internal {

at::Tensor router_scores(const at::Tensor& logits, RouterScore score) {
  switch (score) {
    case RouterScore::kSoftmax:
      return at::softmax(logits, -1);
    case RouterScore::kSigmoid:
      return at::sigmoid(logits);
    case RouterScore::kSqrtSoftplus:
      return at::softplus(logits, 1.0, kSoftplusLimit).sqrt();
  }
  throw InternalError("[route] score is not in the enum");
}

at::Tensor router_scores_backward(const at::Tensor& logits, const at::Tensor& scores,
                                  RouterScore score, const at::Tensor& d_scores) {
  switch (score) {
    case RouterScore::kSoftmax:
      return scores * (d_scores - (d_scores * scores).sum(-1, true));
    case RouterScore::kSigmoid:
      return d_scores * scores * (1 - scores);
    case RouterScore::kSqrtSoftplus: {
      // Where the score is x itself, its slope is that of sqrt(x).
      const at::Tensor slope = logits.sigmoid().masked_fill(logits > kSoftplusLimit, 1.0);
      return d_scores * slope / (2 * scores);
    }
  }
  throw InternalError("[route] score is not in the enum");
}

}  // namespace internal

namespace reference {
namespace {

using internal::RouterArguments;

/// Keys with those of the groups that a token drops at -infinity.
at::Tensor masked_by_group(const at::Tensor& keys_TE, const RouterOptions& options) {
  const int64_t groups = options.num_groups;
  if (options.kept_groups == groups) return keys_TE;
  const at::Tensor keys_TGM = keys_TE.view({keys_TE.size(0), groups, -1});
  const at::Tensor best = std::get<0>(keys_TGM.sort(-1, /*descending=*/true));
  const at::Tensor group_keys = best.narrow(2, 0, options.best_of_group).sum(-1);
  const at::Tensor order = at::argsort(group_keys, /*stable=*/true, -1, /*descending=*/true);
  const at::Tensor dropped = order.narrow(1, options.kept_groups, groups - options.kept_groups);
  const at::Tensor mask = at::zeros(group_keys.sizes(), group_keys.options().dtype(at::kBool))
                              .scatter(1, dropped, true);
  return keys_TGM.masked_fill(mask.unsqueeze(-1), -std::numeric_limits<double>::infinity())
      .view(keys_TE.sizes());
}

bool is_softmax_of_chosen(const RouterOptions& options) {
  return options.score == RouterScore::kSoftmax && options.normalize;
}

}  // namespace

Routing route_forward(const RouterArguments& arguments) {
  const RouterOptions& options = arguments.options;
  const at::Tensor z = arguments.logits.to(internal::accumulate_type(arguments.logits));
  const at::Tensor scores = internal::router_scores(z, options.score);
  at::Tensor keys = is_softmax_of_chosen(options) ? z : scores;
  if (arguments.bias.defined()) keys = keys + arguments.bias;
  keys = arguments.keys.defined() ? arguments.keys : masked_by_group(keys, options);
  Routing routing;
  routing.experts_TK = at::argsort(keys, /*stable=*/true, -1, /*descending=*/true)
                           .narrow(1, 0, options.top_k)
                           .contiguous();
  if (is_softmax_of_chosen(options)) {
    routing.weights_TK = at::softmax(z.gather(1, routing.experts_TK), -1) * options.scale;
    return routing;
  }
  at::Tensor chosen = scores.gather(1, routing.experts_TK);
  if (options.normalize) chosen = chosen / (chosen.sum(-1, true) + internal::kScoreEpsilon);
  routing.weights_TK = chosen * options.scale;
  return routing;
}

at::Tensor route_backward(const RouterArguments& arguments, const at::Tensor& experts,
                          const at::Tensor& d_weights) {
  const RouterOptions& options = arguments.options;
  const at::Tensor z = arguments.logits.to(internal::accumulate_type(arguments.logits));
  const at::Tensor g = d_weights * options.scale;
  const at::ScalarType type = arguments.logits.scalar_type();
  const at::Tensor zeros = at::zeros_like(z);
  if (is_softmax_of_chosen(options)) {
    const at::Tensor p = at::softmax(z.gather(1, experts), -1);
    return zeros.scatter(1, experts, p * (g - (p * g).sum(-1, true))).to(type);
  }
  const at::Tensor scores = internal::router_scores(z, options.score);
  at::Tensor d_chosen = g;
  if (options.normalize) {
    const at::Tensor chosen = scores.gather(1, experts);
    const at::Tensor sum = chosen.sum(-1, true) + internal::kScoreEpsilon;
    d_chosen = (g - (g * chosen).sum(-1, true) / sum) / sum;
  }
  const at::Tensor d_scores = zeros.scatter(1, experts, d_chosen);
  return internal::router_scores_backward(z, scores, options.score, d_scores).to(type);
}

}  // namespace reference
}  // namespace headway::ops
