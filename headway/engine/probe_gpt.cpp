// Megatron's dense GPTModel: ids [b,s] in, logits [b,s,vocabulary] out.
// Legend: B batch, S sequence, D hidden, T = B·S packed tokens.
#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_input.h"
#include "headway/nn/transformer.h"

namespace headway::engine {
namespace {

void check_scope(const ProbeInput& input, const spec::MegatronConfig& config) {
  const std::string mask = input.text("mask");
  if (!mask.empty() && mask != "causal") {
    throw UnsupportedError("[probe] mask = " + shorten(mask) +
                           ": not in this build; allowed causal for gpt_model");
  }
  if (!input.text("prefill").empty()) {
    throw UnsupportedError("[probe] prefill: static caches are not in this build");
  }
  input.refuse({"attention_mask"}, "masks given as tensors are not in this build");
  input.refuse({"labels", "loss_mask"}, "token losses of gpt_model are not in this build");
  input.refuse({"cu_seqlens"}, "packed sequences of gpt_model are not in this build");
  if (config.window_size && (*config.window_size)[1] != 0) {
    throw UnsupportedError("[probe] window_size = " + Json(*config.window_size).dump() +
                           ": windows that look ahead are not in this build's gpt_model");
  }
}

void check_positions(const ProbeInput& input, const at::Tensor& ids_BS) {
  if (!input.has("position_ids")) return;
  const at::Tensor given = input.tensor("position_ids");
  if (given.sizes() == ids_BS.sizes() &&
      at::equal(given, at::arange(ids_BS.size(1), given.scalar_type()).expand_as(given))) {
    return;
  }
  throw UnsupportedError("[probe] position_ids: allowed 0, 1, 2, … in every row");
}

void add_layers(ProbeOutput& out, const nn::Transformer& model,
                const std::vector<at::Tensor>& hidden, const at::Tensor& ids_BS) {
  for (size_t i = 0; i < hidden.size(); ++i) {
    const std::string layer = "aux.layer" + std::to_string(i);
    out[layer + "_out"] = hidden[i].unflatten(0, {ids_BS.size(0), ids_BS.size(1)}).transpose(0, 1);
    if (!model.spec().rope_per_layer) continue;
    const auto rotary = std::get<nn::Attention>(model.blocks()[i].mixer()).rotary();
    if (rotary == nullptr) continue;
    out[layer + "_inv_freq"] =
        at::tensor(rotary->inverse_frequencies(), at::kDouble).to(model.parameters().dtype());
  }
}

}  // namespace

ProbeOutput probe_gpt(const ProbeInput& input) {
  const spec::MegatronConfig config = spec::read_megatron(input.arguments(), "config");
  check_scope(input, config);
  const at::Tensor ids_BS = input.tensor("input_ids");
  if (ids_BS.dim() != 2 || ids_BS.scalar_type() != at::kLong || ids_BS.numel() == 0) {
    throw ShapeError("[probe] input_ids: allowed int64 [batch, sequence]");
  }
  check_positions(input, ids_BS);
  nn::Transformer model(spec::megatron_model(config), input.dtype());
  input.load(model.parameters(), model.spec(), "", "", {});

  std::vector<at::Tensor> hidden;
  nn::ForwardOptions options;
  options.hidden = &hidden;
  const int64_t batch = ids_BS.size(0);
  const int64_t length = ids_BS.size(1);
  const at::Tensor h_TD =
      model.forward(ids_BS.flatten(), ops::equal_sequences(batch, length), options);
  const at::Tensor logits_BSV = model.logits(h_TD).unflatten(0, {batch, length});
  ProbeOutput out;
  out["out"] = logits_BSV;
  add_layers(out, model, hidden, ids_BS);
  if (!input.has("cotangent")) return out;
  const at::Tensor cotangent = input.tensor("cotangent");
  if (cotangent.sizes() != logits_BSV.sizes()) {
    throw ShapeError("[probe] cotangent: allowed the shape of out");
  }
  logits_BSV.backward(cotangent);
  input.add_gradients(out, model.parameters(), model.spec(), "", "");
  return out;
}

}  // namespace headway::engine
