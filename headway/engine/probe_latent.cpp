// Megatron's MLASelfAttention, dense and with a sparse core: hidden [s,b,h] in and out.
// Legend: S sequence, B batch, D hidden, T = B·S packed tokens, J chosen keys.
#include "headway/engine/probe_latent.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/engine/probe_attention.h"

namespace headway::engine {
namespace {

constexpr const char* kScope = "layers.0.mixer.";
constexpr const char* kPrefix = "decoder.layers.0.self_attention.";
constexpr const char* kOutputBias = "param.linear_proj.bias";

std::shared_ptr<nn::RotaryTable> rotary_of(const ProbeInput& input,
                                           const spec::LatentAttentionSpec& mixer) {
  if (!mixer.rope) return nullptr;
  if (input.has("rotary_pos_emb")) {
    const at::Tensor angles = angles_of(input.tensor("rotary_pos_emb"), /*interleaved=*/false);
    return std::make_shared<nn::RotaryTable>(nn::RotaryTable::from_angles(
        angles, mixer.rope->attention_factor.value_or(1.0), mixer.rope->layout));
  }
  return std::make_shared<nn::RotaryTable>(
      *mixer.rope, mixer.rope_head_dim, spec::RopePrecision::kModelDtype, input.dtype(), at::kCPU);
}

/// [T,J] rows of the packed tokens -> [B,S,J] rows of each sample.
at::Tensor choices_of_samples(const at::Tensor& chosen_TJ, const ProbeBatch& batch) {
  const at::Tensor chosen = chosen_TJ.unflatten(0, {batch.count, batch.length});
  const at::Tensor first = (at::arange(batch.count, at::kLong) * batch.length).view({-1, 1, 1});
  return at::where(chosen < 0, chosen, chosen - first);
}

/// A choice of all keys as upstream writes it: 0 … t of each query's own sequence, then -1.
at::Tensor every_key(const ops::Sequences& sequences) {
  const int64_t tokens = sequences.num_tokens();
  const at::Tensor rows = at::arange(tokens, at::kLong), places = at::arange(sequences.max_k);
  const at::Tensor first = (rows - sequences.positions).unsqueeze(1);
  const at::Tensor chosen = first + places;
  return chosen.masked_fill(chosen > rows.unsqueeze(1), -1);
}

void check_kind(const ProbeInput& input, bool sparse) {
  const Json arguments = input.arguments();
  const Json variant = arguments.value("experimental_attention_variant", Json());
  if (!is_latent(input)) {
    throw ConfigError("[probe] multi_latent_attention = false: allowed true for modules mla | dsa");
  }
  if (sparse == (variant == Json("dsa"))) return;
  throw ConfigError(fmt::format("[probe] experimental_attention_variant = {}: allowed {}",
                                variant.dump(), sparse ? "dsa for module dsa" : "none for mla"));
}

}  // namespace

bool is_latent(const ProbeInput& input) {
  return input.arguments().value("multi_latent_attention", Json(false)) == Json(true);
}

ProbedLatent make_latent(const ProbeInput& input) {
  ProbedLatent made;
  made.config = spec::read_megatron(input.arguments(), "config");
  check_layer_number(input, made.config);
  require_causal(input);
  made.mixer = spec::megatron_latent(made.config, input.layer_number());
  if (made.mixer.shared_choice) {
    throw UnsupportedError(fmt::format(
        "[probe] layer_number = {}: this layer shares the choice of an earlier one; allowed a "
        "layer with an indexer",
        input.layer_number()));
  }
  made.mixer.output_bias = false;  // returned apart
  made.model = model_around(made.mixer, made.config.hidden_size);
  made.parameters = std::make_unique<nn::Parameters>(made.model, input.dtype(), at::kCPU);
  std::set<std::string> apart;
  if (made.config.add_bias_linear) apart.insert(kOutputBias);
  input.load(*made.parameters, made.model, kScope, kPrefix, apart);
  made.module = std::make_unique<nn::LatentAttention>(
      made.mixer, nn::ParameterScope(*made.parameters, kScope), rotary_of(input, made.mixer));
  return made;
}

ProbeOutput run_latent(const ProbeInput& input, const ProbedLatent& probed) {
  const at::Tensor hidden =
      hidden_states(input, probed.config).detach().clone().set_requires_grad(true);
  const ProbeBatch batch{hidden.size(1), hidden.size(0)};
  const ops::Sequences sequences = probe_sequences(input, batch);
  nn::ForwardContext context = probe_context(input, batch);
  nn::RoutingRecord record;
  nn::KeyChoice choice;
  context.routing = &record;
  context.choice = &choice;
  context.sum_index_loss = probed.config.calculate_per_token_loss;
  const at::Tensor packed_TD = packed_tokens(hidden);
  const at::Tensor result = unpacked_tokens(
      probed.module->forward({packed_TD, sequences, nullptr, &context}).out_TD, batch.count);
  ProbeOutput out;
  out["out"] = result;
  if (probed.config.add_bias_linear) out["bias"] = input.tensor(kOutputBias);
  const at::Tensor loss = record.take_loss();
  if (loss.defined()) out["aux.indexer_loss"] = loss.detach();
  if (choice.made) {
    out["aux.topk_indices"] = choices_of_samples(
        choice.chosen_TJ.defined() ? choice.chosen_TJ : every_key(sequences), batch);
  }
  const at::Tensor cotangent = input.cotangent(result);
  if (!cotangent.defined()) return out;
  const at::Tensor main = (result * cotangent).sum();
  (loss.defined() ? main + loss : main).backward();
  out["grad_in"] = hidden.grad();
  if (context.attention_bias.defined()) {
    out["grad_in.attention_bias"] = context.attention_bias.grad();
  }
  input.add_gradients(out, *probed.parameters, probed.model, kScope, kPrefix);
  return out;
}

ProbeOutput probe_mla(const ProbeInput& input) {
  check_kind(input, /*sparse=*/false);
  return run_latent(input, make_latent(input));
}

ProbeOutput probe_dsa(const ProbeInput& input) {
  check_kind(input, /*sparse=*/true);
  return run_latent(input, make_latent(input));
}

}  // namespace headway::engine
