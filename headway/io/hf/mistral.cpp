// Family `mistral`: plain decoder, optionally with one sliding window on all layers.
// Not for: layers that differ (transformers ignores layer_types for this family, so do we).
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model =
      read_plain_decoder(config, {.max_positions = 131072, .needs_kv_heads = true});
  // Absent means 4096 in this family, null means none.
  constexpr int64_t kDefaultWindow = 4096;
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = kDefaultWindow;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    attention.window = window;
    if (window) model.layers[i].block = "sliding_attention";
  });
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  plain_reasons(spec, /*has_qk_norm=*/false, reasons);
  const auto& first = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    if (attention.window != first.window) reasons.add_layer(i, "another window than layer 0");
    if (attention.qkv_bias || attention.output_bias) reasons.add_layer(i, "attention biases");
    if (std::get<spec::DenseMlpSpec>(spec.layers[i].mlp).bias) reasons.add_layer(i, "MLP biases");
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_plain_decoder(spec);
  const auto window = common_window(spec);
  json["sliding_window"] = window ? Json(*window) : Json(nullptr);
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  return {IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
}

}  // namespace

const Family& mistral_family() {
  static const Family kFamily{"mistral", "MistralForCausalLM", read, inexpressible, write, rules};
  return kFamily;
}

}  // namespace headway::io
