// Rules over several fields of one part of a layer, stated once for configs and for ModelSpecs.
// Not for: single-field ranges (the field lists hold them) or rules over the whole stack
// (check.cpp, spec/validate.cpp).
#pragma once

#include <cstdint>
#include <string>

#include "headway/base/problems.h"
#include "headway/config/gated_delta_net_config.h"
#include "headway/config/latent_attention_config.h"
#include "headway/config/model_parts.h"
#include "headway/config/moe_config.h"

namespace headway::config {

/// Channels of a head of `head_dim` that take part in the rotation: int(head_dim x fraction).
int64_t rotated_width(const RopeConfig& rope, int64_t head_dim);

/// bias and zero_centered need the kind that has them.
void check_norm(const NormConfig& norm, const std::string& path, Problems& problems);

/// The rotated width is even and positive (V19), yarn is not interleaved, ranges are not reversed.
void check_rope(const RopeConfig& rope, int64_t head_dim, const std::string& path,
                Problems& problems);

/// The only sections whose interleaved order t h w t h w … has no gap.
std::array<int64_t, 3> even_sections(int64_t pairs);

/// No field is set that `rope.kind` does not read.
void check_unused_rope_fields(const RopeConfig& rope, const std::string& path, Problems& problems);

/// A constant gate has a bias; nothing is set without a gate. Paths are `path`.gate and
/// `path`.gate_bias.
void check_gate(const GateConfig& gate, bool gate_bias, const std::string& path,
                Problems& problems);

/// Tokens ahead are seen only without a causal mask.
void check_mask(MaskKind mask, const std::optional<int64_t>& window_ahead, const std::string& path,
                Problems& problems);

/// The output norm divides by the root mean square alone.
void check_gated_delta_net(const GatedDeltaNetConfig& mixer, const std::string& path,
                           Problems& problems);

/// The rotated width is sound, the indexer has room for it, a choice is made or shared and not
/// both.
void check_latent_attention(const LatentAttentionConfig& mixer, const std::string& path,
                            Problems& problems);

/// One projection for keys and values needs heads of one width.
void check_shared_key_value(bool shared, int64_t head_dim, int64_t v_head_dim,
                            const std::string& path, Problems& problems);

/// Spans that see themselves are an exception to a causal mask.
void check_spans(bool spans, MaskKind mask, const std::string& path, Problems& problems);

/// A limit needs two branches.
void check_mlp(const MlpConfig& mlp, const std::string& path, Problems& problems);

/// Choices fit the experts and groups, the expert bias has scores it can be added to, nothing is
/// set that is not read.
void check_moe(const MoeConfig& moe, const std::string& path, Problems& problems);

/// rotary_base_per_layer has one entry a layer (V14).
void check_base_count(size_t bases, size_t layers, const std::string& path, Problems& problems);

/// What V15 says about one layer that has no rotary base.
std::string no_base_text(size_t layer, const std::string& block);

}  // namespace headway::config
