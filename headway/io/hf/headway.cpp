// Family `headway`: the ModelSpec itself as JSON, tensors under their native names.
// Not for: other programs' checkpoints.
#include "headway/base/error.h"
#include "headway/io/hf/family.h"
#include "headway/spec/spec_json.h"

namespace headway::io {
namespace {

constexpr int64_t kFormat = 1;

spec::ModelSpec read(ConfigReader& config) {
  config.required_integer("format", {1, kFormat});
  const Json* model = config.find("spec");
  if (model == nullptr) config.problem("spec", "an object: the model");
  config.throw_if_any();
  return spec::spec_from_json(*model, "config.json: spec");
}

std::vector<std::string> inexpressible(const spec::ModelSpec&) { return {}; }

Json write(const spec::ModelSpec& spec) {
  return {{"format", kFormat}, {"spec", spec::to_json(spec)}};
}

std::vector<Rule> rules(const spec::ModelSpec&) { return {}; }

}  // namespace

const Family& headway_family() {
  static const Family kFamily{"headway",
                              "HeadwayForCausalLM",
                              read,
                              inexpressible,
                              write,
                              rules,
                              {.experts = true,
                               .linear_attention = true,
                               .mtp = true,
                               .latent_attention = true,
                               .layer_extras = true}};
  return kFamily;
}

}  // namespace headway::io
