// Family `qwen2` (Qwen2 and Qwen2.5): plain decoder with biases of q, k and v, which no key says.
// Not for: qwen2_moe and qwen2_vl.
#include "headway/io/hf/qwen_dense.h"

namespace headway::io {
namespace {

constexpr QwenTraits kTraits{};

std::vector<Rule> rules(const spec::ModelSpec&) {
  return {IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
}

}  // namespace

const Family& qwen2_family() {
  static const Family kFamily{
      "qwen2",
      "Qwen2ForCausalLM",
      [](ConfigReader& config) { return read_qwen_dense(config, kTraits); },
      [](const spec::ModelSpec& spec) { return qwen_dense_reasons(spec, kTraits); },
      [](const spec::ModelSpec& spec) { return write_qwen_dense(spec, kTraits); },
      rules};
  return kFamily;
}

}  // namespace headway::io
