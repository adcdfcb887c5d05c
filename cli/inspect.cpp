// `headway inspect` draws a model layer by layer; `headway validate` only says whether it is one.
#include <cstdio>
#include <memory>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/spec/cost.h"
#include "headway/spec/describe.h"
#include "headway/spec/megatron.h"

#include "cli/command.h"
#include "cli/model_document.h"

namespace headway::cli {
namespace {

struct Options {
  std::string model;
  std::string megatron;
  std::vector<std::string> overrides;
  int64_t context = 0;
  bool json = false;
};

void add_model(CLI::App& command, Options& options, bool required) {
  command.add_option("model", options.model, "run.yaml, a checkpoint folder, or a run folder")
      ->required(required);
  command.add_option("overrides", options.overrides, "a.b=value: changes to a run file");
  command.add_flag("--json", options.json, "Machine-readable output on stdout");
}

/// What to inspect: a model, or the arguments of one.
ModelDocument document_of(const Options& options) {
  if (options.model.empty() == options.megatron.empty()) {
    throw ConfigError("[inspect] model: allowed one of MODEL and --megatron ARGS.json");
  }
  if (options.megatron.empty()) return read_model_document(options.model, options.overrides);
  const Json arguments = parse_json_file(options.megatron, JsonErrors::kConfig);
  return {spec::from_megatron(arguments), "Megatron arguments"};
}

void inspect(const Options& options) {
  const ModelDocument document = document_of(options);
  spec::CostOptions cost;
  cost.context = options.context;
  if (options.json) {
    Json report = spec::describe_json(document.spec, cost);
    report["source"] = document.kind;
    return print_json(report);
  }
  const std::string& name = options.megatron.empty() ? options.model : options.megatron;
  std::printf("%s (%s)\n%s", name.c_str(), document.kind.c_str(),
              spec::describe_text(document.spec, cost).c_str());
}

void validate(const Options& options) {
  const ModelDocument document = read_model_document(options.model, options.overrides);
  const int64_t parameters = spec::cost(document.spec).total.parameters;
  if (options.json) {
    return print_json({{"valid", true},
                       {"source", document.kind},
                       {"layers", document.spec.layers.size()},
                       {"parameters", parameters}});
  }
  std::printf("%s: valid (%s), %zu layers, %lld parameters\n", options.model.c_str(),
              document.kind.c_str(), document.spec.layers.size(),
              static_cast<long long>(parameters));
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand(
      "inspect", "Draw a model layer by layer, with parameters, FLOPs and state");
  add_model(*command, *options, false);
  command->add_option("--megatron", options->megatron,
                      "JSON file of Megatron arguments, in place of a model");
  command
      ->add_option("--context", options->context,
                   "Tokens to count state and FLOPs for (default: the model's)")
      ->check(CLI::PositiveNumber);
  command->callback([options] { inspect(*options); });
}

void add_validate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command =
      app.add_subcommand("validate", "Check a run file or a model folder; every problem at once");
  add_model(*command, *options, true);
  command->callback([options] { validate(*options); });
}

}  // namespace headway::cli
