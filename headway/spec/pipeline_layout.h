// Pipeline layout strings: which embedding, decoder, MTP and loss layers each stage holds.
// Not for: layouts computed from counts (pipeline_split.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/json.h"

namespace headway::spec {

enum class StageLayer { kEmbedding, kEncoder, kDecoder, kMtp, kLoss };

struct PipelineLayout {
  std::vector<std::vector<StageLayer>> stages;  // stage q is rank q mod pp, virtual stage q / pp

  /// Decoder layers in stage `index`, and in all stages before it.
  int64_t decoder_layers(int64_t index) const;
  int64_t decoder_offset(int64_t index) const;
  int64_t count(StageLayer kind) const;
};

/// Reads `E|(tt|)*2,mL`: commas dropped, `(body)*n` and `c*n` repeated, split at `|`; E embedding,
/// t decoder, m MTP, L loss. Or a list of lists of the names embedding, encoder, decoder, mtp, loss
/// (trimmed, any case). Stages may be empty.
/// Errors: ConfigError "Invalid layer character", unbalanced or nested parentheses, bad counts,
///   more than 65536 layers or stages.
/// Source: Megatron-Core PipelineParallelLayerLayout; spec/variants.md §5.7.
PipelineLayout parse_pipeline_layout(const Json& layout);

struct LayoutNeeds {
  int64_t num_layers = 0;
  int64_t mtp_num_layers = 0;
  int64_t pipeline_size = 1;
};

/// Checks order and counts; returns whether MTP layers stand on another rank than the last.
/// Errors: ConfigError naming the rule; UnsupportedError for encoder layers.
bool validate_layer_layout(const PipelineLayout& layout, const LayoutNeeds& needs);

}  // namespace headway::spec

namespace headway {

template <>
struct EnumTable<spec::StageLayer> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<spec::StageLayer>>({{spec::StageLayer::kEmbedding, "embedding"},
                                                  {spec::StageLayer::kEncoder, "encoder"},
                                                  {spec::StageLayer::kDecoder, "decoder"},
                                                  {spec::StageLayer::kMtp, "mtp"},
                                                  {spec::StageLayer::kLoss, "loss"}});
};

}  // namespace headway
