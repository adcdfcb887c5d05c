// See index_warmup.h. Not for: learning rates (schedule.h).
#include "headway/engine/index_warmup.h"

#include <algorithm>
#include <string>

#include "headway/base/error.h"
#include "headway/spec/latent_attention.h"

namespace headway::engine {
namespace {

constexpr const char* kIndexer = ".mixer.indexer.";

bool learns(const spec::LayerSpec& layer) {
  const spec::LatentAttentionSpec* mixer = spec::latent_of(layer);
  return mixer != nullptr && mixer->indexer && mixer->indexer->loss > 0;
}

}  // namespace

bool in_index_warmup(const config::TrainConfig& train, int64_t step) {
  return train.index_warmup && step <= train.index_warmup->steps;
}

bool has_learning_indexer(const spec::ModelSpec& model) {
  return std::any_of(model.layers.begin(), model.layers.end(), learns);
}

void check_index_warmup(const config::RunConfig& run, const spec::ModelSpec& model) {
  const auto& given = run.train.index_warmup;
  if (!given) return;
  const std::string what = "train.index_warmup = {steps: " + std::to_string(given->steps) + "}: ";
  if (!has_learning_indexer(model)) {
    throw ConfigError(what + "allowed with a layer whose latent_attention.indexer.loss is above 0");
  }
  if (run.model.adapter) throw ConfigError(what + "not allowed with model.adapter");
}

OnlyIndexersLearn::OnlyIndexersLearn(const nn::Parameters& parameters) {
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const at::Tensor& tensor = parameters.tensors()[i];
    const bool indexer = parameters.specs()[i].name.find(kIndexer) != std::string::npos;
    if (indexer || !tensor.requires_grad()) continue;
    tensor.set_requires_grad(false);
    frozen_.push_back(tensor);
  }
}

OnlyIndexersLearn::~OnlyIndexersLearn() {
  for (const at::Tensor& tensor : frozen_) tensor.set_requires_grad(true);
}

}  // namespace headway::engine
