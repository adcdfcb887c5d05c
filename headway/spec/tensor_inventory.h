// The one list of a model's parameters. Construction, initialisation, counting, loading, saving,
// optimizer groups and `inspect` all read it. Not for: activations, caches or optimizer state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

enum class InitKind { kNormal, kZeros, kOnes, kConstant, kUniform, kLogUniform };

struct InitRule {
  InitKind kind = InitKind::kNormal;
  double value = 0.0;  // std of kNormal, value of kConstant, lower end of the others
  double high = 0.0;   // upper end of kUniform, and of what kLogUniform takes the logarithm of
  bool operator==(const InitRule&) const = default;
};

/// Named run of rows of a parameter: its own init, weight decay and name on disk.
struct RowSegment {
  std::string name;   // "q", "k", "v", "gate", "up", … ; "weight" for an unfused parameter
  int64_t begin = 0;  // first row
  int64_t rows = 0;
  std::string disk_name;  // name of this segment in a native checkpoint, e.g.
                          // model.layers.0.self_attn.q_proj.weight
  InitRule init;
  bool decay = false;  // AdamW weight decay applies
  bool operator==(const RowSegment&) const = default;
};

/// Which axis tensor parallelism splits: rows (0), columns (1), or none (replicated).
enum class ShardAxis { kNone, kRows, kColumns };

struct TensorSpec {
  std::string name;            // parameter name of the module tree, e.g. layers.0.mixer.qkv.weight
  std::vector<int64_t> shape;  // rows first; segments tile axis 0
  std::vector<RowSegment> segments;  // at least one, contiguous, covering all rows
  ShardAxis shard = ShardAxis::kNone;
  bool trainable = true;    // false: stored and loaded, no gradient by default
  bool wide = false;        // float32 also in a 16-bit model: numbers that decide, not multiply
  bool row_sparse = false;  // only look-ups reach it: a step's gradient has the rows of its tokens
  /// Experts whose rows follow each other, and how many of them one token uses; 1 of 1 for others.
  int64_t experts = 1;
  int64_t used_experts = 1;
  int64_t layer = -1;       // block number (spec::block_at), -1 outside of blocks
  bool projection = false;  // the weight of a plain projection, beside which an adapter may stand
  /// Product of `shape`; ConfigError when it does not fit 64 bits.
  int64_t numel() const;
  /// Shape of one segment on disk: [rows, shape[1:]…].
  std::vector<int64_t> segment_shape(const RowSegment& segment) const;
};

/// Every parameter of `spec` in construction order. A bias covers only the segments that have one
/// (q|k|v with qkv_bias, gate with gate_bias), so find segments by name.
///
/// Module name                                   Disk name (Llama-style, one per segment)
///   embedding.weight                              model.embed_tokens.weight
///   layers.i.mixer.qkv.{weight,bias}              …self_attn.{q,k,v,g}_proj.{weight,bias}
///   layers.i.mixer.{q,k,v}_norm.{weight,bias}     …self_attn.{q,k,v}_norm.{weight,bias}
///   layers.i.mixer.sinks                          …self_attn.sinks
///   layers.i.mixer.out.{weight,bias}              …self_attn.o_proj.{weight,bias}
///   layers.i.mixer.in.weight (q|k|v|z|b|a)        …linear_attn.{q,k,v,z,b,a}_proj.weight
///   layers.i.mixer.conv.{weight,bias} (q|k|v)     …linear_attn.{q,k,v}_conv1d.{weight,bias}
///   layers.i.mixer.{dt_bias,A_log}                …linear_attn.{dt_bias,A_log}
///   layers.i.mixer.norm.weight                    …linear_attn.norm.weight
///   layers.i.mixer.out.weight                     …linear_attn.out_proj.weight
///   layers.i.mixer.down.* (q | kv_down, or        …self_attn.{q_proj,kv_a_proj_with_mqa}.*, or
///     q_down | kv_down)                           …self_attn.{q_a_proj,kv_a_proj_with_mqa}.*
///   layers.i.mixer.{q_norm,kv_norm}.weight        …self_attn.{q_a_layernorm,kv_a_layernorm}.weight
///   layers.i.mixer.{q_up,kv_up}.weight            …self_attn.{q_b_proj,kv_b_proj}.weight
///   layers.i.mixer.indexer.{q,k,weights}.weight   …self_attn.indexer.{wq_b,wk,weights_proj}.weight
///   layers.i.mixer.indexer.k_norm.*               …self_attn.indexer.k_norm.*
///   layers.i.mlp.up.{weight,bias} (gate | up)     …mlp.{gate_proj,up_proj}.{weight,bias}
///   layers.i.mlp.down.{weight,bias}               …mlp.down_proj.{weight,bias}
///   layers.i.mlp.router.{weight,bias}             …mlp.gate.{weight,bias}
///   layers.i.mlp.router.expert_bias               …mlp.gate.e_score_correction_bias
///   layers.i.mlp.router.{input_norm.weight,       …mlp.gate.{input_norm.weight,input_weight,
///     input_weight,expert_scale}                    expert_scale}
///   layers.i.mlp.experts.up.* (e0.gate | e0.up |  …mlp.experts.e.{gate_proj,up_proj}.*
///     e1.gate | …), experts.down.* (e0 | e1 | …)  …mlp.experts.e.down_proj.*
///   layers.i.mlp.shared.{up,down}.weight          …mlp.shared_expert.{gate,up,down}_proj.weight
///   layers.i.mlp.shared.gate.weight [1,D]         …mlp.shared_expert_gate.weight
///   layers.i.mlp.latent_{down,up}.weight          …mlp.latent_{down,up}_proj.weight
///   layers.i.mlp.{dense,routed}.* (hybrid)        those of a dense MLP, those of a mixture
///   layers.i.mlp.dense_{pre,post}_norm.*          …{pre,post}_feedforward_layernorm_1.*
///   layers.i.mlp.routed_{pre,post}_norm.*         …{pre,post}_feedforward_layernorm_2.*
///   layers.i.pre_mixer_norm.{weight,bias}         …input_layernorm.*
///   layers.i.pre_mlp_norm.{weight,bias}           …post_attention_layernorm.* without post norms,
///                                                 …pre_feedforward_layernorm.* with them
///   layers.i.post_mixer_norm.{weight,bias}        …post_attention_layernorm.*
///   layers.i.post_mlp_norm.{weight,bias}          …post_feedforward_layernorm.*
///   layers.i.per_layer.{gate,out}.weight          …per_layer_{input_gate,projection}.weight
///   layers.i.per_layer.norm.*                     …post_per_layer_input_norm.*
///   layers.i.layer_scalar                         …layer_scalar
///   per_layer.table.weight                        model.embed_tokens_per_layer.weight
///   per_layer.projection.weight                   model.per_layer_model_projection.weight
///   per_layer.norm.*                              model.per_layer_projection_norm.*
///   final_norm.{weight,bias}                      model.norm.*
///   head.weight (untied only)                     lm_head.weight
///   mtp.layers.k.{embedding,hidden}_norm.weight   …{enorm,hnorm}.weight
///   mtp.layers.k.proj.weight [D,2D]               …eh_proj.weight
///   mtp.layers.k.block.*                          …* as the parameters of a layer
///   mtp.layers.k.final_norm.weight                …shared_head.norm.weight
///   mtp.layers.k.head.weight (own_head only)      …shared_head.head.weight
/// where … stands for `model.layers.i.`, and i = layers + k for those of multi-token prediction
std::vector<TensorSpec> tensors(const ModelSpec& spec);

/// Tensors of block `index` (spec::block_at), with module names below its block_scope.
std::vector<TensorSpec> layer_tensors(const ModelSpec& spec, int64_t index);

}  // namespace headway::spec
