// Arithmetic over a LatentAttentionSpec. Not for: tensors.
#include "headway/spec/latent_attention.h"

#include <cmath>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::spec {
namespace {

int64_t times(int64_t a, int64_t b) { return checked_mul<ConfigError>(a, b, "latent_attention"); }

}  // namespace

LatentWidths::LatentWidths(const LatentAttentionSpec& mixer)
    : head(mixer.nope_head_dim + mixer.rope_head_dim),
      queries(times(mixer.num_heads, head)),
      up(times(mixer.num_heads, mixer.nope_head_dim + mixer.v_head_dim)),
      cached(mixer.kv_lora_rank + mixer.rope_head_dim),
      out(times(mixer.num_heads, mixer.v_head_dim)),
      index_key(mixer.indexer ? mixer.indexer->head_dim : 0) {}

double latent_scale(const LatentAttentionSpec& mixer) {
  if (mixer.scale) return *mixer.scale;
  const auto width = static_cast<double>(mixer.nope_head_dim + mixer.rope_head_dim);
  const double plain = 1.0 / std::sqrt(width);
  if (!mixer.rope || mixer.rope->kind != RopeKind::kYarn) return plain;
  const double magnitude =
      yarn_magnitude(mixer.rope->factor, mixer.rope->mscale_all_dim.value_or(0.0));
  return plain * magnitude * magnitude;
}

NormSpec index_key_norm(const IndexerSpec& indexer) {
  NormSpec norm;
  norm.kind = NormKind::kLayer;
  norm.eps = indexer.norm_eps;
  norm.bias = true;
  return norm;
}

void check_shared_choices(const ModelSpec& spec, Problems& problems) {
  bool chosen = false;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LatentAttentionSpec* mixer = latent_of(spec.layers[i]);
    if (mixer == nullptr) continue;
    if (mixer->shared_choice && !chosen) {
      problems.add_value(index_path("model.layers", i) + ".mixer.latent_attention.shared_choice",
                         "true", "only behind a layer with an indexer");
    }
    chosen = chosen || mixer->indexer.has_value();
  }
}

}  // namespace headway::spec
