// See megatron_latent.h. Not for: other mixers.
#include "headway/spec/megatron_latent.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/spec/block_spec.h"
#include "headway/spec/latent_attention.h"
#include "headway/spec/megatron.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::spec {
namespace {

constexpr const char* kSparse = "dsa";
constexpr double kDefaultStretch = 40.0;

bool is_sparse(const MegatronConfig& config) {
  return config.experimental_attention_variant == kSparse;
}

double stretch_of(const MegatronConfig& config) {
  return config.rotary_scaling_factor.value_or(kDefaultStretch);
}

class Checker {
 public:
  Checker(const MegatronConfig& config, const std::string& path, Problems& problems,
          std::vector<std::string>& unsupported)
      : c_(config), path_(path), problems_(problems), unsupported_(unsupported) {}

  void run() {
    if (is_sparse(c_)) check_sparse();
    if (!c_.multi_latent_attention) return;
    if (c_.rotary_interleaved) refuse("rotary_interleaved", "true", "with multi_latent_attention");
    if (c_.apply_rope_fusion && (c_.rope_type != "yarn" || c_.cache_mla_latents)) {
      refuse("apply_rope_fusion", "true", "unless rope_type is yarn and cache_mla_latents false");
    }
    if (c_.mla_down_proj_fusion && !c_.q_lora_rank) {
      refuse("mla_down_proj_fusion", "true", "without q_lora_rank");
    }
    check_width();
    check_missing();
  }

 private:
  void refuse(std::string_view field, std::string_view value, std::string_view when) {
    problems_.add(join_path(path_, field),
                  fmt::format("{} = {}: not allowed {}", field, value, when));
  }

  void check_width() {
    const auto width =
        static_cast<int64_t>(static_cast<double>(c_.qk_pos_emb_head_dim) * c_.rotary_percent);
    if (width >= 2 && width % 2 == 0) return;
    problems_.add(join_path(path_, "qk_pos_emb_head_dim"),
                  fmt::format("qk_pos_emb_head_dim = {}: allowed a number of channels of which "
                              "rotary_percent (= {}) rotates an even number >= 2",
                              c_.qk_pos_emb_head_dim, format_double(c_.rotary_percent)));
  }

  void check_sparse() {
    const std::string variant = "with experimental_attention_variant = dsa";
    if (!c_.multi_latent_attention) refuse("multi_latent_attention", "false", variant);
    if (c_.qk_l2_norm) refuse("qk_l2_norm", "true", variant);
    // Unset it is true upstream, whose block specs are built all the same.
    if (c_.add_bias_linear) {
      unsupported_.push_back(fmt::format("{} = true: not allowed {}: biases of sparse attention",
                                         join_path(path_, "add_bias_linear"), variant));
    }
    if (c_.apply_rope_fusion) refuse("apply_rope_fusion", "true", variant);
    if (c_.qk_clip) refuse("qk_clip", "true", variant);
    const auto need = [&](std::string_view field, bool given) {
      if (given) return;
      problems_.add(
          join_path(path_, field),
          fmt::format("{}: missing; experimental_attention_variant = dsa needs it", field));
    };
    need("dsa_indexer_n_heads", c_.dsa_indexer_n_heads.has_value());
    need("dsa_indexer_head_dim", c_.dsa_indexer_head_dim.has_value());
    need("dsa_indexer_topk", c_.dsa_indexer_topk.has_value());
  }

  void check_missing() {
    const auto missing = [&](bool given, std::string_view field, const std::string& value) {
      if (!given) return;
      unsupported_.push_back(
          fmt::format("{} = {}: not in this build with multi_latent_attention = true",
                      join_path(path_, field), value));
    };
    missing(c_.attention_output_gate, "attention_output_gate", "true");
    missing(c_.head_wise_attn_gate, "head_wise_attn_gate", "true");
    missing(c_.qk_l2_norm && !is_sparse(c_), "qk_l2_norm", "true");
    missing(c_.window_size.has_value(), "window_size", "set");
    missing(c_.attn_logit_softcap.has_value(), "attn_logit_softcap", "set");
    missing(c_.softmax_type != MegatronSoftmax::kVanilla, "softmax_type",
            std::string(enum_name(c_.softmax_type)));
    missing(!c_.no_rope_freq.is_null(), "no_rope_freq", json_summary(c_.no_rope_freq));
  }

  const MegatronConfig& c_;
  const std::string& path_;
  Problems& problems_;
  std::vector<std::string>& unsupported_;
};

RopeSpec rope_of(const MegatronConfig& config) {
  RopeSpec rope;
  rope.layout = RopeLayout::kInterleaved;
  rope.base = config.rotary_base;
  rope.fraction = config.rotary_percent;
  if (config.rope_type != "yarn") return rope;
  rope.kind = RopeKind::kYarn;
  rope.factor = stretch_of(config);
  rope.original_max_positions = config.original_max_position_embeddings;
  rope.beta_fast = config.beta_fast;
  rope.beta_slow = config.beta_slow;
  rope.mscale = config.mscale;
  rope.mscale_all_dim = config.mscale_all_dim;
  rope.attention_factor = yarn_concentration(rope.factor, config.mscale, config.mscale_all_dim);
  return rope;
}

IndexerSpec indexer_of(const MegatronConfig& config) {
  IndexerSpec indexer;
  indexer.num_heads = config.dsa_indexer_n_heads.value();
  indexer.head_dim = config.dsa_indexer_head_dim.value();
  indexer.top_k = config.dsa_indexer_topk.value();
  if (config.dsa_indexer_rope_interleaved) indexer.rope_layout = RopeLayout::kInterleaved;
  indexer.relu = config.dsa_indexer_scoring_relu;
  indexer.hadamard = config.dsa_indexer_rotate_activation;
  indexer.norm_eps = config.dsa_indexer_k_norm_epsilon.value_or(config.layernorm_epsilon);
  indexer.loss = config.dsa_indexer_loss_coeff.value_or(0.0);
  const bool chosen = indexer.loss > 0 && config.dsa_indexer_use_sparse_loss;
  if (chosen) indexer.loss_keys = IndexLossKeys::kChosen;
  return indexer;
}

bool shares_choice(const MegatronConfig& config, int64_t layer_number) {
  BlockArguments block;
  block.dsa_indexer_topk_freq = config.dsa_indexer_topk_freq;
  block.dsa_indexer_skip_topk_offset = config.dsa_indexer_skip_topk_offset;
  return dsa_index_source(block, layer_number) != layer_number;
}

}  // namespace

void check_megatron_latent(const MegatronConfig& config, const std::string& path,
                           Problems& problems, std::vector<std::string>& unsupported) {
  Checker(config, path, problems, unsupported).run();
}

LatentAttentionSpec megatron_latent(const MegatronConfig& config, int64_t layer_number) {
  LatentAttentionSpec mixer;
  mixer.num_heads = config.num_attention_heads;
  mixer.q_lora_rank = config.q_lora_rank;
  mixer.kv_lora_rank = config.kv_lora_rank;
  mixer.nope_head_dim = config.qk_head_dim;
  mixer.rope_head_dim = config.qk_pos_emb_head_dim;
  mixer.v_head_dim = config.v_head_dim;
  mixer.rope = rope_of(config);
  mixer.latent_norm = std::nullopt;
  if (config.qk_layernorm) mixer.latent_norm = megatron_norm(config);
  mixer.output_bias = config.add_bias_linear;
  mixer.dropout = config.attention_dropout;
  mixer.scale = config.softmax_scale;
  if (!mixer.scale && config.rope_type != "yarn") {
    // Upstream squares the magnitude into the scale whatever the positions are.
    const double magnitude = yarn_magnitude(stretch_of(config), config.mscale_all_dim);
    const auto width = static_cast<double>(mixer.nope_head_dim + mixer.rope_head_dim);
    if (magnitude != 1.0) mixer.scale = magnitude * magnitude / std::sqrt(width);
  }
  if (!is_sparse(config)) return mixer;
  mixer.dropout = 0.0;  // upstream's sparse core drops nothing
  mixer.shared_choice = shares_choice(config, layer_number);
  if (!mixer.shared_choice) mixer.indexer = indexer_of(config);
  return mixer;
}

}  // namespace headway::spec
