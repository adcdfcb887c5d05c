// Family `qwen3_5_text`: the hybrid decoder with its linear projections one after the other.
// Not for: images (a text model turns all rotary axes alike, so the sections change nothing).
#include "headway/io/hf/hybrid_decoder.h"

namespace headway::io {
namespace {

spec::ModelSpec read(ConfigReader& config) { return read_hybrid_decoder(config); }

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  hybrid_reasons(spec, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) { return write_hybrid_decoder(spec); }

std::vector<Rule> no_rules() { return {}; }

std::vector<Rule> rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules = hybrid_rules(spec);
  const std::string linear = "model.layers.{}.linear_attn.";
  rules.push_back(
      MapRule{{linear + "q_proj.weight", linear + "k_proj.weight", linear + "v_proj.weight"},
              {linear + "in_proj_qkv.weight"},
              &kConcatRows});
  for (const std::string part : {"z", "b", "a"}) {
    rules.push_back(
        MapRule{{linear + part + "_proj.weight"}, {linear + "in_proj_" + part + ".weight"}});
  }
  return rules;
}

}  // namespace

const Family& qwen3_5_text_family() {
  static const Family kFamily{.name = "qwen3_5_text",
                              .architecture = "Qwen3_5ForCausalLM",
                              .read = read,
                              .inexpressible = inexpressible,
                              .write = write,
                              .rules = no_rules,
                              .has_linear_attention = true,
                              .rules_of = rules};
  return kFamily;
}

}  // namespace headway::io
