// Family `deepseek_v3`: latent attention over all keys, sigmoid routing among groups of experts.
// Not for: deepseek_v32, whose layers choose keys.
#include "headway/io/hf/latent_family.h"

namespace headway::io {
namespace {

const LatentForm kForm{.rope_interleave_key = true};

spec::ModelSpec read(ConfigReader& config) { return read_latent_decoder(config, kForm); }

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  latent_reasons(spec, kForm, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) { return write_latent_decoder(spec, kForm); }

}  // namespace

const Family& deepseek_v3_family() {
  static const Family kFamily{
      .name = "deepseek_v3",
      .architecture = "DeepseekV3ForCausalLM",
      .read = read,
      .inexpressible = inexpressible,
      .write = write,
      .rules = latent_rules,
      .knows = {.experts = true, .mtp = true, .latent_attention = true, .attention = false}};
  return kFamily;
}

}  // namespace headway::io
