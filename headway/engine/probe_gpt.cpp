// Megatron's dense GPTModel: ids [b,s] in, logits [b,s,vocabulary] out, or with labels the loss of
// every token [b,s].
// Legend: B batch, S sequence, D hidden, T = B·S packed tokens.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_input.h"
#include "headway/engine/probe_mtp.h"
#include "headway/nn/transformer.h"
#include "headway/spec/megatron_check.h"

namespace headway::engine {
namespace {

void check_positions(const ProbeInput& input, const at::Tensor& ids_BS,
                     const ops::Sequences& sequences) {
  if (!input.has("position_ids")) return;
  const at::Tensor given = input.tensor("position_ids");
  if (given.dim() == 3) return;  // of three axes: probe_context takes them
  if (given.sizes() == ids_BS.sizes() && given.scalar_type() == at::kLong &&
      (at::equal(given, at::arange(ids_BS.size(1), at::kLong).expand_as(given)) ||
       at::equal(given.flatten(), sequences.positions))) {
    return;
  }
  throw UnsupportedError(
      "[probe] position_ids: allowed int64 0, 1, 2, … in every row or packed sequence");
}

void add_layers(ProbeOutput& out, const nn::Transformer& model,
                const std::vector<at::Tensor>& hidden, const at::Tensor& ids_BS) {
  for (size_t i = 0; i < hidden.size(); ++i) {
    const std::string layer = "aux.layer" + std::to_string(i);
    out[layer + "_out"] = hidden[i].unflatten(0, {ids_BS.size(0), ids_BS.size(1)}).transpose(0, 1);
    if (!model.spec().rope_per_layer) continue;
    const auto* attention = std::get_if<nn::Attention>(&model.blocks()[i].mixer());
    const auto rotary = attention == nullptr ? nullptr : attention->rotary();
    if (rotary == nullptr) continue;
    out[layer + "_inv_freq"] =
        at::tensor(rotary->inverse_frequencies(), at::kDouble).to(model.parameters().dtype());
  }
}

spec::ModelSpec model_of(const ProbeInput& input, const spec::MegatronConfig& config) {
  spec::ModelSpec model = spec::megatron_model(config);
  const auto stack = static_cast<int64_t>(model.layers.size());
  const int64_t depths = model.mtp ? model.mtp->depths() : 0;
  for (int64_t i = 0; i < stack + depths; ++i) {
    spec::LayerSpec& layer = i < stack ? model.layers[i] : model.mtp->layers[i - stack];
    if (spec::latent_of(layer) != nullptr) require_causal(input);
    auto* attention = std::get_if<spec::AttentionSpec>(&layer.mixer);
    if (attention == nullptr) continue;
    set_probe_rule(input, config, i + 1, *attention);
  }
  return model;
}

/// The logits of the same tokens given as a prefill and single steps, every row with a cache.
at::Tensor incremental_logits(const ProbeInput& input, nn::Transformer& model,
                              const at::Tensor& ids_BS) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> rows;
  for (int64_t b = 0; b < ids_BS.size(0); ++b) {
    nn::ModelState state = nn::make_state(model.spec());
    std::vector<at::Tensor> pieces;
    for (const int64_t count : prefill_steps(input, ids_BS.size(1))) {
      nn::ForwardOptions options;
      options.state = &state;
      const int64_t past = state.num_tokens;
      const at::Tensor ids_T = ids_BS.select(0, b).narrow(0, past, count).contiguous();
      pieces.push_back(
          model.logits(model.forward(ids_T, ops::continued_sequences({past}, {count}), options)));
    }
    rows.push_back(at::cat(pieces));
  }
  return at::stack(rows);
}

}  // namespace

ProbeOutput probe_gpt(const ProbeInput& input) {
  const spec::MegatronConfig config = spec::read_megatron(input.arguments(), "config");
  if (!input.text("prefill").empty()) spec::check_static_decode(config);
  const at::Tensor ids_BS = input.tensor("input_ids");
  if (ids_BS.dim() != 2 || ids_BS.scalar_type() != at::kLong || ids_BS.numel() == 0) {
    throw ShapeError("[probe] input_ids: allowed int64 [batch, sequence]");
  }
  const ProbeBatch batch{ids_BS.size(0), ids_BS.size(1)};
  const ops::Sequences sequences = probe_sequences(input, batch);
  check_positions(input, ids_BS, sequences);
  nn::Transformer model(model_of(input, config), input.dtype());
  input.load(model.parameters(), model.spec(), "", "", {});

  std::vector<at::Tensor> hidden;
  nn::ForwardOptions options;
  options.hidden = &hidden;
  options.context = probe_context(input, batch);
  nn::RoutingRecord routing;
  options.context.routing = &routing;
  at::Tensor mtp_hidden;
  options.mtp_hidden = &mtp_hidden;
  options.context.sum_index_loss = config.calculate_per_token_loss;
  const at::Tensor h_TD = model.forward(ids_BS.flatten(), sequences, options);
  const at::Tensor logits_BSV = model.logits(h_TD).unflatten(0, {batch.count, batch.length});
  const at::Tensor labels_BS = probe_labels(input, logits_BSV);
  const at::Tensor result =
      labels_BS.defined() ? probe_token_loss(logits_BSV, labels_BS) : logits_BSV;
  ProbeOutput out;
  out["out"] = result;
  add_layers(out, model, hidden, ids_BS);
  const at::Tensor mtp_loss = add_mtp_losses(
      out, input, {model, config, sequences, &options.context, mtp_hidden, labels_BS});
  if (!input.text("prefill").empty()) {
    input.refuse({"cu_seqlens", "attention_mask", "attention_bias"}, "not together with prefill");
    out["out_incremental"] = incremental_logits(input, model, ids_BS);
  }
  const at::Tensor cotangent = input.cotangent(result);
  if (!cotangent.defined()) return out;
  at::Tensor loss = (result * cotangent).sum();
  for (const at::Tensor& more : {routing.take_loss(), mtp_loss}) {
    if (more.defined()) loss = loss + more;
  }
  loss.backward();
  if (options.context.attention_bias.defined()) {
    out["grad_in.attention_bias"] = options.context.attention_bias.grad();
  }
  input.add_gradients(out, model.parameters(), model.spec(), "", "");
  return out;
}

}  // namespace headway::engine
