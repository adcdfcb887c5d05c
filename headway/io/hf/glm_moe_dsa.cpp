// Family `glm_moe_dsa`: deepseek_v32's layers, some of which take the keys that an earlier one
// chose; the indexer's pairs are interleaved.
// Not for: other families of the GLM series.
#include <algorithm>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/hf/latent_family.h"

namespace headway::io {
namespace {

constexpr const char* kFull = "full";
constexpr const char* kShared = "shared";

const LatentForm kForm{.max_positions = 202752,
                       .norm_eps = 1e-5,
                       .groups = 1,
                       .kept_groups = 1,
                       .needs_q_latent = true,
                       .index_layout = spec::RopeLayout::kInterleaved,
                       .own_mtp_head = false,
                       .shares_choices = true};

/// A pattern: "FSSF", one letter a layer, or a list of the names.
std::optional<std::vector<std::string>> read_pattern(ConfigReader& config) {
  const Json* pattern = config.find("index_topk_pattern");
  if (pattern == nullptr) return std::nullopt;
  if (!pattern->is_string()) return config.texts("index_topk_pattern");
  std::vector<std::string> types;
  for (const char letter : pattern->get<std::string>()) {
    if (letter != 'F' && letter != 'S') config.problem("index_topk_pattern", "letters F and S");
    types.emplace_back(letter == 'F' ? kFull : kShared);
  }
  return types;
}

/// The first layers up to the offset choose, then every freq-th.
std::vector<std::string> read_schedule(ConfigReader& config, size_t layers) {
  const IntegerRange range{0, config::kMaxLayers};
  const int64_t freq = std::max<int64_t>(config.integer("index_topk_freq", range, 1), 1);
  const int64_t offset = config.integer("index_skip_topk_offset", range, 2);
  std::vector<std::string> types;
  for (int64_t i = 0; i < static_cast<int64_t>(layers); ++i) {
    const bool full = std::max<int64_t>(i - offset + 1, 0) % freq == 0;
    types.emplace_back(full ? kFull : kShared);
  }
  return types;
}

/// full or shared for every layer.
std::vector<std::string> read_types(ConfigReader& config, size_t layers) {
  // Entries of next-token layers may follow.
  const int64_t extra = config.integer("num_nextn_predict_layers", {0, config::kMaxLayers}, 0);
  const auto listed = config.layer_texts("indexer_types", layers, static_cast<size_t>(extra));
  const auto pattern = read_pattern(config);
  const auto schedule = read_schedule(config, layers);
  if (listed) return *listed;
  if (!pattern) return schedule;
  if (pattern->size() < layers) {
    config.problem("index_topk_pattern", fmt::format("an entry for each of {} layers", layers));
    return schedule;
  }
  return {pattern->begin(), pattern->begin() + static_cast<std::ptrdiff_t>(layers)};
}

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_latent_decoder(config, kForm);
  if (!config.boolean("indexer_rope_interleave", true)) {
    config.problem("indexer_rope_interleave", "true");
  }
  const auto types = read_types(config, model.layers.size());
  for (size_t i = 0; i < types.size(); ++i) {
    auto& mixer = std::get<spec::LatentAttentionSpec>(model.layers[i].mixer);
    const bool shared = types[i] == kShared;
    if (!shared && types[i] != kFull) config.problem("indexer_types", "full | shared");
    if (shared && i == 0) {
      config.problem("indexer_types", "full for layer 0, which no layer comes before");
    }
    mixer.shared_choice = shared;
    if (shared) mixer.indexer.reset();
  }
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  latent_reasons(spec, kForm, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_latent_decoder(spec, kForm);
  json["indexer_types"] = Json::array();
  for (const spec::LayerSpec& layer : spec.layers) {
    json["indexer_types"].push_back(spec::latent_of(layer)->shared_choice ? kShared : kFull);
  }
  json["indexer_rope_interleave"] = true;
  return json;
}

}  // namespace

const Family& glm_moe_dsa_family() {
  static const Family kFamily{
      .name = "glm_moe_dsa",
      .architecture = "GlmMoeDsaForCausalLM",
      .read = read,
      .inexpressible = inexpressible,
      .write = write,
      .rules = latent_rules,
      .knows = {.experts = true, .mtp = true, .latent_attention = true, .attention = false}};
  return kFamily;
}

}  // namespace headway::io
