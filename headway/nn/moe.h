// Mixture of experts: router, routed experts, shared experts.
// Not for: the choice (ops/router.h) and the products (ops/experts.h).
// Legend: T tokens, D hidden, E experts, K experts a token chooses.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/mlp.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/ops/experts.h"
#include "headway/ops/router.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// Which experts every token takes, and with which weights.
class Router {
 public:
  /// Takes weight, bias and expert_bias of the scope as far as the spec has them.
  Router(const spec::MoeSpec& spec, const ParameterScope& scope);

  struct Result {
    at::Tensor logits_TE;   // fp32 (fp64 for fp64)
    at::Tensor weights_TK;  // of that type
    at::Tensor chosen_TK;   // int64, what the tokens chose
    at::Tensor taken_TK;    // the same with -1 where a full expert dropped the token
  };
  /// x [T,D], what the router reads. With a record: adds losses and loads of the sequences. valid
  /// [T] or undefined: tokens that count in losses and loads.
  Result forward(const MlpInput& input, const at::Tensor& valid_T = {}) const;

 private:
  at::Tensor logits(const at::Tensor& x_TD) const;
  void record(const Result& result, const MlpInput& input, const at::Tensor& valid_T) const;

  spec::MoeSpec spec_;
  ops::RouterOptions options_;
  ops::BalanceOptions balance_;
  std::optional<Norm> input_norm_;
  at::Tensor input_weight_;
  at::Tensor expert_scale_;
  at::Tensor weight_;
  at::Tensor bias_;
  at::Tensor expert_bias_;
};

/// y = Σ_j w_j·expert_j(x) + shared(x)·σ(g x); absent parts are left out. With a latent size the
/// routed part is up(Σ_j w_j·expert_j(down x)).
class Moe {
 public:
  /// Takes router.*, experts.*, shared.* and latent_* of the scope.
  Moe(const spec::MoeSpec& spec, const ParameterScope& scope);

  /// x [T,D] -> [T,D].
  at::Tensor forward(const MlpInput& input) const { return forward(input, input.x_TD); }
  /// The same with a router that reads something else than the experts.
  at::Tensor forward(const MlpInput& input, const at::Tensor& router_x_TD) const;

  const Router& router() const { return router_; }

 private:
  at::Tensor routed(const at::Tensor& x_TD, const Router::Result& routing) const;
  at::Tensor shared(const at::Tensor& x_TD) const;

  spec::MoeSpec spec_;
  Router router_;
  ops::ExpertWeights experts_;
  ops::ExpertOptions options_;
  std::optional<Linear> latent_down_;
  std::optional<Linear> latent_up_;
  std::optional<DenseMlp> shared_;
  std::optional<Linear> shared_gate_;
};

/// bias <- bias + rate·sign(mean load - load): towards experts that got too few tokens. Changes
/// `expert_bias` [E] in place. Source: Wang et al. 2024 (loss-free balancing); Megatron-Core
/// get_updated_expert_bias. Test: tests/unit/nn/moe_test.cpp
void update_expert_bias(at::Tensor expert_bias_E, const at::Tensor& load_E, double rate);

}  // namespace headway::nn
