// Family `deepseek_v32`: deepseek_v3's layers, each with an indexer that chooses its keys.
// Not for: glm_moe_dsa, whose layers share choices.
#include "headway/io/hf/latent_family.h"

namespace headway::io {
namespace {

const LatentForm kForm{
    .max_positions = 163840, .needs_q_latent = true, .index_layout = spec::RopeLayout::kHalf};

spec::ModelSpec read(ConfigReader& config) { return read_latent_decoder(config, kForm); }

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  latent_reasons(spec, kForm, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) { return write_latent_decoder(spec, kForm); }

}  // namespace

const Family& deepseek_v32_family() {
  static const Family kFamily{
      .name = "deepseek_v32",
      .architecture = "DeepseekV32ForCausalLM",
      .read = read,
      .inexpressible = inexpressible,
      .write = write,
      .rules = latent_rules,
      .knows = {.experts = true, .mtp = true, .latent_attention = true, .attention = false}};
  return kFamily;
}

}  // namespace headway::io
