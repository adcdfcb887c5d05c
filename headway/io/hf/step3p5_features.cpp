// Family `step3p5`: which layers a config makes mixtures of experts, and refusal of what cannot be
// built. Not for: dense layers (step3p5_read.cpp).
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/config/model_parts.h"
#include "headway/io/hf/step3p5.h"

namespace headway::io::step3p5 {
namespace {

/// moe_layers_enum: "3,4,5" or a list of numbers.
std::set<int64_t> read_enum(ConfigReader& config) {
  std::set<int64_t> layers;
  const Json* value = config.find("moe_layers_enum");
  const auto fail = [&] {
    config.problem("moe_layers_enum", "layer numbers as \"3,4,5\" or as a list");
    return std::set<int64_t>{};
  };
  if (value->is_string()) {
    for (const std::string& part : split(value->get<std::string>(), ',')) {
      const std::string number(trim(part));
      if (number.empty()) continue;
      if (number.size() > 6 || number.find_first_not_of("0123456789") != std::string::npos)
        return fail();
      layers.insert(std::stol(number));
    }
    return layers;
  }
  if (!value->is_array()) return fail();
  for (const Json& item : *value) {
    if (!item.is_number_integer() || item < 0) return fail();
    // Numbers past the last layer name next-token layers.
    layers.insert(item < config::kMaxLayers ? item.get<int64_t>() : config::kMaxLayers);
  }
  return layers;
}

std::set<int64_t> read_moe_layers(ConfigReader& config, const Frame& frame) {
  std::set<int64_t> layers;
  const auto types = config.layer_texts("mlp_layer_types", frame.layers, frame.extra);
  const bool has_enum = config.has("moe_layers_enum");
  const bool uses_moe = config.boolean("use_moe", true);
  if (has_enum) {
    layers = read_enum(config);
    std::erase_if(layers, [&](int64_t i) { return i >= static_cast<int64_t>(frame.layers); });
  } else if (!types && uses_moe) {
    for (size_t i = 1; i < frame.layers; ++i) layers.insert(static_cast<int64_t>(i));
  }
  if (types) {
    std::set<int64_t> sparse;
    for (size_t i = 0; i < frame.layers; ++i) {
      if ((*types)[i] == "sparse") {
        sparse.insert(static_cast<int64_t>(i));
      } else if ((*types)[i] != "dense") {
        config.problem_text("mlp_layer_types", fmt::format("[{}] = \"{}\", allowed dense | sparse",
                                                           i, shorten((*types)[i])));
      }
    }
    if (has_enum && sparse != layers) {
      config.problem_text("moe_layers_enum", "differs from mlp_layer_types; keep one of the two");
    }
    layers = sparse;
  }
  if (!uses_moe && !layers.empty()) {
    config.problem("use_moe", "true, as moe_layers_enum or mlp_layer_types names layers");
  }
  return layers;
}

}  // namespace

/// Features of the family that this build has no layers for.
void refuse_unsupported(ConfigReader& config, const Frame& frame) {
  const auto moe = read_moe_layers(config, frame);
  const bool has_sink = config.boolean("sink", false);
  const std::string kind = config.text("att_impl_type", "GQA");
  config.throw_if_any();
  std::vector<std::string> features;
  if (!moe.empty()) {
    features.push_back(
        fmt::format("layer {} (and {} more): mixture of experts", *moe.begin(), moe.size() - 1));
  }
  if (frame.extra > 0) {
    features.push_back(fmt::format("layers {}..{}: next-token prediction (MTP)", frame.layers,
                                   frame.layers + frame.extra - 1));
  }
  if (has_sink) features.emplace_back("sink = true");
  if (kind != "GQA") features.push_back(fmt::format("att_impl_type = \"{}\"", shorten(kind)));
  if (features.empty()) return;
  throw UnsupportedError(
      fmt::format("[config.json] step3p5 = {}, allowed dense layers with grouped-query attention",
                  join(features, "; ")));
}

}  // namespace headway::io::step3p5
