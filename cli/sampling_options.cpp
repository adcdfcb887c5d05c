// Options of the sampler. Not for: their ranges, which the engine checks.
#include "cli/sampling_options.h"

namespace headway::cli {

void add_sampling_options(CLI::App& command, engine::GenerateOptions& generate) {
  command.add_option("--temperature", generate.sampler.temperature, "0 takes the likeliest token")
      ->capture_default_str();
  command.add_option("--top-k", generate.sampler.top_k, "Keep the k likeliest tokens; 0 = all")
      ->capture_default_str();
  command.add_option("--top-p", generate.sampler.top_p, "Keep the likeliest tokens up to this sum")
      ->capture_default_str();
  command
      .add_option("--min-p", generate.sampler.min_p,
                  "Keep tokens at least this part as likely as the likeliest")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", generate.sampler.repetition_penalty,
                  "Above 1 discourages what was said")
      ->capture_default_str();
  command.add_option("--stop", generate.stop, "Text that ends the output; may be given again");
  command.add_option("--seed", generate.seed, "Of the draws")->capture_default_str();
}

}  // namespace headway::cli
