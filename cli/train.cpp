// `headway train`: a run file to checkpoints and metrics.
#include <cstdio>
#include <memory>

#include <unistd.h>

#include "headway/base/error.h"
#include "headway/config/load.h"
#include "headway/engine/train_run.h"

#include "cli/command.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"

namespace headway::cli {
namespace {

struct Options {
  std::string run;
  std::vector<std::string> overrides;
  bool resume = false;
  std::string device;
  std::string checks;
  bool json = false;
};

const char* end_name(engine::TrainEnd end) {
  switch (end) {
    case engine::TrainEnd::kFinished:
      return "finished";
    case engine::TrainEnd::kStopped:
      return "stopped";
    case engine::TrainEnd::kAlreadyFinished:
      return "already finished";
  }
  return "?";
}

void run(const Options& options) {
  std::vector<std::string> overrides = options.overrides;
  if (!options.device.empty()) overrides.push_back("train.device=" + options.device);
  const config::RunConfig config = config::load_run(options.run, overrides);
  ConsoleProgress progress(stderr, isatty(fileno(stderr)) != 0);
  engine::TrainOptions train;
  train.resume = options.resume;
  train.realtime_checks = options.checks == "realtime";
  train.observer = &progress;
  train.stop = &stop_on_signals();
  train.tokenize_progress = [&progress](const data::TokenizeProgress& done) {
    progress.on_tokenize(done);
  };
  const engine::TrainOutcome outcome = engine::train_run(config, train);
  progress.finish_line();
  if (options.json) {
    Json report{{"end", end_name(outcome.end)},
                {"step", outcome.step},
                {"checkpoint", outcome.checkpoint.string()},
                {"val_loss", nullptr}};
    if (outcome.val_loss) report["val_loss"] = *outcome.val_loss;
    return print_json(report);
  }
  std::printf("%s at step %lld: %s\n", end_name(outcome.end), static_cast<long long>(outcome.step),
              outcome.checkpoint.string().c_str());
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("train", "Train the model of a run file");
  command->add_option("run", options->run, "run.yaml")->required();
  command->add_option("overrides", options->overrides, "a.b=value: changes to the run file");
  command->add_flag("--resume", options->resume,
                    "Go on from the newest checkpoint of the output folder");
  command->add_option("--device", options->device, "cpu | cuda, instead of train.device");
  command->add_option("--checks", options->checks, "realtime: look at every tensor on its way")
      ->check(CLI::IsMember({"realtime"}));
  command->add_flag("--json", options->json, "Machine-readable outcome on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
