// A mixture of experts as a config and a ModelSpec hold it alike, as nothing in it is derived:
// router, capacity, routed and shared experts, losses of training.
// Not for: the dense MLP (model_parts.h).
// Legend: D hidden, E experts, F inner width of an expert.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"
#include "headway/config/model_parts.h"

namespace headway::config {

inline constexpr int64_t kMaxExperts = 65536;

/// How router logits become scores.
enum class RouterScore { kSoftmax, kSigmoid, kSqrtSoftplus };
/// What an auxiliary loss balances: every micro-batch, every document, or the whole step.
enum class BalanceKind { kBatch, kSequence, kGlobal };
/// What a full expert keeps: the largest weights, or the earliest tokens.
enum class DropPolicy { kWeights, kPosition };

/// c·E/(K·T²)·Σ_e P_e·n_e over the tokens that `kind` names.
struct BalanceConfig {
  BalanceKind kind = BalanceKind::kBatch;
  double coefficient = 0.0;
  bool operator==(const BalanceConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("kind", &BalanceConfig::kind, "what is balanced: a micro-batch, a document, a step",
            Rule().required());
    v.field("coefficient", &BalanceConfig::coefficient, "weight of the loss", above(0).required());
  }
};

/// logits = W u (+ b) in float32 with u = input_scale · input_weight ∘ input_norm(x), absent parts
/// left out; the choice is by score + expert bias, the weights by score alone, times expert_scale.
struct RouterConfig {
  static constexpr std::string_view kShorthand = "score";
  std::optional<NormConfig> input_norm;
  double input_scale = 1.0;
  bool input_weight = false;
  bool expert_scale = false;
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = true;
  double scale = 1.0;
  int64_t num_groups = 1;
  int64_t kept_groups = 1;
  std::optional<int64_t> best_of_group;  // none = max(top_k / kept_groups, 1)
  bool bias = false;
  bool sinkhorn = false;
  bool expert_bias = false;
  double bias_update_rate = 1e-3;
  std::vector<BalanceConfig> losses;
  bool balance_choices = false;
  double z_loss = 0.0;
  bool operator==(const RouterConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using R = RouterConfig;
    v.field("input_norm", &R::input_norm, "norm of the router's own input; none = as it comes");
    v.field("input_scale", &R::input_scale, "multiplies the router's input", above(0));
    v.field("input_weight", &R::input_weight,
            "a learned weight for every channel of the router's input");
    v.field("expert_scale", &R::expert_scale,
            "a learned factor for every expert, on its weight after normalisation");
    v.field("score", &R::score, "how logits become scores");
    v.field("normalize", &R::normalize, "divide the weights of the chosen experts by their sum");
    v.field("scale", &R::scale, "multiplies the weights", above(0));
    v.field("num_groups", &R::num_groups, "groups of experts; must divide num_experts",
            between(1, kMaxExperts));
    v.field("kept_groups", &R::kept_groups, "best groups, from which a token chooses",
            between(1, kMaxExperts));
    v.field("best_of_group", &R::best_of_group,
            "a group counts as the sum of so many of its best scores; none = top_k / kept_groups",
            between(1, kMaxExperts));
    v.field("bias", &R::bias, "bias of the router's projection");
    v.field("sinkhorn", &R::sinkhorn,
            "in training, choose by Sinkhorn's assignment of equal shares to the experts");
    v.field("expert_bias", &R::expert_bias,
            "added to the scores for the choice only, and moved towards balance by every step");
    v.field("bias_update_rate", &R::bias_update_rate,
            "step of the expert bias: rate x sign(mean load - load); 0 = frozen", at_least(0));
    v.field("losses", &R::losses,
            "auxiliary losses of training, each {kind: batch | sequence | global, coefficient}");
    v.field("balance_choices", &R::balance_choices,
            "losses count the real choices, not those without bias and groups");
    v.field("z_loss", &R::z_loss, "weight of mean(logsumexp(logits)^2) in training", at_least(0));
  }
};

struct CapacityConfig {
  static constexpr std::string_view kShorthand = "factor";
  double factor = 0.0;
  DropPolicy drop = DropPolicy::kWeights;
  bool operator==(const CapacityConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("factor", &CapacityConfig::factor,
            "an expert takes ceil(tokens x top_k / num_experts x factor) tokens",
            above(0).required());
    v.field("drop", &CapacityConfig::drop, "what a full expert keeps");
  }
};

/// A dense MLP beside the routed experts, with their activation.
struct SharedExpertConfig {
  static constexpr std::string_view kShorthand = "intermediate_size";
  int64_t intermediate_size = 0;
  bool gate = false;
  std::optional<double> limit;
  bool operator==(const SharedExpertConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using S = SharedExpertConfig;
    v.field("intermediate_size", &S::intermediate_size, "inner width of all shared experts",
            between(1, kMaxWidth).required());
    v.field("gate", &S::gate, "multiply its output by sigmoid(w x), one number a token");
    v.field("limit", &S::limit, "clamps both branches after the activation (gated only)", above(0));
  }
};

/// y = Σ_chosen weight · expert(x) + shared(x), each expert an MLP of `intermediate_size`.
struct MoeConfig {
  int64_t num_experts = 0;        // E
  int64_t top_k = 0;              // experts a token chooses
  int64_t intermediate_size = 0;  // F
  Activation activation = Activation::kSilu;
  bool gated = true;
  bool bias = false;
  std::optional<double> limit;
  bool limit_input = false;
  double linear_offset = 0.0;
  RouterConfig router;
  std::optional<CapacityConfig> capacity;
  std::optional<SharedExpertConfig> shared;
  std::optional<int64_t> latent_size;
  bool weight_input = false;
  bool operator==(const MoeConfig&) const = default;

  /// Keys of a group that its score adds up.
  int64_t best_of_group() const {
    const int64_t share = top_k / router.kept_groups;
    return router.best_of_group.value_or(share > 1 ? share : 1);
  }

  template <class V>
  static void fields(V& v) {
    using M = MoeConfig;
    v.field("num_experts", &M::num_experts, "routed experts", between(1, kMaxExperts).required());
    v.field("top_k", &M::top_k, "experts a token chooses", between(1, kMaxExperts).required());
    v.field("intermediate_size", &M::intermediate_size, "inner width of an expert",
            between(1, kMaxWidth).required());
    v.field("activation", &M::activation, "of the gate, or of the only branch");
    v.field("gated", &M::gated, "down(act(gate x) * up x) instead of down(act(up x))");
    v.field("bias", &M::bias, "biases of the routed experts");
    v.field("limit", &M::limit, "clamps both branches after the activation (gated only)", above(0));
    v.field("limit_input", &M::limit_input,
            "the limit clamps before the activation instead (routed experts)");
    v.field("linear_offset", &M::linear_offset,
            "added to the branch without activation after the clamp (gated only, routed experts)");
    v.field("router", &M::router, "how tokens choose");
    v.field("capacity", &M::capacity, "most tokens of an expert; none = all that choose it");
    v.field("shared", &M::shared, "experts that see every token");
    v.field("latent_size", &M::latent_size,
            "width between a projection before and one after the routed experts; none = hidden",
            between(1, kMaxWidth));
    v.field("weight_input", &M::weight_input,
            "the router weight multiplies an expert's input, not its activation (top_k 1 only)");
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::RouterScore> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RouterScore>>(
      {{config::RouterScore::kSoftmax, "softmax"},
       {config::RouterScore::kSigmoid, "sigmoid"},
       {config::RouterScore::kSqrtSoftplus, "sqrtsoftplus"}});
};
template <>
struct EnumTable<config::BalanceKind> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::BalanceKind>>({{config::BalanceKind::kBatch, "batch"},
                                                     {config::BalanceKind::kSequence, "sequence"},
                                                     {config::BalanceKind::kGlobal, "global"}});
};
template <>
struct EnumTable<config::DropPolicy> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::DropPolicy>>(
      {{config::DropPolicy::kWeights, "weights"}, {config::DropPolicy::kPosition, "position"}});
};

}  // namespace headway
