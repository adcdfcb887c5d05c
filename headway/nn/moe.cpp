// Router and experts from their spec. Not for: arithmetic (ops).
#include "headway/nn/moe.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/gate.h"
#include "headway/ops/linear.h"

namespace headway::nn {
namespace {

ops::RouterScore score_of(spec::RouterScore score) {
  switch (score) {
    case spec::RouterScore::kSoftmax:
      return ops::RouterScore::kSoftmax;
    case spec::RouterScore::kSigmoid:
      return ops::RouterScore::kSigmoid;
    case spec::RouterScore::kSqrtSoftplus:
      return ops::RouterScore::kSqrtSoftplus;
  }
  throw InternalError("[nn::Router] score is not in the enum");
}

ops::BalanceKind kind_of(spec::BalanceKind kind) {
  switch (kind) {
    case spec::BalanceKind::kBatch:
      return ops::BalanceKind::kBatch;
    case spec::BalanceKind::kSequence:
      return ops::BalanceKind::kSequence;
    case spec::BalanceKind::kGlobal:
      return ops::BalanceKind::kGlobal;
  }
  throw InternalError("[nn::Router] kind of loss is not in the enum");
}

ops::RouterOptions router_options(const spec::MoeSpec& spec) {
  ops::RouterOptions options;
  options.top_k = spec.top_k;
  options.score = score_of(spec.router.score);
  options.normalize = spec.router.normalize;
  options.scale = spec.router.scale;
  options.num_groups = spec.router.num_groups;
  options.kept_groups = spec.router.kept_groups;
  if (spec.router.num_groups > 1) options.best_of_group = spec.best_of_group();
  return options;
}

ops::BalanceOptions balance_options(const spec::MoeSpec& spec) {
  ops::BalanceOptions options;
  options.score = score_of(spec.router.score);
  options.top_k = spec.top_k;
  for (const auto& loss : spec.router.losses) {
    options.losses.push_back({kind_of(loss.kind), loss.coefficient});
  }
  options.z_loss = spec.router.z_loss;
  return options;
}

ops::ExpertOptions expert_options(const spec::MoeSpec& spec) {
  return {spec.num_experts, activation_kind(spec.activation),
          spec.gated,       spec.limit.value_or(0.0),
          spec.limit_input, spec.linear_offset};
}

std::optional<Linear> linear_if(bool present, const ParameterScope& scope) {
  return present ? std::optional<Linear>(Linear(scope)) : std::nullopt;
}

std::optional<DenseMlp> shared_of(const spec::MoeSpec& spec, const ParameterScope& scope) {
  const auto mlp = spec::shared_mlp(spec);
  return mlp ? std::optional<DenseMlp>(DenseMlp(*mlp, scope)) : std::nullopt;
}

/// Choices by the logits alone, as the losses look at them.
at::Tensor plain_choices(const at::Tensor& logits_TE, int64_t top_k) {
  return std::get<1>(at::topk(logits_TE.detach(), top_k, -1));
}

void accumulate(at::Tensor& sum, const at::Tensor& more) {
  sum = sum.defined() ? sum + more : more;
}

}  // namespace

Router::Router(const spec::MoeSpec& spec, const ParameterScope& scope)
    : spec_(spec),
      options_(router_options(spec)),
      balance_(balance_options(spec)),
      input_norm_(make_norm(spec.router.input_norm, scope, "input_norm")),
      input_weight_(scope.take_optional("input_weight")),
      expert_scale_(scope.take_optional("expert_scale")),
      weight_(scope.take("weight")),
      bias_(scope.take_optional("bias")),
      expert_bias_(scope.take_optional("expert_bias")) {}

at::Tensor Router::logits(const at::Tensor& x_TD) const {
  const at::ScalarType wide = x_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor u = apply_norm(input_norm_, x_TD).to(wide);
  if (input_weight_.defined()) u = u * input_weight_.to(wide);
  if (spec_.router.input_scale != 1.0) u = u * spec_.router.input_scale;
  return ops::linear(u, weight_.to(wide), bias_.defined() ? bias_.to(wide) : bias_);
}

Router::Result Router::forward(const MlpInput& input, const at::Tensor& valid_T) const {
  const at::Tensor& x = input.x_TD;
  Result result;
  result.logits_TE = logits(x);
  // A record is what makes a pass one of training.
  const bool assigns = spec_.router.sinkhorn && input.routing != nullptr;
  const at::Tensor keys = assigns ? ops::sinkhorn_keys(result.logits_TE) : at::Tensor();
  const ops::Routing routing = ops::route(result.logits_TE, expert_bias_, options_, keys);
  result.weights_TK = routing.weights_TK;
  result.chosen_TK = result.taken_TK = routing.experts_TK;
  if (expert_scale_.defined()) {
    const at::Tensor scales = expert_scale_.to(result.weights_TK.scalar_type())
                                  .index_select(0, result.chosen_TK.flatten())
                                  .view_as(result.weights_TK);
    result.weights_TK = result.weights_TK * scales;
  }
  if (spec_.capacity) {
    const int64_t capacity =
        ops::expert_capacity(x.size(0), spec_.top_k, spec_.num_experts, spec_.capacity->factor);
    const auto policy = spec_.capacity->drop == spec::DropPolicy::kWeights
                            ? ops::DropPolicy::kWeights
                            : ops::DropPolicy::kPosition;
    result.taken_TK = ops::limit_capacity(result.chosen_TK, result.weights_TK, spec_.num_experts,
                                          capacity, policy);
  }
  if (input.routing != nullptr) record(result, input, valid_T);
  return result;
}

void Router::record(const Result& result, const MlpInput& input, const at::Tensor& valid_T) const {
  LayerRouting& layer = input.routing->current();
  const std::vector<int64_t>& boundaries = input.sequences.cu_q;
  const int64_t tokens = input.x_TD.size(0);
  const auto counts = [&](const at::Tensor& experts) {
    return ops::count_choices(experts, spec_.num_experts, boundaries, valid_T);
  };
  accumulate(layer.load_E, counts(result.taken_TK).sum(0));
  ++layer.micro_batches;
  layer.tokens += tokens;
  layer.choices += result.taken_TK.numel();
  if (spec_.capacity) layer.dropped += (result.taken_TK < 0).sum().item<int64_t>();
  layer.entropy +=
      static_cast<double>(tokens) * ops::routing_entropy(result.logits_TE.detach(), options_.score);
  if (balance_.losses.empty() && balance_.z_loss == 0) return;
  const bool same = options_.kept_groups == options_.num_groups && !expert_bias_.defined();
  const at::Tensor counted = spec_.router.balance_choices || same
                                 ? result.chosen_TK
                                 : plain_choices(result.logits_TE, spec_.top_k);
  const at::Tensor counts_NE = counts(counted);
  accumulate(layer.balance_E, counts_NE.sum(0));
  const at::Tensor mean = layer.balance_E / static_cast<double>(layer.micro_batches);
  input.routing->add_loss(
      ops::balance_losses({result.logits_TE, counts_NE, mean, boundaries, valid_T}, balance_)
          .sum());
}

Moe::Moe(const spec::MoeSpec& spec, const ParameterScope& scope)
    : spec_(spec),
      router_(spec, scope.child("router")),
      experts_{scope.child("experts").take("up.weight"),
               scope.child("experts").take_optional("up.bias"),
               scope.child("experts").take("down.weight"),
               scope.child("experts").take_optional("down.bias")},
      options_(expert_options(spec)),
      latent_down_(linear_if(spec.latent_size.has_value(), scope.child("latent_down"))),
      latent_up_(linear_if(spec.latent_size.has_value(), scope.child("latent_up"))),
      shared_(shared_of(spec, scope.child("shared"))),
      shared_gate_(
          linear_if(spec.shared && spec.shared->gate, scope.child("shared").child("gate"))) {}

at::Tensor Moe::routed(const at::Tensor& x_TD, const Router::Result& routing) const {
  at::Tensor x = latent_down_ ? latent_down_->forward(x_TD) : x_TD;
  at::Tensor weights = routing.weights_TK;
  if (spec_.weight_input) {
    x = (x.to(weights.scalar_type()) * weights).to(x.scalar_type());
    weights = at::ones_like(weights.detach());
  }
  const at::Tensor y = ops::experts(x, weights, routing.taken_TK, experts_, options_);
  return latent_up_ ? latent_up_->forward(y) : y;
}

at::Tensor Moe::shared(const at::Tensor& x_TD) const {
  const at::Tensor y = shared_->forward(x_TD);
  if (!shared_gate_) return y;
  return ops::sigmoid_gate(y.unsqueeze(1), shared_gate_->forward(x_TD)).squeeze(1);
}

at::Tensor Moe::forward(const MlpInput& input, const at::Tensor& router_x_TD) const {
  const MlpInput to_router{router_x_TD, input.sequences, input.routing};
  const at::Tensor y = routed(input.x_TD, router_.forward(to_router));
  return shared_ ? y + shared(input.x_TD) : y;
}

void update_expert_bias(at::Tensor expert_bias_E, const at::Tensor& load_E, double rate) {
  at::NoGradGuard no_grad;
  const at::Tensor load = load_E.to(at::kDouble);
  const at::Tensor step = at::sign(load.mean() - load) * rate;
  expert_bias_E.detach().add_(step.to(expert_bias_E.device(), expert_bias_E.scalar_type()));
}

}  // namespace headway::nn
