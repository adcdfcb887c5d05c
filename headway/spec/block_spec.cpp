// Layers and slices from patterns and modules. Not for: the modules (block_modules.cpp).
#include "headway/spec/block_spec.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

/// How a pattern argument is named in errors, and which layer an integer N picks for `on`.
struct PatternKind {
  const char* field;
  const char* pattern;
  bool (*on)(int64_t layer, int64_t freq);
};
constexpr PatternKind kLinearPattern{"linear_attention_freq", "linear_attention_pattern",
                                     [](int64_t i, int64_t n) { return (i + 1) % n != 0; }};
constexpr PatternKind kMoePattern{"moe_layer_freq", "moe_layer_pattern",
                                  [](int64_t i, int64_t n) { return i % n == 0; }};

std::vector<int64_t> pattern_of_list(const PatternKind& kind, const Json& list, int64_t layers) {
  if (static_cast<int64_t>(list.size()) != layers) {
    throw ConfigError(
        fmt::format("Invalid length of {}: {} has {} entries, allowed num_layers "
                    "(= {})",
                    kind.pattern, kind.field, list.size(), layers));
  }
  std::vector<int64_t> pattern;
  for (size_t i = 0; i < list.size(); ++i) {
    const bool integer = list[i].is_number_integer();
    if (!integer || (list[i] != 0 && list[i] != 1)) {
      throw ConfigError(
          fmt::format("Invalid {}[{}] = {}: allowed 0 or 1", kind.field, i, json_summary(list[i])));
    }
    pattern.push_back(list[i].get<int64_t>());
  }
  return pattern;
}

std::vector<int64_t> pattern_of(const PatternKind& kind, const Json& freq, int64_t layers) {
  if (freq.is_array()) return pattern_of_list(kind, freq, layers);
  if (!freq.is_number_integer() || freq < 1) {
    throw ConfigError(fmt::format("Invalid {} = {}: allowed an integer >= 1 or a list of 0 and 1",
                                  kind.field, json_summary(freq)));
  }
  // Beyond every layer all values mean the same, and a huge one would not fit.
  const int64_t n = freq > config::kMaxLayers ? config::kMaxLayers + 1 : freq.get<int64_t>();
  std::vector<int64_t> pattern(layers);
  for (int64_t i = 0; i < layers; ++i) pattern[i] = kind.on(i, n) ? 1 : 0;
  return pattern;
}

/// 1 = the variant's module, 0 = softmax attention.
std::vector<int64_t> attention_pattern(const BlockArguments& arguments) {
  const auto& variant = arguments.experimental_attention_variant;
  if (!variant) return std::vector<int64_t>(arguments.num_layers, 0);
  if (is_linear_attention_variant(variant)) return get_linear_attention_pattern(arguments);
  return std::vector<int64_t>(arguments.num_layers, 1);
}

std::vector<int64_t> mlp_pattern(const BlockArguments& arguments) {
  if (!arguments.num_moe_experts) return std::vector<int64_t>(arguments.num_layers, 0);
  return get_moe_layer_pattern(arguments);
}

bool has(const std::vector<int64_t>& pattern, int64_t kind) {
  return std::find(pattern.begin(), pattern.end(), kind) != pattern.end();
}

bool fuses_input_norm(const ModuleSpec& attention) {
  return attention.metainfo.value("fuse_input_layernorm", false);
}

/// The two modules a pattern chooses from; one that no layer uses stays null.
struct Choice {
  SharedModule off;
  SharedModule on;
  const SharedModule& of(int64_t kind) const { return kind == 1 ? on : off; }
};

/// A slice must hold the source of every layer that reuses sparse indices.
void check_index_sources(const BlockArguments& arguments, const std::vector<int64_t>& local) {
  if (arguments.experimental_attention_variant != "dsa" || arguments.dsa_indexer_topk_freq <= 1)
    return;
  for (const int64_t layer : local) {
    const int64_t source = dsa_index_source(arguments, layer + 1);
    if (source == layer + 1) continue;
    if (std::find(local.begin(), local.end(), source - 1) == local.end()) {
      throw UnsupportedError(fmt::format(
          "layer {} reuses the sparse indices of layer {}, which is on another pipeline slice "
          "(dsa_indexer_topk_freq = {}, dsa_indexer_skip_topk_offset = {})",
          layer + 1, source, arguments.dsa_indexer_topk_freq,
          arguments.dsa_indexer_skip_topk_offset));
    }
  }
}

}  // namespace

std::vector<int64_t> get_linear_attention_pattern(const BlockArguments& arguments) {
  if (arguments.linear_attention_freq.is_null() &&
      !is_linear_attention_variant(arguments.experimental_attention_variant)) {
    return std::vector<int64_t>(arguments.num_layers, 0);
  }
  return pattern_of(kLinearPattern, arguments.linear_attention_freq, arguments.num_layers);
}

std::vector<int64_t> get_moe_layer_pattern(const BlockArguments& arguments) {
  return pattern_of(kMoePattern, arguments.moe_layer_freq, arguments.num_layers);
}

std::vector<TransformerLayerModule> get_transformer_layer_with_experimental_attention_variant_spec(
    const BlockArguments& arguments, const OptionalBackend& given) {
  const BackendSpecProvider backend = given ? *given : _get_backend_spec_provider(arguments);
  const std::vector<int64_t> attention = attention_pattern(arguments);
  Choice mixers;
  if (has(attention, 1))
    mixers.on = get_experimental_attention_variant_module_spec(arguments, backend);
  if (has(attention, 0)) mixers.off = _get_self_attention_module_spec(arguments, backend);

  const std::vector<int64_t> routed = mlp_pattern(arguments);
  FusedModule moe;
  FusedModule dense;
  if (has(routed, 1)) moe = _get_moe_module_spec(arguments, backend);
  if (has(routed, 0)) dense = _get_dense_mlp_module_spec(arguments, backend);

  std::vector<TransformerLayerModule> layers(arguments.num_layers);
  for (int64_t i = 0; i < arguments.num_layers; ++i) {
    const FusedModule& mlp = routed[i] == 1 ? moe : dense;
    TransformerLayerSubmodules& places = layers[i].submodules;
    layers[i].global_layer_id = i;
    places.self_attention = mixers.of(attention[i]);
    places.input_layernorm = fuses_input_norm(*places.self_attention) ? "IdentityOp" : backend.norm;
    places.mlp = mlp.spec;
    places.pre_mlp_layernorm = mlp.fuses_norm ? "IdentityOp" : backend.norm;
  }
  return layers;
}

TransformerBlockSubmodules get_transformer_block_with_experimental_attention_variant_spec(
    const BlockArguments& arguments, const PipelinePlace& place, const OptionalBackend& given) {
  const BackendSpecProvider backend = given ? *given : _get_backend_spec_provider(arguments);
  const auto all =
      get_transformer_layer_with_experimental_attention_variant_spec(arguments, backend);
  const std::vector<int64_t> local = stage_layers(arguments, place);
  check_index_sources(arguments, local);
  TransformerBlockSubmodules block;
  for (const int64_t layer : local) block.layer_specs.push_back(all.at(layer));
  block.layer_norm = backend.norm;
  if (arguments.mtp_num_layers.value_or(0) > 0) {
    block.mtp_layer = all.back();
    if (const auto source = mtp_source_layer(arguments)) {
      block.mtp_layer = all.at(*source);
    } else {
      block.mtp_layer->submodules.self_attention =
          _get_self_attention_module_spec(arguments, backend);
    }
  }
  return block;
}

std::optional<int64_t> mtp_source_layer(const BlockArguments& arguments) {
  if (!is_linear_attention_variant(arguments.experimental_attention_variant))
    return arguments.num_layers - 1;
  const std::vector<int64_t> pattern = get_linear_attention_pattern(arguments);
  const auto last = std::find(pattern.rbegin(), pattern.rend(), 0);
  if (last == pattern.rend()) return std::nullopt;
  return static_cast<int64_t>(pattern.rend() - last) - 1;
}

int64_t dsa_index_source(const BlockArguments& arguments, int64_t layer_number) {
  const int64_t offset = std::max<int64_t>(arguments.dsa_indexer_skip_topk_offset, 1);
  if (layer_number <= offset) return layer_number;
  return layer_number - (layer_number - offset) % arguments.dsa_indexer_topk_freq;
}

Json slice_json(const TransformerBlockSubmodules& block, const PipelinePlace& place) {
  Json slice;
  slice["pp_rank"] = place.pp_rank;
  slice["vp_stage"] = place.vp_stage ? Json(*place.vp_stage) : Json();
  slice["layers"] = Json::array();
  for (const TransformerLayerModule& layer : block.layer_specs) {
    const TransformerLayerSubmodules& places = layer.submodules;
    Json entry;
    entry["global_layer_id"] = layer.global_layer_id;
    entry["layer_class"] = layer.layer_class;
    entry["attention"] = places.self_attention->module;
    entry["fuse_input_layernorm"] = fuses_input_norm(*places.self_attention);
    entry["input_layernorm"] = places.input_layernorm;
    entry["pre_mlp_layernorm"] = places.pre_mlp_layernorm;
    entry["mlp"] = places.mlp->module;
    slice["layers"].push_back(std::move(entry));
  }
  slice["final_layer_norm"] = block.layer_norm;
  return slice;
}

}  // namespace headway::spec
