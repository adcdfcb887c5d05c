// Rules over the fields of a latent attention. Not for: single-field ranges.
#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/config/part_checks.h"

namespace headway::config {
namespace {

void check_indexer(const IndexerConfig& indexer, const LatentAttentionConfig& mixer,
                   const std::string& path, Problems& problems) {
  const bool sound = !problems.touches(path + ".head_dim");
  if (sound && indexer.head_dim < mixer.rope_head_dim) {
    problems.add_value(path + ".head_dim", std::to_string(indexer.head_dim),
                       fmt::format("at least rope_head_dim (= {}), whose channels it rotates",
                                   mixer.rope_head_dim));
  }
  const bool power_of_two = (indexer.head_dim & (indexer.head_dim - 1)) == 0;
  if (sound && indexer.hadamard && !power_of_two) {
    problems.add_value(path + ".head_dim", std::to_string(indexer.head_dim),
                       "a power of two with hadamard");
  }
  if (indexer.loss == 0 && indexer.loss_keys != IndexLossKeys::kVisible) {
    problems.add_value(path + ".loss_keys", std::string(enum_name(indexer.loss_keys)),
                       "only with loss > 0");
  }
}

}  // namespace

void check_latent_attention(const LatentAttentionConfig& mixer, const std::string& path,
                            Problems& problems) {
  if (mixer.rope && !problems.touches(path + ".rope_head_dim")) {
    // Rows keep the layout they were rotated in, so YaRN allows both here.
    RopeConfig rope = *mixer.rope;
    if (rope.kind == RopeKind::kYarn) rope.layout = RopeLayout::kHalf;
    check_rope(rope, mixer.rope_head_dim, path + ".rope", problems);
  }
  if (mixer.latent_norm) check_norm(*mixer.latent_norm, path + ".latent_norm", problems);
  if (mixer.indexer) check_indexer(*mixer.indexer, mixer, path + ".indexer", problems);
  if (mixer.indexer && mixer.shared_choice) {
    problems.add_value(path + ".shared_choice", "true", "only without an indexer of its own");
  }
  if (mixer.dropout > 0 && (mixer.indexer || mixer.shared_choice)) {
    problems.add_value(path + ".dropout", format_double(mixer.dropout),
                       "0 where an indexer chooses the keys");
  }
}

}  // namespace headway::config
