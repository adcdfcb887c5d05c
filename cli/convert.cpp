// `headway convert`: a checkpoint from one family's layout to another's.
#include "headway/io/convert.h"

#include <cstdio>
#include <memory>

#include "headway/base/text_util.h"
#include "headway/engine/loaded_model.h"

#include "cli/command.h"

namespace headway::cli {
namespace {

struct Options {
  std::string source;
  std::string target;
  std::string adapter;
  io::ConvertOptions convert;
  bool json = false;
};

void run(Options& options) {
  if (!options.adapter.empty()) {
    options.convert.adapter = engine::find_model_folder(options.adapter);
  }
  const io::ConvertReport report =
      io::convert(engine::find_model_folder(options.source), options.target, options.convert);
  if (options.json) {
    return print_json({{"from", report.from},
                       {"to", report.to},
                       {"tensors", report.tensors},
                       {"bytes", report.bytes},
                       {"verified", report.verified},
                       {"notes", report.notes}});
  }
  for (const std::string& note : report.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  std::printf("%s -> %s: %zu tensors, %lld bytes%s in %s\n", report.from.c_str(), report.to.c_str(),
              report.tensors, static_cast<long long>(report.bytes),
              report.verified ? ", verified," : "", options.target.c_str());
}

}  // namespace

void add_convert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command =
      app.add_subcommand("convert", "Rewrite a checkpoint in a family's published layout");
  command->add_option("source", options->source, "Model folder, or a run folder")->required();
  command->add_option("target", options->target, "Folder to make; must not exist or be empty")
      ->required();
  command->add_option("--to", options->convert.to,
                      "Family: headway, llama, mistral, qwen3, step3p5");
  command->add_option("--adapter", options->adapter,
                      "Adapter in PEFT's format to merge: a folder, or a run that trained one");
  command->add_flag("--verify", options->convert.verify,
                    "Read back what was written and compare every byte");
  command
      ->add_option("--allow-missing", options->convert.account.allow_missing,
                   "Globs of tensors that may be missing")
      ->delimiter(',');
  command
      ->add_option("--allow-unexpected", options->convert.account.allow_unexpected,
                   "Globs of tensors that may be left out")
      ->delimiter(',');
  command->add_flag("--untie", options->convert.untie,
                    "Keep a head that differs from the tied embedding");
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
