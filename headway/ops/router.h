// Routing of tokens to experts: which experts a token chooses, with which weights, what unbalanced
// choices cost, and which choices a full expert drops.
// Not for: the experts themselves (ops/experts.h).
// Legend: T tokens, E experts, K experts a token chooses, N documents.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// How logits z become scores: softmax over all experts, σ(z), or sqrt(ln(1 + e^z)) with
/// ln(1 + e^z) = z above 20.
enum class RouterScore { kSoftmax, kSigmoid, kSqrtSoftplus };

struct RouterOptions {
  int64_t top_k = 1;
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = true;  // divide the chosen scores by their sum
  double scale = 1.0;     // multiplies the weights
  int64_t num_groups = 1;
  int64_t kept_groups = 1;    // groups a token may choose from
  int64_t best_of_group = 1;  // a group counts as the sum of so many of its best keys
};

struct Routing {
  at::Tensor weights_TK;  // float32 (float64 for float64 logits)
  at::Tensor experts_TK;  // int64, by falling key
};

/// The K experts with the largest key, and their weights:
///   key     = z for softmax with `normalize`, else the score; plus bias
///   weights = scale · score / (Σ_chosen score + 1e-20), or scale · score without `normalize`;
///             for softmax with `normalize` the softmax over the chosen logits, the same number
/// With groups only experts of the `kept_groups` best groups can be chosen. Equal keys: the lower
/// expert. A NaN key counts as the largest, so that it shows.
/// Given `keys` decide the choice alone (no bias, no groups).
/// Shapes: logits, keys [T,E], bias [E] or undefined (not for softmax) -> weights, experts [T,K].
/// Dtype:  arithmetic and weights in fp32 (fp64 for fp64); bias of that type. Grad: logits, by the
///         weights alone: neither the choice nor the bias gets one. Saves logits and experts.
/// Errors: ShapeError (shapes, K > E, K > experts of the kept groups, E not a multiple of groups);
///         UnsupportedError if a forced kernel ("route") cannot run.
/// Source: Megatron-Core moe_utils topk_routing_with_score_function; DeepSeek-V3 (groups, bias).
/// Test:   tests/kernels/router_test.cpp
Routing route(const at::Tensor& logits_TE, const at::Tensor& bias_E, const RouterOptions& options,
              const at::Tensor& keys_TE = {});

/// Keys of an assignment in which every expert gets an equal share: e^z scaled by a number for each
/// token and one for each expert so that tokens add up to 1/T and experts to 1/E, by turns until
/// the experts' numbers move less than 1e-4 on average.
/// Shapes: logits [T,E] -> [T,E]. Dtype: fp32 (fp64 for fp64). No gradient.
/// Source: Megatron-Core moe_utils sinkhorn. Test: tests/kernels/router_balance_test.cpp
at::Tensor sinkhorn_keys(const at::Tensor& logits_TE);

/// Tokens that choose each expert, per document: [N,E] float64 on the CPU. Choices below 0 and
/// tokens whose `valid` is false do not count. boundaries: first token of each document and T.
at::Tensor count_choices(const at::Tensor& experts_TK, int64_t num_experts,
                         const std::vector<int64_t>& boundaries, const at::Tensor& valid_T = {});

enum class BalanceKind { kBatch, kSequence, kGlobal };

struct BalanceLoss {
  BalanceKind kind = BalanceKind::kBatch;
  double coefficient = 0.0;
};

struct BalanceOptions {
  RouterScore score = RouterScore::kSoftmax;
  int64_t top_k = 1;
  std::vector<BalanceLoss> losses;
  double z_loss = 0.0;  // coefficient; 0: none
};

struct BalanceInput {
  at::Tensor logits_TE;
  at::Tensor counts_NE;      // of count_choices, for the map that the losses look at
  at::Tensor mean_counts_E;  // kGlobal: counts a micro-batch, averaged over those of the step so
                             // far; undefined = those of counts_NE
  std::vector<int64_t> boundaries;
  at::Tensor valid_T;  // bool or undefined; others enter no loss
};

/// Auxiliary losses of one router, a [losses (+ 1 with z_loss)] tensor in the order of the options:
///   batch    c·E/(K·T²)·Σ_e P_e·n_e      P_e = Σ_t p_te, n_e tokens that chose e
///   sequence the mean over documents of the same with their own T, P and n
///   global   like batch with n averaged over the micro-batches of a step
///   z        c · mean_t logsumexp(z_t)²
/// with p the softmax over all experts, or score / (Σ score + 1e-20). With `valid` T is the number
/// of valid tokens, and floor(that / N) for every document.
/// Dtype:  fp32 (fp64 for fp64). Grad: logits, n being constants. Deterministic.
/// Errors: ShapeError. Source: Megatron-Core moe_utils switch_load_balancing_loss_func,
/// z_loss_func. Test:   tests/kernels/router_balance_test.cpp
at::Tensor balance_losses(const BalanceInput& input, const BalanceOptions& options);

/// Mean over tokens of the entropy of p (as above) in units of ln E: 1 = undecided, 0 = certain.
double routing_entropy(const at::Tensor& logits_TE, RouterScore score);

enum class DropPolicy { kWeights, kPosition };

/// The choices with those that do not fit set to -1: every expert keeps `capacity` tokens, the ones
/// with the largest weights (ties: the earlier token), or the earliest.
/// Shapes: experts, weights [T,K] -> [T,K] int64. No gradient.
at::Tensor limit_capacity(const at::Tensor& experts_TK, const at::Tensor& weights_TK,
                          int64_t num_experts, int64_t capacity, DropPolicy policy);

/// ⌈T·K/E·factor⌉.
int64_t expert_capacity(int64_t tokens, int64_t top_k, int64_t num_experts, double factor);

}  // namespace headway::ops
