// The options --model, --dtype and --device and what they load. Not for: running the model.
#include "cli/model_options.h"

#include "headway/base/enum_table.h"
#include "headway/base/error.h"
#include "headway/config/run_config.h"
#include "headway/engine/machine.h"

namespace headway::cli {

void add_model_options(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--model", options.model,
                  "Model folder: a checkpoint, an imported folder, or a run")
      ->required();
  command.add_option("--adapter", options.adapter,
                     "Adapter in PEFT's format to merge: a folder, or a run that trained one");
  command.add_option("--dtype", options.dtype, "float32 | float64 | bfloat16")
      ->capture_default_str();
  command.add_option("--device", options.device, "cpu | cuda")->capture_default_str();
}

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float64") return at::kDouble;
  if (name == "bfloat16") return at::kBFloat16;
  throw ConfigError("[--dtype] value = '" + name + "', allowed float32 | float64 | bfloat16");
}

engine::LoadedModel load(const ModelOptions& options) {
  const auto device = enum_parse<config::Device>(options.device);
  if (!device) {
    throw ConfigError("[--device] value = '" + options.device + "', allowed " +
                      enum_allowed<config::Device>());
  }
  std::optional<std::filesystem::path> adapter;
  if (!options.adapter.empty()) adapter = options.adapter;
  return engine::load_model(options.model, parse_dtype(options.dtype),
                            engine::resolve_device(*device), adapter);
}

}  // namespace headway::cli
