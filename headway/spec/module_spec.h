// Module specs: which module stands where in a layer, by name, as Megatron-Core describes stacks.
// Not for: sizes or tensors (model_spec.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headway/base/json.h"

namespace headway::spec {

struct ModuleSpec;
/// Built once and shared by every layer that uses it; never changed afterwards.
using SharedModule = std::shared_ptr<const ModuleSpec>;

struct ModuleSpec {
  std::string module;    // class name
  bool partial = false;  // a builder with arguments bound, not a class
  Json params = Json::object();
  Json metainfo = Json::object();
  std::vector<std::pair<std::string, SharedModule>> submodules;

  /// The submodule of that name, or null.
  const ModuleSpec* find(const std::string& name) const;
};

/// A module without anything but its name.
SharedModule plain_module(std::string name);

/// A name alone, or {class|partial, params, metainfo, submodules} without the empty ones.
Json module_json(const ModuleSpec& spec);

/// The places of one decoder layer, in the order they run.
struct TransformerLayerSubmodules {
  std::string input_layernorm;
  SharedModule self_attention;
  std::string self_attn_bda = "get_bias_dropout_add";
  std::string pre_mlp_layernorm;
  SharedModule mlp;
  std::string mlp_bda = "get_bias_dropout_add";
};

struct TransformerLayerModule {
  int64_t global_layer_id = 0;  // from 0
  std::string layer_class = "TransformerLayer";
  TransformerLayerSubmodules submodules;
};

/// One pipeline slice. `layer_norm` is always named; the stage that holds the last decoder layer of
/// the model builds it. `mtp_layer` is what multi-token prediction repeats, on every slice.
struct TransformerBlockSubmodules {
  std::vector<TransformerLayerModule> layer_specs;
  std::string layer_norm;
  std::optional<TransformerLayerModule> mtp_layer;
};

}  // namespace headway::spec
