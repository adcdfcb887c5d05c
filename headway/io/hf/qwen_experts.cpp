// See qwen_experts.h. Not for: single families.
#include "headway/io/hf/qwen_experts.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/io/hf/moe_family.h"

namespace headway::io {

std::vector<bool> read_sparse_layers(ConfigReader& config, size_t layers) {
  const int64_t step = config.integer("decoder_sparse_step", {1, config::kMaxLayers}, 1);
  std::set<int64_t> dense;
  if (const Json* list = config.find("mlp_only_layers")) {
    const bool numbers = list->is_array() && std::ranges::all_of(*list, [](const Json& item) {
                           return item.is_number_integer() && item >= 0;
                         });
    if (!numbers) config.problem("mlp_only_layers", "a list of layer numbers");
    for (size_t i = 0; numbers && i < list->size(); ++i) dense.insert((*list)[i].get<int64_t>());
  }
  std::vector<bool> sparse(layers);
  for (size_t i = 0; i < layers; ++i) {
    const auto number = static_cast<int64_t>(i);
    sparse[i] = (number + 1) % step == 0 && !dense.contains(number);
  }
  return sparse;
}

int64_t read_expert_count(ConfigReader& config, const QwenExperts& family) {
  const IntegerRange range{0, config::kMaxExperts};
  const auto name = config.optional_integer("num_experts", range);
  const auto other = config.optional_integer("num_local_experts", range);
  if (name && other && *name != *other) {
    config.problem("num_local_experts", fmt::format("the value of num_experts (= {})", *name));
  }
  return name ? *name : other.value_or(family.num_experts);
}

spec::MoeSpec read_qwen_experts(ConfigReader& config, spec::Activation activation,
                                int64_t num_experts, const QwenExperts& family) {
  const IntegerRange width{1, config::kMaxWidth};
  spec::MoeSpec moe;
  moe.num_experts = std::max<int64_t>(num_experts, 1);
  moe.top_k = config.integer("num_experts_per_tok", {1, config::kMaxExperts}, family.top_k);
  moe.intermediate_size = config.integer("moe_intermediate_size", width, family.width);
  moe.activation = activation;
  if (family.normalize) {
    moe.router.normalize = config.boolean("norm_topk_prob", *family.normalize);
  }
  if (family.shared_width) {
    spec::SharedExpertSpec& shared = moe.shared.emplace();
    shared.intermediate_size =
        config.integer("shared_expert_intermediate_size", width, *family.shared_width);
    shared.gate = true;
  }
  return moe;
}

void add_qwen_experts(ConfigReader& config, spec::ModelSpec& model, const QwenExperts& family) {
  const auto sparse = read_sparse_layers(config, model.layers.size());
  const int64_t experts = read_expert_count(config, family);
  const auto activation = std::get<spec::DenseMlpSpec>(model.layers.front().mlp).activation;
  const spec::MoeSpec moe = read_qwen_experts(config, activation, experts, family);
  for (size_t i = 0; experts > 0 && i < sparse.size(); ++i) {
    if (sparse[i]) model.layers[i].mlp = moe;
  }
}

void write_sparse_layers(const spec::ModelSpec& spec, Json& json) {
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (int64_t i = 0; i < spec::num_blocks(spec); ++i) {
    if (spec::moe_of(spec::block_at(spec, i)) == nullptr) json["mlp_only_layers"].push_back(i);
  }
}

void write_qwen_experts(const spec::ModelSpec& spec, const QwenExperts& family, Json& json) {
  const spec::MoeSpec* moe = first_moe(spec);
  if (moe == nullptr) return;
  json["num_experts"] = moe->num_experts;
  json["num_experts_per_tok"] = moe->top_k;
  json["moe_intermediate_size"] = moe->intermediate_size;
  if (family.normalize) json["norm_topk_prob"] = moe->router.normalize;
  if (family.shared_width) {
    json["shared_expert_intermediate_size"] = moe->shared->intermediate_size;
  }
}

}  // namespace headway::io
