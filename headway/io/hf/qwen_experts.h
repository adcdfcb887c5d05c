// Keys of mixtures of experts that the Qwen families share: which layers have them, how many
// experts, how wide, how routed.
// Not for: tensor names (moe_family.h).
#pragma once

#include <optional>
#include <vector>

#include "headway/io/hf/config_reader.h"
#include "headway/spec/model_spec.h"

namespace headway::io {

/// What absent keys mean in a family.
struct QwenExperts {
  int64_t num_experts = 128;
  int64_t top_k = 8;
  int64_t width = 768;
  std::optional<int64_t> shared_width;  // none: the family has no shared expert
  std::optional<bool> normalize;        // of norm_topk_prob; none: no such key, always divided
};

/// Which layers have experts: those after every decoder_sparse_step-th, but mlp_only_layers.
std::vector<bool> read_sparse_layers(ConfigReader& config, size_t layers);

/// num_experts, also called num_local_experts; 0 makes all layers dense.
int64_t read_expert_count(ConfigReader& config, const QwenExperts& family);

/// The mixture of a family with softmax routing.
spec::MoeSpec read_qwen_experts(ConfigReader& config, spec::Activation activation,
                                int64_t num_experts, const QwenExperts& family);

/// The mixture in the layers that read_sparse_layers and read_expert_count name; other layers keep
/// their MLP, whose activation the experts take.
void add_qwen_experts(ConfigReader& config, spec::ModelSpec& model, const QwenExperts& family);

/// decoder_sparse_step and mlp_only_layers.
void write_sparse_layers(const spec::ModelSpec& spec, Json& json);

/// The keys of read_qwen_experts, and num_experts; nothing without a mixture.
void write_qwen_experts(const spec::ModelSpec& spec, const QwenExperts& family, Json& json);

}  // namespace headway::io
