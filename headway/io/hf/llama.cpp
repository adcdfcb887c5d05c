// Family `llama`: plain decoder with optional biases and every rope scaling.
// Not for: layers that differ.
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 2048});
  const bool attention_bias = config.boolean("attention_bias", false);
  const bool mlp_bias = config.boolean("mlp_bias", false);
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    attention.qkv_bias = attention_bias;
    attention.output_bias = attention_bias;
    std::get<spec::DenseMlpSpec>(model.layers[i].mlp).bias = mlp_bias;
  });
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  plain_reasons(spec, /*has_qk_norm=*/false, reasons);
  const auto& first = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  reasons.add_if(spec.hidden_size % first.num_heads != 0,
                 "hidden_size that is no multiple of num_heads (transformers refuses it)");
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    if (attention.window) reasons.add_layer(i, "a sliding window");
    if (attention.qkv_bias != attention.output_bias) {
      reasons.add_layer(i, "a bias on only one of qkv and output projection");
    }
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_plain_decoder(spec);
  json["attention_bias"] = std::get<spec::AttentionSpec>(spec.layers.front().mixer).qkv_bias;
  json["mlp_bias"] = std::get<spec::DenseMlpSpec>(spec.layers.front().mlp).bias;
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  return {IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
}

}  // namespace

const Family& llama_family() {
  static const Family kFamily{"llama", "LlamaForCausalLM", read, inexpressible, write, rules};
  return kFamily;
}

}  // namespace headway::io
