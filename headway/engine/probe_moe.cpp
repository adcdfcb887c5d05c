// Megatron's TopKRouter and MoELayer: hidden [s,b,h] in; probabilities [tokens, experts] or hidden
// [s,b,h] out, with the auxiliary losses and their gradients.
// Legend: S sequence, B batch, D hidden, E experts, K chosen ones, T = S·B tokens.
#include <algorithm>
#include <functional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_input.h"
#include "headway/nn/moe.h"
#include "headway/nn/routing_record.h"

namespace headway::engine {
namespace {

constexpr const char* kMlp = "layers.0.mlp.";
constexpr const char* kRouter = "layers.0.mlp.router.";
constexpr const char* kMlpPrefix = "decoder.layers.0.mlp.";

/// The smallest model that holds this mixture: Parameters are allocated for models.
spec::ModelSpec around(const spec::MoeSpec& moe, int64_t hidden_size) {
  spec::AttentionSpec attention;
  attention.num_heads = attention.num_kv_heads = 1;
  attention.head_dim = attention.v_head_dim = 1;
  attention.scale = 1.0;
  spec::ModelSpec model = model_around(attention, hidden_size);
  model.layers.front().mlp = moe;
  return model;
}

spec::MoeSpec mixture_of(const spec::MegatronConfig& config) {
  const spec::ModelSpec model = spec::megatron_model(config, config.vocab_size ? 0 : 1);
  for (const spec::LayerSpec& layer : model.layers) {
    if (const spec::MoeSpec* moe = spec::moe_of(layer)) return *moe;
  }
  throw ConfigError("[probe] num_moe_experts: missing; allowed a config of a layer with experts");
}

/// Megatron counts tokens position by position. Losses of sequences want them column by column; a
/// full expert keeps the earliest, in Megatron's order.
class TokenOrder {
 public:
  TokenOrder(const at::Tensor& hidden_SBD, const spec::MoeSpec& moe)
      : length_(hidden_SBD.size(0)),
        batch_(hidden_SBD.size(1)),
        by_column_(std::ranges::any_of(moe.router.losses, [](const auto& loss) {
          return loss.kind == spec::BalanceKind::kSequence;
        })) {}

  at::Tensor pack(const at::Tensor& x_SB) const {
    return (by_column_ ? x_SB.transpose(0, 1) : x_SB).flatten(0, 1).contiguous();
  }
  at::Tensor unpack(const at::Tensor& x_T) const {
    if (!by_column_) return x_T.unflatten(0, {length_, batch_});
    return x_T.unflatten(0, {batch_, length_}).transpose(0, 1);
  }
  ops::Sequences sequences() const {
    return by_column_ ? ops::equal_sequences(batch_, length_)
                      : ops::equal_sequences(1, batch_ * length_);
  }

 private:
  int64_t length_;
  int64_t batch_;
  bool by_column_;
};

/// One module with its parameters and input as leaves.
struct Setup {
  Setup(const ProbeInput& input, const std::string& child)
      : config(spec::read_megatron(input.arguments(), "config")),
        moe(mixture_of(config)),
        model(around(moe, config.hidden_size)),
        parameters(model, input.dtype(), at::kCPU),
        scope(kMlp + child),
        prefix(kMlpPrefix + child),
        hidden(input.tensor("hidden_states").detach().clone().set_requires_grad(true)) {
    if (hidden.dim() != 3 || hidden.size(2) != config.hidden_size || hidden.numel() == 0) {
      throw ShapeError("[probe] hidden_states: allowed [sequence, batch, hidden_size (= " +
                       std::to_string(config.hidden_size) + ")]");
    }
    input.load(parameters, model, scope, prefix);
    if (!input.has("padding_mask")) return;
    const at::Tensor mask = input.tensor("padding_mask");
    if (mask.sizes() != hidden.sizes().slice(0, 2)) {
      throw ShapeError("[probe] padding_mask: allowed [sequence, batch], true for padding");
    }
    valid_SB = mask.to(at::kBool).logical_not();
  }

  void clear_gradients() {
    hidden.mutable_grad().reset();
    for (const at::Tensor& tensor : parameters.tensors()) tensor.mutable_grad().reset();
  }

  spec::MegatronConfig config;
  spec::MoeSpec moe;
  spec::ModelSpec model;
  nn::Parameters parameters;
  std::string scope;
  std::string prefix;
  at::Tensor hidden;
  at::Tensor valid_SB;
};

std::string loss_name(spec::BalanceKind kind) {
  switch (kind) {
    case spec::BalanceKind::kBatch:
      return "loss.aux_loss";
    case spec::BalanceKind::kSequence:
      return "loss.seq_aux_loss";
    case spec::BalanceKind::kGlobal:
      return "loss.global_aux_loss";
  }
  throw InternalError("[probe] kind of loss is not in the enum");
}

/// Value of every loss, each from a router that has no other.
void add_losses(ProbeOutput& out, Setup& setup, const TokenOrder& order, const at::Tensor& valid) {
  at::NoGradGuard no_grad;
  const at::Tensor x_TD = order.pack(setup.hidden);
  const ops::Sequences sequences = order.sequences();
  const auto value = [&](spec::MoeSpec moe) {
    const nn::Router router(moe, nn::ParameterScope(setup.parameters, kRouter));
    nn::RoutingRecord record;
    router.forward({x_TD, sequences, &record}, valid);
    return record.take_loss();
  };
  for (const auto& loss : setup.moe.router.losses) {
    spec::MoeSpec moe = setup.moe;
    moe.router.losses = {loss};
    moe.router.z_loss = 0;
    out[loss_name(loss.kind)] = value(moe);
  }
  if (setup.moe.router.z_loss == 0) return;
  spec::MoeSpec moe = setup.moe;
  moe.router.losses.clear();
  out["loss.z_loss"] = value(moe);
}

void add_expert_bias(ProbeOutput& out, const Setup& setup, const nn::RoutingRecord& record) {
  const std::string name = std::string(kMlp) + "router.expert_bias";
  if (!setup.parameters.contains(name)) return;
  const at::Tensor& load = record.layers().at(0).load_E;
  at::Tensor bias = setup.parameters.get(name).detach().clone();
  nn::update_expert_bias(bias, load, setup.moe.router.bias_update_rate);
  out["expert_bias_after_update"] = bias;
  out["local_tokens_per_expert"] = load.to(setup.hidden.scalar_type());
}

/// Probabilities [T,E] with zeros where a token does not go.
at::Tensor dense_weights(const nn::Router::Result& routing) {
  const at::Tensor kept = (routing.taken_TK >= 0).to(routing.weights_TK.scalar_type());
  return at::zeros_like(routing.logits_TE.detach())
      .scatter(1, routing.chosen_TK, routing.weights_TK * kept);
}

/// Which tokens each expert computes. Padding to capacity adds the first tokens that it lacks: they
/// carry no weight.
at::Tensor routing_map(const nn::Router::Result& routing, const spec::MegatronConfig& config) {
  const at::Tensor& logits = routing.logits_TE;
  const at::Tensor spare = at::where(routing.taken_TK < 0, logits.size(1), routing.taken_TK);
  at::Tensor map = at::zeros({logits.size(0), logits.size(1) + 1}, at::kBool)
                       .scatter(1, spare, true)
                       .narrow(1, 0, logits.size(1))
                       .contiguous();
  if (!config.moe_pad_expert_input_to_capacity) return map;
  const int64_t experts = logits.size(1);
  const int64_t capacity =
      std::min(logits.size(0), ops::expert_capacity(logits.size(0), routing.taken_TK.size(1),
                                                    experts, *config.moe_expert_capacity_factor));
  bool* cells = map.data_ptr<bool>();
  for (int64_t e = 0; e < experts; ++e) {
    int64_t held = 0;
    for (int64_t t = 0; t < logits.size(0); ++t) held += cells[t * experts + e] ? 1 : 0;
    for (int64_t t = 0; t < logits.size(0) && held < capacity; ++t) {
      bool& cell = cells[t * experts + e];
      held += cell ? 0 : 1;
      cell = true;
    }
  }
  return map;
}

void add_gradients(ProbeOutput& out, const ProbeInput& input, const Setup& setup,
                   const std::string& kind, const std::string& hidden) {
  ProbeOutput found;
  input.add_gradients(found, setup.parameters, setup.model, setup.scope, setup.prefix);
  for (const auto& [name, tensor] : found) {
    out[kind + name.substr(std::string("grad").size())] = tensor;
  }
  if (setup.hidden.grad().defined()) out[hidden] = setup.hidden.grad();
}

/// What a module gave for one forward pass.
struct Pass {
  at::Tensor result;
  at::Tensor loss;  // undefined without losses
};

/// Gradients of <result, cotangent> + losses.
void differentiate(ProbeOutput& out, const ProbeInput& input, Setup& setup,
                   const std::function<Pass()>& run) {
  if (!input.has("cotangent")) return;
  const Pass pass = run();
  const at::Tensor cotangent = input.cotangent(pass.result);
  const at::Tensor main = (pass.result * cotangent).sum();
  (pass.loss.defined() ? main + pass.loss : main).backward();
  add_gradients(out, input, setup, "grad", "grad_in");
}

/// Gradients of the losses alone.
void differentiate_losses(ProbeOutput& out, const ProbeInput& input, Setup& setup,
                          const std::function<Pass()>& run) {
  setup.clear_gradients();
  const Pass pass = run();
  if (!pass.loss.defined()) return;
  pass.loss.backward();
  add_gradients(out, input, setup, "grad_losses_only", "grad_losses_only.hidden_states");
  setup.clear_gradients();
}

}  // namespace

ProbeOutput probe_router(const ProbeInput& input) {
  Setup setup(input, "router.");
  const nn::Router router(setup.moe, nn::ParameterScope(setup.parameters, setup.scope));
  const TokenOrder order(setup.hidden, setup.moe);
  const ops::Sequences sequences = order.sequences();
  const at::Tensor valid = setup.valid_SB.defined() ? order.pack(setup.valid_SB) : at::Tensor();
  ProbeOutput out;
  const auto run = [&]() -> Pass {
    nn::RoutingRecord record;
    const at::Tensor x_TD = order.pack(setup.hidden);
    const auto routing = router.forward({x_TD, sequences, &record}, valid);
    const at::Tensor dense = order.unpack(dense_weights(routing)).flatten(0, 1);
    if (out.empty()) {
      out["out"] = dense.detach();
      out["routing_map"] = order.unpack(routing_map(routing, setup.config)).flatten(0, 1);
      out["aux.logits"] = order.unpack(routing.logits_TE.detach());
      add_expert_bias(out, setup, record);
    }
    return {dense, record.take_loss()};
  };
  run();
  add_losses(out, setup, order, valid);
  differentiate(out, input, setup, run);
  // Upstream attaches the z-loss to the logits that the balance losses read: differentiating the
  // sum of the losses meets it a second time on the way back through those.
  spec::MoeSpec attached = setup.moe;
  if (!attached.router.losses.empty()) attached.router.z_loss *= 2;
  const nn::Router losses_only(attached, nn::ParameterScope(setup.parameters, setup.scope));
  differentiate_losses(out, input, setup, [&]() -> Pass {
    nn::RoutingRecord record;
    losses_only.forward({order.pack(setup.hidden), sequences, &record}, valid);
    return {at::Tensor(), record.take_loss()};
  });
  return out;
}

ProbeOutput probe_moe_layer(const ProbeInput& input) {
  Setup setup(input, "");
  input.refuse({"padding_mask"}, "padding of a whole MoE layer is not in this build");
  const nn::Moe moe(setup.moe, nn::ParameterScope(setup.parameters, setup.scope));
  const TokenOrder order(setup.hidden, setup.moe);
  const ops::Sequences sequences = order.sequences();
  ProbeOutput out;
  const auto run = [&]() -> Pass {
    nn::RoutingRecord record;
    const at::Tensor x_TD = order.pack(setup.hidden);
    const at::Tensor result = order.unpack(moe.forward({x_TD, sequences, &record}));
    if (out.empty()) {
      out["out"] = result.detach();
      add_expert_bias(out, setup, record);
    }
    return {result, record.take_loss()};
  };
  run();
  add_losses(out, setup, order, {});
  differentiate(out, input, setup, run);
  return out;
}

}  // namespace headway::engine
