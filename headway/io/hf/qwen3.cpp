// Family `qwen3`: plain decoder with q/k norms, and windows on the layers that layer_types names.
// Not for: qwen3_moe.
#include "headway/io/hf/qwen_dense.h"

namespace headway::io {
namespace {

constexpr QwenTraits kTraits{.has_qk_norm = true, .has_bias_key = true, .needs_head_dim = true};

std::vector<Rule> rules(const spec::ModelSpec&) {
  return {IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
}

}  // namespace

const Family& qwen3_family() {
  static const Family kFamily{
      "qwen3",
      "Qwen3ForCausalLM",
      [](ConfigReader& config) { return read_qwen_dense(config, kTraits); },
      [](const spec::ModelSpec& spec) { return qwen_dense_reasons(spec, kTraits); },
      [](const spec::ModelSpec& spec) { return write_qwen_dense(spec, kTraits); },
      rules};
  return kFamily;
}

}  // namespace headway::io
