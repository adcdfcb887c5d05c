// See adapter_run.h. Not for: choosing projections (io/adapter_targets.cpp).
#include "headway/engine/adapter_run.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/loaded_model.h"
#include "headway/nn/adapter.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

/// Keeps `parameters` alive for the content that refers to them.
struct Held {
  std::map<std::string, at::Tensor> parameters;
  io::AdapterContent content;

  Held(const AdapterRun& run, const nn::Parameters& model) : parameters(named_tensors(model)) {
    content.adapter = model.adapter();
    content.tensors = &model.specs();
    content.parameters = &parameters;
    content.modules = run.targets.modules;
    content.targets = run.targets.targets;
    content.base = run.base.string();
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
};

void log_sizes(const AdapterRun& run, const nn::Parameters& parameters) {
  int64_t trained = 0, all = 0;
  for (const spec::TensorSpec& tensor : parameters.specs()) {
    all += tensor.numel();
    if (tensor.trainable) trained += tensor.numel();
  }
  log(LogLevel::kInfo,
      fmt::format(
          "[train] adapter = {} of rank {} beside {} projections: {} of {} parameters train",
          enum_name(run.targets.adapter.kind), run.targets.adapter.rank,
          run.targets.adapter.segments.size(), trained, all));
}

}  // namespace

AdapterRun resolve_adapter(const config::AdapterConfig& config, const io::Checkpoint& checkpoint) {
  if (checkpoint.adapter) {
    throw ConfigError(fmt::format(
        "model.hf = {}: allowed a model beside model.adapter; hint: model.adapter.from trains an "
        "adapter on, `headway convert` merges one",
        checkpoint.adapter->folder.string()));
  }
  std::error_code error;
  const fs::path base = fs::canonical(checkpoint.folder, error);
  return {io::find_targets(config, checkpoint), error ? checkpoint.folder : base};
}

void start_adapter(const AdapterRun& run, const config::AdapterConfig& config, uint64_t seed,
                   nn::Transformer& model) {
  log_sizes(run, model.parameters());
  if (config.from) return restore_adapter(run, model, *config.from);
  model.parameters().initialise_trained(seed);
  nn::reset_magnitudes(model.parameters());
}

void save_adapter(const AdapterRun& run, const nn::Transformer& model, const fs::path& folder) {
  const Held held(run, model.parameters());
  io::copy_side_files(run.base, folder);
  io::write_adapter(folder, held.content);
}

void restore_adapter(const AdapterRun& run, nn::Transformer& model, const fs::path& folder) {
  const Held held(run, model.parameters());
  io::load_adapter(folder, held.content);
}

}  // namespace headway::engine
