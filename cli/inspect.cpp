// `headway inspect` draws a model layer by layer; `headway validate` only says whether it is one.
#include <cstdio>
#include <memory>
#include <optional>

#include "headway/base/error.h"
#include "headway/base/logging.h"
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
  std::optional<int64_t> pp_rank;
  std::optional<int64_t> vp_stage;
  int64_t context = 0;
  bool json = false;
};

void add_model(CLI::App& command, Options& options, bool required) {
  command
      .add_option("model", options.model,
                  "run.yaml, a checkpoint folder, its config.json, or a run folder")
      ->required(required);
  command.add_option("overrides", options.overrides, "a.b=value: changes to a run file");
  command.add_flag("--json", options.json, "Machine-readable output on stdout");
}

/// The slices of the pipeline asked for: all, those of a rank, or one.
std::vector<spec::PipelinePlace> places_of(const Options& options,
                                           const spec::BlockArguments& arguments) {
  if (options.vp_stage && !options.pp_rank)
    throw ConfigError("[inspect] --vp-stage: allowed only with --pp-rank");
  std::vector<spec::PipelinePlace> places;
  if (options.pp_rank && (options.vp_stage || spec::virtual_stages(arguments) == 1)) {
    places.push_back({*options.pp_rank, options.vp_stage});
    return places;
  }
  for (const spec::PipelinePlace& place : spec::pipeline_places(arguments)) {
    if (!options.pp_rank || place.pp_rank == *options.pp_rank) places.push_back(place);
  }
  if (places.empty()) {
    throw ConfigError("[inspect] --pp-rank = " + std::to_string(*options.pp_rank) +
                      ", allowed 0 to " +
                      std::to_string(arguments.pipeline_model_parallel_size - 1));
  }
  return places;
}

void print_slice(const Json& slice) {
  std::printf("pipeline rank %s", slice["pp_rank"].dump().c_str());
  if (!slice["vp_stage"].is_null())
    std::printf(", virtual stage %s", slice["vp_stage"].dump().c_str());
  std::printf("\n");
  for (const Json& layer : slice["layers"]) {
    std::printf("  layer %-4s %-26s input norm %-12s MLP norm %-12s %s\n",
                layer["global_layer_id"].dump().c_str(),
                layer["attention"].get_ref<const std::string&>().c_str(),
                layer["input_layernorm"].get_ref<const std::string&>().c_str(),
                layer["pre_mlp_layernorm"].get_ref<const std::string&>().c_str(),
                layer["mlp"].get_ref<const std::string&>().c_str());
  }
}

/// The block specs of Megatron arguments, slice by slice; as text also the model itself, where
/// this build can run it.
void inspect_megatron(const Options& options) {
  if (!options.model.empty() || !options.overrides.empty())
    throw ConfigError("[inspect] model: allowed one of MODEL and --megatron ARGS.json");
  const Json json = parse_json_file(options.megatron, JsonErrors::kConfig);
  const spec::BlockArguments arguments = spec::read_block_arguments(json, options.megatron);
  std::string model;
  try {
    if (options.json) {
      spec::read_megatron(json);
    } else {
      spec::CostOptions cost;
      cost.context = options.context;
      model = spec::describe_text(spec::from_megatron(json), cost);
    }
  } catch (const UnsupportedError& error) {
    log(LogLevel::kInfo, error.what());
  }
  Json slices = Json::array();
  for (const spec::PipelinePlace& place : places_of(options, arguments)) {
    slices.push_back(spec::slice_json(
        spec::get_transformer_block_with_experimental_attention_variant_spec(arguments, place),
        place));
  }
  const bool one = options.vp_stage || (options.pp_rank && slices.size() == 1);
  if (options.json) return print_json(one ? slices[0] : slices);
  std::printf("%s (Megatron arguments)\n%s", options.megatron.c_str(), model.c_str());
  for (const Json& slice : slices) print_slice(slice);
}

void inspect(const Options& options) {
  if (!options.megatron.empty()) return inspect_megatron(options);
  if (options.model.empty())
    throw ConfigError("[inspect] model: allowed one of MODEL and --megatron ARGS.json");
  if (options.pp_rank || options.vp_stage)
    throw ConfigError("[inspect] --pp-rank, --vp-stage: allowed only with --megatron");
  const ModelDocument document = read_model_document(options.model, options.overrides);
  spec::CostOptions cost;
  cost.context = options.context;
  if (options.json) {
    Json report = spec::describe_json(document.spec, cost);
    report["source"] = document.kind;
    return print_json(report);
  }
  std::printf("%s (%s)\n%s", options.model.c_str(), document.kind.c_str(),
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
                      "JSON file of Megatron arguments, in place of a model: its block specs");
  command->add_option("--pp-rank", options->pp_rank, "Only the slices of this pipeline rank");
  command->add_option("--vp-stage", options->vp_stage, "Only this virtual stage of it");
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
