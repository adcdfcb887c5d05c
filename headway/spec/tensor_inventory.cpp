// The parameters of each part of a layer, in construction order.
// Not for: families' own names on disk (io).
#include "headway/spec/tensor_inventory.h"

#include <cmath>
#include <utility>

#include "headway/base/checked_math.h"
#include "headway/spec/gated_delta_net.h"
#include "headway/spec/internal/tensor_collector.h"
#include "headway/spec/latent_attention.h"

namespace headway::spec {
namespace {

using internal::Collector;
using internal::normal;

int64_t rows_of(int64_t heads, int64_t head_dim) {
  return checked_mul<ConfigError>(heads, head_dim, "spec.rows");
}

double residual_std(const ModelSpec& spec) {
  const double layers = static_cast<double>(spec.layers.size());
  return spec.init.scale_residual ? spec.init.std / std::sqrt(2.0 * layers) : spec.init.std;
}

struct GateRows {
  int64_t rows;
  InitRule weight;
  InitRule bias;
};

GateRows gate_rows(const AttentionSpec& attention, double std) {
  const GateSpec& gate = attention.gate;
  GateRows result{0, normal(std), {InitKind::kZeros}};
  if (gate.kind == GateKind::kHeadWise) result.rows = attention.num_heads;
  if (gate.kind == GateKind::kElementWise)
    result.rows = rows_of(attention.num_heads, attention.v_head_dim);
  if (gate.init != GateInit::kNormal) result.weight = {InitKind::kZeros};
  if (gate.init == GateInit::kConstant) result.bias = {InitKind::kConstant, gate.init_value};
  return result;
}

void collect_mixer(Collector& out, const ModelSpec& spec, const AttentionSpec& attention) {
  const double std = spec.init.std;
  const GateRows gate = gate_rows(attention, std);
  std::vector<Collector::Rows> parts = {{"q", rows_of(attention.num_heads, attention.head_dim),
                                         "self_attn.q_proj", normal(std), attention.qkv_bias}};
  if (!attention.kv_source) {
    parts.push_back({"k", rows_of(attention.num_kv_heads, attention.head_dim), "self_attn.k_proj",
                     normal(std), attention.qkv_bias});
  }
  if (!attention.kv_source && !attention.shared_key_value) {
    parts.push_back({"v", rows_of(attention.num_kv_heads, attention.v_head_dim), "self_attn.v_proj",
                     normal(std), attention.qkv_bias});
  }
  if (gate.rows > 0) {
    parts.push_back(
        {"gate", gate.rows, "self_attn.g_proj", gate.weight, attention.gate_bias, gate.bias});
  }
  out.projection("mixer.qkv", spec.hidden_size, parts, ShardAxis::kRows);
  const bool across = attention.qk_norm_across_heads;
  out.norm(attention.q_norm, "mixer.q_norm",
           rows_of(across ? attention.num_heads : 1, attention.head_dim), "self_attn.q_norm");
  out.norm(attention.k_norm, "mixer.k_norm",
           rows_of(across ? attention.num_kv_heads : 1, attention.head_dim), "self_attn.k_norm");
  out.norm(attention.v_norm, "mixer.v_norm", attention.v_head_dim, "self_attn.v_norm");
  if (attention.sinks == SinkKind::kLearnable) {
    out.vector("mixer.sinks", attention.num_heads, "self_attn.sinks", normal(std),
               ShardAxis::kRows);
  }
  out.projection("mixer.out", rows_of(attention.num_heads, attention.v_head_dim),
                 {{"weight", spec.hidden_size, "self_attn.o_proj", normal(residual_std(spec)),
                   attention.output_bias}},
                 ShardAxis::kColumns);
}

void collect_mixer(Collector& out, const ModelSpec& spec, const GatedDeltaNetSpec& mixer) {
  const DeltaWidths widths(mixer);
  const InitRule init = normal(spec.init.std);
  const int64_t heads = mixer.num_value_heads;
  const std::string disk = "linear_attn.";
  std::vector<Collector::Rows> parts;
  const auto add = [&](const char* segment, int64_t rows, const char* name) {
    parts.push_back({segment, rows, disk + name, init, false});
  };
  add("q", widths.keys, "q_proj");
  add("k", widths.keys, "k_proj");
  add("v", widths.values, "v_proj");
  add("z", widths.gate_rows, mixer.gate_rank ? "g_a_proj" : "z_proj");
  add("b", heads, "b_proj");
  add("a", widths.decay_rows, mixer.decay_rank ? "f_a_proj" : "a_proj");
  out.projection("mixer.in", spec.hidden_size, parts, ShardAxis::kRows);
  if (mixer.gate_rank) {
    out.projection("mixer.gate_up", *mixer.gate_rank,
                   {{"weight", widths.values, disk + "g_b_proj", init, false}}, ShardAxis::kRows);
  }
  if (mixer.decay_rank) {
    out.projection("mixer.decay_up", *mixer.decay_rank,
                   {{"weight", widths.decays, disk + "f_b_proj", init, false}}, ShardAxis::kRows);
  }
  out.convolution("mixer.conv", mixer.conv_size, mixer.conv_bias,
                  {{"q", widths.keys}, {"k", widths.keys}, {"v", widths.values}});
  out.vector("mixer.dt_bias", widths.decays, disk + "dt_bias", {InitKind::kOnes}, ShardAxis::kRows);
  out.vector("mixer.A_log", heads, disk + "A_log", {InitKind::kLogUniform, 1.0, 16.0},
             ShardAxis::kRows);
  out.norm(mixer.norm, "mixer.norm", mixer.value_head_dim, disk + "norm");
  out.projection(
      "mixer.out", widths.values,
      {{"weight", spec.hidden_size, disk + "out_proj", normal(residual_std(spec)), false}},
      ShardAxis::kColumns);
}

void collect_indexer(Collector& out, const ModelSpec& spec, const LatentAttentionSpec& mixer) {
  const IndexerSpec& indexer = mixer.indexer.value();
  const InitRule init = normal(spec.init.std);
  const auto project = [&](const char* name, int64_t columns, int64_t rows, const char* disk) {
    out.projection(std::string("mixer.indexer.") + name, columns,
                   {{"weight", rows, std::string("self_attn.indexer.") + disk, init, false}},
                   ShardAxis::kNone);
  };
  project("q", mixer.q_lora_rank.value_or(spec.hidden_size),
          rows_of(indexer.num_heads, indexer.head_dim), "wq_b");
  project("k", spec.hidden_size, indexer.head_dim, "wk");
  out.norm(index_key_norm(indexer), "mixer.indexer.k_norm", indexer.head_dim,
           "self_attn.indexer.k_norm");
  project("weights", spec.hidden_size, indexer.num_heads, "weights_proj");
}

void collect_mixer(Collector& out, const ModelSpec& spec, const LatentAttentionSpec& mixer) {
  const LatentWidths widths(mixer);
  const InitRule init = normal(spec.init.std);
  const bool has_q_latent = mixer.q_lora_rank.has_value();
  const Collector::Rows query =
      has_q_latent ? Collector::Rows{"q_down", *mixer.q_lora_rank, "self_attn.q_a_proj", init,
                                     mixer.latent_bias}
                   : Collector::Rows{"q", widths.queries, "self_attn.q_proj", init, false};
  out.projection(
      "mixer.down", spec.hidden_size,
      {query, {"kv_down", widths.cached, "self_attn.kv_a_proj_with_mqa", init, mixer.latent_bias}},
      ShardAxis::kNone);
  if (has_q_latent) {
    out.norm(mixer.latent_norm, "mixer.q_norm", *mixer.q_lora_rank, "self_attn.q_a_layernorm");
    out.projection("mixer.q_up", *mixer.q_lora_rank,
                   {{"weight", widths.queries, "self_attn.q_b_proj", init, false}},
                   ShardAxis::kRows);
  }
  out.norm(mixer.latent_norm, "mixer.kv_norm", mixer.kv_lora_rank, "self_attn.kv_a_layernorm");
  out.projection("mixer.kv_up", mixer.kv_lora_rank,
                 {{"weight", widths.up, "self_attn.kv_b_proj", init, false}}, ShardAxis::kRows);
  if (mixer.indexer) collect_indexer(out, spec, mixer);
  out.projection("mixer.out", widths.out,
                 {{"weight", spec.hidden_size, "self_attn.o_proj", normal(residual_std(spec)),
                   mixer.output_bias}},
                 ShardAxis::kColumns);
}

/// The dense MLP with module names `module`.{up,down} and disk names `disk`.*_proj.
void collect_mlp(Collector& out, const ModelSpec& spec, const DenseMlpSpec& mlp,
                 const std::string& module = "mlp", const std::string& disk = "mlp") {
  std::vector<Collector::Rows> parts;
  const InitRule init = normal(spec.init.std);
  if (mlp.gated)
    parts.push_back({"gate", mlp.intermediate_size, disk + ".gate_proj", init, mlp.bias});
  parts.push_back({"up", mlp.intermediate_size, disk + ".up_proj", init, mlp.bias});
  out.projection(module + ".up", spec.hidden_size, parts, ShardAxis::kRows);
  out.projection(
      module + ".down", mlp.intermediate_size,
      {{"weight", spec.hidden_size, disk + ".down_proj", normal(residual_std(spec)), mlp.bias}},
      ShardAxis::kColumns);
}

void collect_router(Collector& out, const ModelSpec& spec, const MoeSpec& moe,
                    const std::string& module) {
  const RouterSpec& router = moe.router;
  out.norm(router.input_norm, module + ".input_norm", spec.hidden_size, "mlp.gate.input_norm");
  out.projection(module, spec.hidden_size,
                 {{"weight", moe.num_experts, "mlp.gate", normal(spec.init.std), router.bias}},
                 ShardAxis::kNone);
  out.not_a_projection(module + ".weight");
  if (router.input_weight) {
    out.vector(module + ".input_weight", spec.hidden_size, "mlp.gate.input_weight",
               {InitKind::kOnes});
  }
  if (router.expert_scale) {
    out.vector(module + ".expert_scale", moe.num_experts, "mlp.gate.expert_scale",
               {InitKind::kOnes});
  }
  if (router.expert_bias) {
    out.wide_vector(module + ".expert_bias", moe.num_experts, "mlp.gate.e_score_correction_bias");
  }
}

void collect_mlp(Collector& out, const ModelSpec& spec, const MoeSpec& moe,
                 const std::string& module = "mlp") {
  const InitRule init = normal(spec.init.std), residual = normal(residual_std(spec));
  const int64_t width = moe.latent_size.value_or(spec.hidden_size);
  collect_router(out, spec, moe, module + ".router");
  if (moe.latent_size) {
    out.projection(module + ".latent_down", spec.hidden_size,
                   {{"weight", width, "mlp.latent_down_proj", init, false}}, ShardAxis::kNone);
  }
  std::vector<Collector::Rows> parts;
  if (moe.gated) {
    parts.push_back({"gate", moe.intermediate_size, "mlp.experts.{e}.gate_proj", init, moe.bias});
  }
  parts.push_back({"up", moe.intermediate_size, "mlp.experts.{e}.up_proj", init, moe.bias});
  out.experts(module + ".experts.up", width, parts, moe.num_experts, moe.top_k);
  out.experts(module + ".experts.down", moe.intermediate_size,
              {{"", width, "mlp.experts.{e}.down_proj", residual, moe.bias}}, moe.num_experts,
              moe.top_k);
  if (moe.latent_size) {
    out.projection(module + ".latent_up", width,
                   {{"weight", spec.hidden_size, "mlp.latent_up_proj", residual, false}},
                   ShardAxis::kNone);
  }
  const auto shared = shared_mlp(moe);
  if (!shared) return;
  collect_mlp(out, spec, *shared, module + ".shared", "mlp.shared_expert");
  if (moe.shared->gate) {
    out.projection(module + ".shared.gate", spec.hidden_size,
                   {{"weight", 1, "mlp.shared_expert_gate", init, false}}, ShardAxis::kNone);
  }
}

void collect_mlp(Collector& out, const ModelSpec& spec, const HybridMlpSpec& hybrid) {
  const auto norm = [&](const std::optional<NormSpec>& held, const char* name, const char* disk) {
    out.norm(held, std::string("mlp.") + name, spec.hidden_size, disk);
  };
  norm(hybrid.dense_pre_norm, "dense_pre_norm", "pre_feedforward_layernorm_1");
  collect_mlp(out, spec, hybrid.dense, "mlp.dense", "mlp");
  norm(hybrid.dense_post_norm, "dense_post_norm", "post_feedforward_layernorm_1");
  norm(hybrid.routed_pre_norm, "routed_pre_norm", "pre_feedforward_layernorm_2");
  collect_mlp(out, spec, hybrid.routed, "mlp.routed");
  norm(hybrid.routed_post_norm, "routed_post_norm", "post_feedforward_layernorm_2");
}

/// The gate, the way back and the norm of a layer's channels of the per-layer embedding.
void collect_per_layer_input(Collector& out, const ModelSpec& spec, const LayerSpec& layer) {
  if (!layer.per_layer_input || !spec.per_layer_embedding) return;
  const int64_t size = spec.per_layer_embedding->size;
  out.projection("per_layer.gate", spec.hidden_size,
                 {{"weight", size, "per_layer_input_gate", normal(spec.init.std), false}},
                 ShardAxis::kNone);
  out.projection(
      "per_layer.out", size,
      {{"weight", spec.hidden_size, "per_layer_projection", normal(residual_std(spec)), false}},
      ShardAxis::kNone);
  out.norm(layer.per_layer_input->norm, "per_layer.norm", spec.hidden_size,
           "post_per_layer_input_norm");
}

/// The table, its companion projection and their norm.
void collect_per_layer_embedding(Collector& out, const ModelSpec& spec) {
  if (!spec.per_layer_embedding) return;
  const PerLayerEmbeddingSpec& held = *spec.per_layer_embedding;
  const int64_t columns = rows_of(per_layer_count(spec), held.size);
  out.table("per_layer.table.weight", held.vocab_size, columns,
            "model.embed_tokens_per_layer.weight", spec.init.std, false);
  out.mark_row_sparse();
  out.projection(
      "per_layer.projection", spec.hidden_size,
      {{"weight", columns, "model.per_layer_model_projection", normal(spec.init.std), false}},
      ShardAxis::kNone);
  out.norm(held.norm, "per_layer.norm", held.size, "model.per_layer_projection_norm");
}

/// Disk names of the four norms: plain pre-norm blocks use Llama's two names, sandwich blocks
/// Gemma's four.
struct NormNames {
  const char* post_mixer;
  const char* pre_mlp;
};

NormNames norm_names(const LayerSpec& layer) {
  if (layer.post_mixer_norm || layer.post_mlp_norm)
    return {"post_attention_layernorm", "pre_feedforward_layernorm"};
  return {"post_mixer_layernorm", "post_attention_layernorm"};
}

std::string disk_scope(int64_t index) { return "model.layers." + std::to_string(index) + "."; }

void collect_layer(std::vector<TensorSpec>& out, const ModelSpec& spec, int64_t index) {
  const LayerSpec& layer = block_at(spec, index);
  Collector collector(out, block_scope(spec, index), disk_scope(index), index);
  const NormNames names = norm_names(layer);
  collector.norm(layer.pre_mixer_norm, "pre_mixer_norm", spec.hidden_size, "input_layernorm");
  std::visit([&](const auto& mixer) { collect_mixer(collector, spec, mixer); }, layer.mixer);
  collector.norm(layer.post_mixer_norm, "post_mixer_norm", spec.hidden_size, names.post_mixer);
  collector.norm(layer.pre_mlp_norm, "pre_mlp_norm", spec.hidden_size, names.pre_mlp);
  std::visit([&](const auto& mlp) { collect_mlp(collector, spec, mlp); }, layer.mlp);
  collector.norm(layer.post_mlp_norm, "post_mlp_norm", spec.hidden_size,
                 "post_feedforward_layernorm");
  collect_per_layer_input(collector, spec, layer);
  if (layer.layer_scalar) {
    collector.vector("layer_scalar", 1, "layer_scalar", {InitKind::kOnes}, ShardAxis::kNone,
                     /*trainable=*/false);
  }
}

/// The sets of weights of multi-token prediction, numbered on disk behind the stack.
void collect_mtp(std::vector<TensorSpec>& out, const ModelSpec& spec) {
  const auto stack = static_cast<int64_t>(spec.layers.size());
  for (int64_t index = stack; index < num_blocks(spec); ++index) {
    const MtpSpec& mtp = *spec.mtp;
    Collector depth(out, "mtp.layers." + std::to_string(index - stack) + ".", disk_scope(index),
                    index);
    depth.norm(mtp.embedding_norm, "embedding_norm", spec.hidden_size, "enorm");
    depth.norm(mtp.hidden_norm, "hidden_norm", spec.hidden_size, "hnorm");
    depth.projection("proj", checked_mul<ConfigError>(2, spec.hidden_size, "mtp.proj"),
                     {{"weight", spec.hidden_size, "eh_proj", normal(spec.init.std), false}},
                     ShardAxis::kRows);
    collect_layer(out, spec, index);
    depth.norm(mtp.final_norm, "final_norm", spec.hidden_size, "shared_head.norm");
    if (!mtp.own_head) continue;
    depth.table("head.weight", spec.embedding.vocab_size, spec.hidden_size,
                "shared_head.head.weight", spec.init.std, true);
  }
}

}  // namespace

int64_t TensorSpec::numel() const { return checked_product<ConfigError>(shape, name); }

std::vector<int64_t> TensorSpec::segment_shape(const RowSegment& segment) const {
  std::vector<int64_t> result = shape;
  result[0] = segment.rows;
  return result;
}

std::vector<TensorSpec> layer_tensors(const ModelSpec& spec, int64_t index) {
  std::vector<TensorSpec> out;
  collect_layer(out, spec, index);
  return out;
}

std::vector<TensorSpec> tensors(const ModelSpec& spec) {
  std::vector<TensorSpec> out;
  Collector root(out, "", "", -1);
  root.table("embedding.weight", spec.embedding.vocab_size, spec.hidden_size,
             "model.embed_tokens.weight", spec.init.std, false);
  collect_per_layer_embedding(root, spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) collect_layer(out, spec, static_cast<int64_t>(i));
  root.norm(spec.head.final_norm, "final_norm", spec.hidden_size, "model.norm");
  if (!spec.head.tied) {
    root.table("head.weight", spec.embedding.vocab_size, spec.hidden_size, "lm_head.weight",
               spec.init.std, true);
  }
  collect_mtp(out, spec);
  return out;
}

}  // namespace headway::spec
