// `headway probe`: one module on given tensors, with gradients, for comparison with another
// framework.
#include "headway/engine/probe.h"

#include <cstdio>
#include <memory>

#include "headway/base/error.h"
#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"

#include "cli/command.h"
#include "cli/model_options.h"

namespace headway::cli {
namespace {

struct Options {
  std::string module;
  std::string in;
  std::string out;
  std::string config;
  std::string dtype;
};

void run(const Options& options) {
  engine::ProbeRequest request;
  request.module = options.module;
  if (!options.dtype.empty()) request.dtype = parse_dtype(options.dtype);
  if (!options.config.empty()) {
    request.config = parse_json_file(options.config, JsonErrors::kConfig);
  }
  request.metadata = io::SafetensorsFile(options.in).header().metadata;
  request.tensors = io::load_safetensors(options.in);
  const auto result = engine::probe(request);
  io::write_safetensors(options.out, result);
  std::fprintf(stderr, "headway: wrote %zu tensors to %s\n", result.size(), options.out.c_str());
}

}  // namespace

void add_probe(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("probe", "Run one module on given tensors, with gradients");
  command->add_option("module", options->module, engine::probe_modules())->required();
  command->add_option("--in", options->in, "safetensors file: inputs, param.*, cotangent")
      ->required();
  command->add_option("--out", options->out, "safetensors file to write")->required();
  command->add_option("--config", options->config, "JSON file in place of the metadata's config");
  command->add_option("--dtype", options->dtype,
                      "float32 | float64 | bfloat16 (default: that of the inputs)");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
