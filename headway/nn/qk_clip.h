// QK-Clip: how much the rows of query and key projections shrink so that no attention logit stays
// above a threshold. Pure row factors: who holds the weights (optimizer masters, a file) applies
// them.
// Not for: measuring logits (max_logit.h) or when to clip (engine/qk_clip_step.h).
// Legend: H query heads, G kv heads, K head dim, M largest logit, η clip factor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/attention.h"
#include "headway/nn/latent_attention.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::nn {

struct QkClip {
  double threshold = 100.0;  // τ, of the scaled logits
  double alpha = 0.5;        // part of the correction that the queries take, in [0,1]
};

/// η_g = min(1, τ / M_g) with M_g the largest of the maxima of group g's heads, and 1 where
/// M_g <= 0 or nothing was visible.
/// Shapes: max [H] -> G values. Errors: ConfigError (τ not positive and finite, α outside [0,1]);
/// ShapeError (not [H], G does not divide H); NonFiniteError (NaN or +inf).
/// Source: Moonshot 2025, Kimi K2, algorithm 1; spec/attention.md §6.4.
/// Test: tests/unit/nn/qk_clip_test.cpp
std::vector<double> clip_etas(const at::Tensor& max_H, int64_t num_heads, int64_t num_groups,
                              const QkClip& clip);

/// Factor of every row of a projection made of segments: q rows η_g^α of their head's group, k rows
/// η_g^(1-α), all others (v, gates) 1. For the weight and for its bias, so that logits shrink by
/// exactly η. -> double [rows]
at::Tensor qkv_clip_factors(const spec::TensorSpec& tensor, const spec::AttentionSpec& attention,
                            const std::vector<double>& etas, double alpha);

/// Heads of multi-latent attention: query rows [nope | pe] a head, key/value rows [nope | v].
struct LatentHeads {
  int64_t num_heads = 0;
  int64_t nope_dim = 0;
  int64_t pe_dim = 0;
  int64_t value_dim = 0;
  bool absorbed = false;  // the up-projections were multiplied away for decoding
};
/// linear_q_up_proj (or linear_q_proj) [H·(nope+pe)]: nope rows η^α, pe rows η, as the shared
/// rotated key cannot shrink for one head alone. Errors: ConfigError when absorbed.
at::Tensor latent_query_factors(const LatentHeads& heads, const std::vector<double>& etas,
                                double alpha);
/// linear_kv_up_proj [H·(nope+value)]: key rows η^(1-α), value rows 1.
at::Tensor latent_key_factors(const LatentHeads& heads, const std::vector<double>& etas,
                              double alpha);

/// Factors of the parameters of one layer's attention that QK-Clip changes, by parameter name;
/// empty when no logit is above the threshold. `prefix` ends before "qkv.weight". Forgets the
/// tracked maxima in every case.
/// Errors: ConfigError "qk_clip option needs to be enabled" (clip absent); ShapeError
/// "current_max_attn_logits is None" (nothing observed), or its shape; those of clip_etas.
std::map<std::string, at::Tensor> clip_qk(const Attention& attention, const Parameters& parameters,
                                          const std::string& prefix,
                                          const std::optional<QkClip>& clip);
/// The same for latent attention, whose heads are clipped one by one in their up-projections.
/// `prefix` ends before "kv_up.weight".
std::map<std::string, at::Tensor> clip_qk(const LatentAttention& attention,
                                          const Parameters& parameters, const std::string& prefix,
                                          const std::optional<QkClip>& clip);

}  // namespace headway::nn
