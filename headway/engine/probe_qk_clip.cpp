// Megatron's clip_qk of self-attention and of multi-latent attention: weights and largest logits
// in, clipped weights out.
// Not for: measuring logits (ops/attention_max_logit.h).
#include <algorithm>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_input.h"
#include "headway/io/megatron_layout.h"
#include "headway/nn/qk_clip.h"

namespace headway::engine {
namespace {

at::Tensor max_logits(const ProbeInput& input) {
  if (!input.has("max_logits")) {
    throw ShapeError("[probe] max_logits: current_max_attn_logits is None; allowed one per head");
  }
  return input.tensor("max_logits");
}

bool changes(const std::vector<double>& etas) {
  return std::any_of(etas.begin(), etas.end(), [](double eta) { return eta != 1.0; });
}

/// A weight or bias whose rows are multiplied, under its own name.
class Clipped {
 public:
  Clipped(const ProbeInput& input, ProbeOutput& out) : input_(input), out_(out) {}

  void scale(const std::string& name, const at::Tensor& factors) {
    const std::string parameter = "param." + name;
    const at::Tensor rows = input_.tensor(parameter);
    used_.insert(parameter);
    if (rows.dim() < 1 || rows.dim() > 2 || rows.size(0) != factors.size(0)) {
      throw ShapeError(fmt::format("[probe] {} has {} rows in {} axes, allowed {}", parameter,
                                   rows.dim() > 0 ? rows.size(0) : 0, rows.dim(), factors.size(0)));
    }
    if (factors.eq(1.0).all().item<bool>()) return;
    const at::Tensor scale = factors.to(rows.scalar_type());
    out_["clipped." + name] = rows * (rows.dim() == 2 ? scale.unsqueeze(1) : scale);
  }
  /// Parameters of the module that clipping leaves alone.
  void leave(std::initializer_list<const char*> names) {
    for (const char* name : names) used_.insert(std::string("param.") + name);
  }
  void check_surplus() const { input_.check_surplus(used_); }

 private:
  const ProbeInput& input_;
  ProbeOutput& out_;
  std::set<std::string> used_;
};

void write_etas(const ProbeInput& input, const std::vector<double>& etas, ProbeOutput& out) {
  if (changes(etas)) out["eta"] = at::tensor(etas, at::kDouble).to(input.dtype());
}

nn::QkClip clip_of(const ProbeInput& input, const spec::MegatronConfig& config) {
  check_layer_number(input, config);
  if (!config.qk_clip) {
    throw ConfigError("[probe] qk_clip = false: qk_clip option needs to be enabled");
  }
  return {config.qk_clip_threshold, config.qk_clip_alpha};
}

void clip_grouped(const ProbeInput& input, const Json& arguments, ProbeOutput& out) {
  const spec::MegatronConfig config = spec::read_megatron(arguments, "config");
  const nn::QkClip clip = clip_of(input, config);
  spec::AttentionSpec attention = spec::layer_attention(config, input.layer_number());
  const std::vector<double> etas =
      nn::clip_etas(max_logits(input), attention.num_heads, attention.num_kv_heads, clip);
  if (attention.q_norm) {
    log(LogLevel::kWarning,
        "[probe] qk_clip: query and key norms undo what clipping does to the weights");
  }
  Clipped clipped(input, out);
  for (const spec::TensorSpec& tensor :
       spec::layer_tensors(model_around(attention, config.hidden_size), 0)) {
    const bool weight = tensor.name.ends_with(".mixer.qkv.weight");
    if (!weight && !tensor.name.ends_with(".mixer.qkv.bias")) continue;
    const at::Tensor rows = nn::qkv_clip_factors(tensor, attention, etas, clip.alpha);
    clipped.scale(weight ? "linear_qkv.weight" : "linear_qkv.bias",
                  io::qkv_to_megatron(rows, io::qkv_heads(attention)));
  }
  clipped.leave({"linear_proj.weight", "linear_proj.bias", "core_attention.softmax_offset"});
  if (attention.q_norm) {
    clipped.leave(
        {"q_layernorm.weight", "q_layernorm.bias", "k_layernorm.weight", "k_layernorm.bias"});
  }
  clipped.check_surplus();
  write_etas(input, etas, out);
}

void clip_latent(const ProbeInput& input, const Json& arguments, ProbeOutput& out) {
  const spec::MegatronConfig config = spec::read_megatron(arguments, "config");
  const nn::QkClip clip = clip_of(input, config);
  nn::LatentHeads heads{config.num_attention_heads, config.qk_head_dim, config.qk_pos_emb_head_dim,
                        config.v_head_dim};
  heads.absorbed = config.cache_mla_latents && !input.has("param.linear_kv_up_proj.weight");
  const std::vector<double> etas =
      nn::clip_etas(max_logits(input), heads.num_heads, heads.num_heads, clip);
  Clipped clipped(input, out);
  const at::Tensor query_rows = nn::latent_query_factors(heads, etas, clip.alpha);
  const at::Tensor key_rows = nn::latent_key_factors(heads, etas, clip.alpha);
  clipped.scale(config.q_lora_rank ? "linear_q_up_proj.weight" : "linear_q_proj.weight",
                query_rows);
  clipped.scale("linear_kv_up_proj.weight", key_rows);
  clipped.leave({"linear_kv_down_proj.weight", "linear_q_down_proj.weight", "linear_proj.weight",
                 "linear_proj.bias", "linear_qkv_down_proj.weight", "q_layernorm.weight",
                 "q_layernorm.bias", "kv_layernorm.weight", "kv_layernorm.bias"});
  clipped.check_surplus();
  write_etas(input, etas, out);
}

}  // namespace

ProbeOutput probe_qk_clip(const ProbeInput& input) {
  const Json arguments = input.arguments();
  ProbeOutput out;
  if (arguments.value("multi_latent_attention", Json(false)) == Json(true)) {
    clip_latent(input, arguments, out);
  } else {
    clip_grouped(input, arguments, out);
  }
  return out;
}

}  // namespace headway::engine
