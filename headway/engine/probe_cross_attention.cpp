// Megatron's CrossAttention: hidden [sq,b,h] and key_value_states [sk,b,h] in, hidden out, its
// output bias apart.
// Legend: B batch, D hidden, C context width, T = B·sq packed queries, S = B·sk packed keys.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_input.h"
#include "headway/io/megatron_cross_attention.h"
#include "headway/nn/cross_attention.h"

namespace headway::engine {
namespace {

constexpr const char* kParameter = "param.";

spec::CrossAttentionSpec cross_spec(const ProbeInput& input, const spec::MegatronConfig& config) {
  spec::AttentionSpec like = spec::layer_attention(config, input.layer_number());
  if (config.fused_single_qkv_rope) {
    throw ConfigError(
        "[probe] fused_single_qkv_rope = true: split_qkv must be true for cross-attention");
  }
  if (like.gate.kind == spec::GateKind::kHeadWise) {
    log(LogLevel::kInfo, "[probe] head_wise_attn_gate: cross-attention layers have no head gate");
    like.gate = {};
    like.gate_bias = false;
  }
  like.dropout = 0.0;  // a probe drops nothing
  like.rope.reset();
  like.window.reset();  // rule_of says which keys are visible
  like.qkv_bias = config.add_bias_linear;
  like.output_bias = false;  // returned apart
  return spec::cross_attention(like, config.hidden_size, config.hidden_size);
}

at::Tensor states_of(const ProbeInput& input, const std::string& name, int64_t width) {
  const at::Tensor states = input.tensor(name).detach().clone();
  if (states.dim() != 3 || states.size(2) != width || states.numel() == 0) {
    throw ShapeError(
        fmt::format("[probe] {}: allowed [sequence, batch, hidden_size (= {})]", name, width));
  }
  if (!states.is_floating_point()) throw ShapeError("[probe] " + name + ": allowed floating");
  return states.set_requires_grad(true);
}

/// One sequence a column of the batch, or the boundaries that the file gives.
ops::Sequences sequences_of(const ProbeInput& input, const std::string& name,
                            const at::Tensor& states_SBD) {
  if (!input.has(name)) return ops::equal_sequences(states_SBD.size(1), states_SBD.size(0));
  const at::Tensor given = input.tensor(name).to(at::kLong).contiguous();
  std::vector<int64_t> boundaries(given.data_ptr<int64_t>(),
                                  given.data_ptr<int64_t>() + given.numel());
  if (states_SBD.size(1) != 1 || boundaries.empty() || boundaries.back() != states_SBD.size(0)) {
    throw ShapeError(
        fmt::format("[probe] {}: allowed for states [tokens,1,hidden] only, ending at "
                    "tokens (= {})",
                    name, states_SBD.size(0)));
  }
  return ops::packed_sequences(std::move(boundaries));
}

/// A window of the config replaces the mask's own rule, as upstream's eager attention has it.
ops::AttentionRule rule_of(const ProbeInput& input, const spec::MegatronConfig& config) {
  const std::string text = input.text("mask");
  const auto mask =
      text.empty() ? spec::MegatronMask::kNoMask : enum_parse<spec::MegatronMask>(text);
  if (!mask) {
    throw ConfigError("[probe] mask = " + shorten(text) + ", allowed " +
                      enum_allowed<spec::MegatronMask>());
  }
  const bool needs_tensor = *mask == spec::MegatronMask::kArbitrary ||
                            (*mask == spec::MegatronMask::kPadding && !input.has("cu_seqlens_kv"));
  if (needs_tensor) input.tensor("attention_mask");  // throws when it is missing
  if (const auto window = spec::layer_window(config, input.layer_number())) {
    return {(*window)[0], (*window)[1]};
  }
  return {-1, spec::is_causal(*mask) ? 0 : -1};
}

/// The boolean mask [B or 1, 1, sq or 1, sk], true = dropped; undefined without one.
at::Tensor mask_of(const ProbeInput& input, const ops::Sequences& queries,
                   const ops::Sequences& keys) {
  if (!input.has("attention_mask")) return {};
  if (input.has("cu_seqlens_q") || input.has("cu_seqlens_kv")) {
    throw UnsupportedError("[probe] tensor attention_mask: not in this build with cu_seqlens_q");
  }
  const at::Tensor mask = input.tensor("attention_mask");
  const int64_t batch = queries.num_sequences();
  const bool fits = mask.scalar_type() == at::kBool && mask.dim() == 4 &&
                    (mask.size(0) == batch || mask.size(0) == 1) && mask.size(1) == 1 &&
                    (mask.size(2) == queries.max_q || mask.size(2) == 1) &&
                    mask.size(3) == keys.max_q;
  if (!fits) {
    throw ShapeError(
        fmt::format("[probe] attention_mask: allowed bool [{0} or 1, 1, {1} or 1, {2}]"
                    " (true = dropped)",
                    batch, queries.max_q, keys.max_q));
  }
  return mask;
}

/// The context without the rows that a padding mask drops; positions stay.
struct Context {
  at::Tensor states_SC;
  ops::Sequences layout;
};

Context without_padding(const at::Tensor& states_SC, const ops::Sequences& layout,
                        const at::Tensor& mask_B11S) {
  std::vector<int64_t> kept_rows, positions;
  Context kept;
  kept.layout.cu_q = {0};
  for (int64_t n = 0; n < layout.num_sequences(); ++n) {
    const at::Tensor row = mask_B11S.select(0, mask_B11S.size(0) == 1 ? 0 : n).flatten();
    const at::Tensor dropped = row.contiguous();
    for (int64_t j = 0; j < layout.cu_q[n + 1] - layout.cu_q[n]; ++j) {
      if (dropped.data_ptr<bool>()[j]) continue;
      kept_rows.push_back(layout.cu_q[n] + j);
      positions.push_back(j);
    }
    kept.layout.cu_q.push_back(static_cast<int64_t>(kept_rows.size()));
  }
  kept.layout.cu_k = kept.layout.cu_q;
  kept.layout.positions = at::tensor(positions, at::kLong);
  kept.layout.position_limit = layout.position_limit;
  kept.states_SC = states_SC.index_select(0, at::tensor(kept_rows, at::kLong));
  return kept;
}

std::shared_ptr<nn::RotaryTable> table_of(const ProbeInput& input,
                                          const spec::MegatronConfig& config, const char* side,
                                          int64_t head_dim) {
  for (const std::string& name : {std::string(side), std::string("rotary_pos_emb")}) {
    if (!input.has(name)) continue;
    const auto layout =
        config.rotary_interleaved ? spec::RopeLayout::kInterleaved : spec::RopeLayout::kHalf;
    return std::make_shared<nn::RotaryTable>(
        nn::RotaryTable::from_angles(angles_of(input.tensor(name), config.rotary_interleaved),
                                     rotary_factor(input, config), layout));
  }
  const auto rope = given_rope(input);
  if (!rope) return nullptr;
  return std::make_shared<nn::RotaryTable>(*rope, head_dim, spec::RopePrecision::kModelDtype,
                                           input.dtype(), at::kCPU);
}

void load(const ProbeInput& input, nn::Parameters& parameters,
          const spec::CrossAttentionSpec& cross, std::set<std::string> used) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const std::string& name = parameters.specs()[i].name;
    const std::string file_name = kParameter + io::megatron_cross_name(name);
    const at::Tensor given = input.tensor(file_name);
    at::Tensor target = parameters.tensors()[i];
    const bool interleaved = name.starts_with("kv.");
    const at::Tensor ours = interleaved ? io::kv_from_megatron(given, cross) : given;
    if (ours.sizes() != target.sizes()) {
      throw ShapeError(fmt::format("[probe] {} has {} elements in {} axes, allowed shape {}",
                                   file_name, given.numel(), given.dim(),
                                   Json(parameters.specs()[i].shape).dump()));
    }
    target.copy_(ours);
    used.insert(file_name);
  }
  input.check_surplus(used);
}

}  // namespace

ProbeOutput probe_cross_attention(const ProbeInput& input) {
  const spec::MegatronConfig config = spec::read_megatron(input.arguments(), "config");
  check_layer_number(input, config);
  const spec::CrossAttentionSpec cross = cross_spec(input, config);
  const at::Tensor hidden = states_of(input, "hidden_states", cross.hidden_size);
  const at::Tensor states = states_of(input, "key_value_states", cross.context_size);
  const ops::Sequences queries = sequences_of(input, "cu_seqlens_q", hidden);
  Context context{packed_tokens(states), sequences_of(input, "cu_seqlens_kv", states)};
  if (queries.num_sequences() != context.layout.num_sequences()) {
    throw ShapeError(
        fmt::format("[probe] key_value_states: {} sequences, allowed {} as in "
                    "hidden_states",
                    context.layout.num_sequences(), queries.num_sequences()));
  }
  const ops::AttentionRule rule = rule_of(input, config);
  at::Tensor mask = mask_of(input, queries, context.layout);
  if (mask.defined() && mask.size(2) == 1 && rule.left < 0 && rule.right < 0) {
    context = without_padding(context.states_SC, context.layout, mask);
    mask.reset();
  }

  nn::Parameters parameters(spec::cross_attention_tensors(cross, {}, config.num_layers, ""),
                            input.dtype(), at::kCPU);
  ProbeOutput out;
  std::set<std::string> apart;
  if (config.add_bias_linear) {
    out["bias"] = input.tensor("param.linear_proj.bias");
    apart.insert("param.linear_proj.bias");
  }
  load(input, parameters, cross, apart);
  nn::CrossAttention module(cross, nn::ParameterScope(parameters, ""),
                            table_of(input, config, "rotary_pos_emb_q", cross.head_dim),
                            table_of(input, config, "rotary_pos_emb_k", cross.head_dim));
  module.replace_rule(rule);

  const at::Tensor result_TD = module.forward(
      packed_tokens(hidden), queries, module.context(context.states_SC, context.layout), mask);
  const at::Tensor result = unpacked_tokens(result_TD, hidden.size(1));
  out["out"] = result;
  const at::Tensor cotangent = input.cotangent(result);
  if (!cotangent.defined()) return out;
  result.backward(cotangent);
  out["grad_in"] = hidden.grad();
  out["grad_in.key_value_states"] = states.grad();
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const std::string& name = parameters.specs()[i].name;
    const at::Tensor& grad = parameters.tensors()[i].grad();
    if (!grad.defined()) continue;
    out["grad." + io::megatron_cross_name(name)] =
        name.starts_with("kv.") ? io::kv_to_megatron(grad, cross) : grad;
  }
  return out;
}

}  // namespace headway::engine
