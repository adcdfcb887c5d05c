// See gemma_common.h. Not for: tensor names.
#include "headway/io/hf/gemma_common.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/hf/plain_decoder.h"
#include "headway/spec/spec_json.h"

namespace headway::io::gemma {
namespace {

/// "model.layers[3].mlp.x: 1 -> 2" as layer 3 and "mlp.x: 1 -> 2".
std::optional<std::pair<size_t, std::string>> split_layer(const std::string& line) {
  const size_t open = line.find("layers[");
  if (open == std::string::npos) return std::nullopt;
  const size_t close = line.find(']', open);
  if (close == std::string::npos) return std::nullopt;
  const size_t digits = open + std::string_view("layers[").size();
  const std::string number = line.substr(digits, close - digits);
  return std::pair(static_cast<size_t>(std::stoul(number)), line.substr(close + 2));
}

}  // namespace

std::vector<std::string> read_layer_types(ConfigReader& config, size_t layers, int64_t period) {
  if (auto types = config.layer_texts("layer_types", layers, 0)) {
    for (size_t i = 0; i < layers; ++i) {
      if ((*types)[i] == kFull || (*types)[i] == kSliding) continue;
      config.problem_text("layer_types", fmt::format("[{}] = \"{}\", allowed {} | {}", i,
                                                     shorten((*types)[i]), kFull, kSliding));
    }
    return *types;
  }
  std::vector<std::string> types;
  for (size_t i = 0; i < layers; ++i) {
    const bool is_full = (static_cast<int64_t>(i) + 1) % period == 0;
    types.push_back(is_full ? kFull : kSliding);
  }
  return types;
}

std::optional<int64_t> read_window(ConfigReader& config, const std::vector<std::string>& types,
                                   std::optional<int64_t> otherwise) {
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = otherwise;
  const bool is_needed = std::ranges::find(types, kSliding) != types.end();
  if (is_needed && !window && !config.has("sliding_window")) {
    config.problem("sliding_window", "an integer >= 1 (layer_types has sliding layers)");
  }
  return window;
}

spec::ModelSpec read_frame(ConfigReader& config, std::optional<int64_t> vocab_size) {
  spec::ModelSpec model;
  const IntegerRange rows{1, config::kMaxVocab};
  model.hidden_size = config.required_integer("hidden_size", {1, config::kMaxWidth});
  model.embedding.vocab_size = vocab_size ? config.integer("vocab_size", rows, *vocab_size)
                                          : config.required_integer("vocab_size", rows);
  model.max_positions = config.integer("max_position_embeddings", {1, config::kMaxTokens}, 131072);
  model.embedding.scale = std::sqrt(static_cast<double>(model.hidden_size));
  model.embedding.scale_rounding = spec::ScaleRounding::kWeightDtype;
  model.embedding.padding_id = read_padding_id(config, model.embedding.vocab_size, 0);
  model.head.softcap = config.optional_number("final_logit_softcapping");
  read_model_flags(config, model, /*tied_otherwise=*/true);
  return model;
}

spec::Activation read_hidden_activation(ConfigReader& config) {
  const std::string name = config.text("hidden_activation", "gelu_pytorch_tanh");
  if (name != "gelu_pytorch_tanh" && name != "gelu_new") {
    config.problem("hidden_activation", "gelu_pytorch_tanh");
  }
  return spec::Activation::kGeluTanh;
}

Json write_frame(const spec::ModelSpec& spec) {
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  json["num_hidden_layers"] = spec.layers.size();
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["max_position_embeddings"] = spec.max_positions;
  json["initializer_range"] = spec.init.std;
  json["final_logit_softcapping"] = spec.head.softcap ? Json(*spec.head.softcap) : Json(nullptr);
  json["tie_word_embeddings"] = spec.head.tied;
  json["pad_token_id"] =
      spec.embedding.padding_id ? Json(*spec.embedding.padding_id) : Json(nullptr);
  json["rms_norm_eps"] = spec.head.final_norm ? spec.head.final_norm->eps : 0.0;
  return json;
}

std::vector<const spec::AttentionSpec*> attentions_of(const spec::ModelSpec& spec) {
  std::vector<const spec::AttentionSpec*> result;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    result.push_back(spec::attention_of(spec.layers[i]));
    if (result.back() == nullptr) {
      throw UnsupportedError(fmt::format("layer {}: a mixer other than attention", i));
    }
  }
  return result;
}

FirstOfType first_of_type(const spec::ModelSpec& spec) {
  FirstOfType first;
  for (const spec::AttentionSpec* attention : attentions_of(spec)) {
    auto& slot = attention->window ? first.sliding : first.full;
    if (slot == nullptr) slot = attention;
  }
  return first;
}

std::vector<std::string> losses(const spec::ModelSpec& spec, spec::ModelSpec (*read)(ConfigReader&),
                                Json (*write)(const spec::ModelSpec&)) {
  try {
    const Json config = write(spec);
    ConfigReader reader(config, "config.json");
    const spec::ModelSpec back = read(reader);
    reader.throw_if_any();
    Reasons reasons;
    for (const std::string& line : spec::diff(canonical_spec(back), canonical_spec(spec))) {
      const std::string feature = " (what the family has -> what the model has)";
      if (const auto layer = split_layer(line)) {
        reasons.add_layer(layer->first, layer->second + feature);
      } else {
        reasons.add(line + feature);
      }
    }
    return reasons.lines();
  } catch (const ConfigError& error) {
    return {error.what()};
  } catch (const UnsupportedError& error) {
    return {error.what()};
  }
}

}  // namespace headway::io::gemma
