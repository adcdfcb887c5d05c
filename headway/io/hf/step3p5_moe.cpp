// Family `step3p5`: which layers a config makes mixtures of experts, and what these are.
// Not for: dense layers (step3p5_read.cpp) or writing (step3p5.cpp).
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/config/moe_config.h"
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
  auto types = config.layer_texts("mlp_layer_types", frame.layers, frame.extra);
  if (types && types->size() < frame.total()) {
    const auto further = config.layer_texts("mtp_mlp_layer_types", frame.extra, 0);
    for (size_t i = 0; i < frame.extra; ++i) types->push_back(further ? (*further)[i] : "dense");
  }
  const bool has_enum = config.has("moe_layers_enum");
  const bool uses_moe = config.boolean("use_moe", true);
  if (has_enum) {
    layers = read_enum(config);
    std::erase_if(layers, [&](int64_t i) { return i >= static_cast<int64_t>(frame.total()); });
  } else if (!types && uses_moe) {
    for (size_t i = 1; i < frame.layers; ++i) layers.insert(static_cast<int64_t>(i));
  }
  if (types) {
    std::set<int64_t> sparse;
    for (size_t i = 0; i < frame.total(); ++i) {
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

/// A key with two names: the first given counts, and both must agree.
int64_t either(ConfigReader& config, const char* name, const char* other, int64_t most) {
  const IntegerRange range{1, most};
  const auto first = config.optional_integer(name, range);
  const auto second = config.optional_integer(other, range);
  if (first && second && *first != *second) {
    config.problem(other, fmt::format("the value of {} (= {})", name, *first));
  }
  if (first) return *first;
  return second ? *second : config.required_integer(name, range);
}

spec::RouterSpec read_router(ConfigReader& config) {
  spec::RouterSpec router;
  router.score = spec::RouterScore::kSigmoid;
  router.scale = config.number("moe_router_scaling_factor", 1.0);
  router.expert_bias = config.boolean("use_moe_router_bias", true);
  router.normalize = config.boolean("norm_expert_weight", true);
  config.boolean("need_fp32_gate", true);  // routers always compute in float32
  const std::string activation = config.text("moe_router_activation", "sigmoid");
  if (activation == "softmax") {
    router.score = spec::RouterScore::kSoftmax;
    router.normalize = false;  // as the published code does, whatever the key says
    if (router.expert_bias) config.problem("use_moe_router_bias", "false with softmax routing");
  } else if (activation != "sigmoid") {
    config.problem("moe_router_activation", "sigmoid | softmax");
  }
  if (router.expert_bias) router.bias_update_rate = 0;
  return router;
}

}  // namespace

std::vector<std::optional<spec::MoeSpec>> read_moe(ConfigReader& config, const Frame& frame) {
  std::vector<std::optional<spec::MoeSpec>> layers(frame.total());
  const auto sparse = read_moe_layers(config, frame);
  if (sparse.empty()) return layers;
  spec::MoeSpec moe;
  moe.num_experts = either(config, "moe_num_experts", "n_routed_experts", config::kMaxExperts);
  moe.top_k = either(config, "moe_top_k", "num_experts_per_tok", config::kMaxExperts);
  moe.intermediate_size = config.required_integer("moe_intermediate_size", {1, config::kMaxWidth});
  moe.router = read_router(config);
  moe.shared.emplace();
  moe.shared->intermediate_size =
      either(config, "share_expert_dim", "share_expert_dims", config::kMaxWidth);
  const auto limits = config.per_layer("swiglu_limits", frame.layers, frame.extra, 0.0, 0.0);
  const auto shared = config.per_layer("swiglu_limits_shared", frame.layers, frame.extra, 0.0, 0.0);
  const auto limit = [](double value) {
    return value > 0.0 ? std::optional<double>(value) : std::nullopt;
  };
  for (const int64_t layer : sparse) {
    const auto i = static_cast<size_t>(layer);
    moe.limit = limit(limits[i]);
    moe.shared->limit = limit(shared[i]);
    layers[i] = moe;
  }
  if (config.boolean("mlp_bias", false)) config.problem("mlp_bias", "false with experts");
  return layers;
}

}  // namespace headway::io::step3p5
