// `headway eval`: scores tokens in a file, or the loss and perplexity of a text.
#include <cmath>
#include <cstdio>
#include <memory>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/data/dataset.h"
#include "headway/engine/evaluation_file.h"
#include "headway/engine/train_step.h"
#include "headway/io/safetensors_writer.h"

#include "cli/command.h"
#include "cli/model_options.h"

namespace headway::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string tokens;
  std::string out;
  std::string with = "logits,loss";
  std::string text;
  int64_t sequence_length = 0;
  bool json = false;
};

constexpr int64_t kLongestDefault = 1024;
constexpr int64_t kBatchTokens = 4096;

/// Switches on what `--with` lists.
void choose(engine::EvaluationRequest& request, bool& loss, const std::string& with) {
  request.logits = request.hidden = request.gradients = request.mtp = loss = false;
  for (const std::string& name : split(with, ',')) {
    if (name == "logits")
      request.logits = true;
    else if (name == "loss")
      loss = true;
    else if (name == "grads")
      request.gradients = true;
    else if (name == "hidden")
      request.hidden = true;
    else if (name == "mtp")
      request.mtp = true;
    else
      throw ConfigError("[eval] --with = '" + name +
                        "', allowed logits | loss | grads | hidden | mtp, separated by commas");
  }
}

void score_tokens(const Options& options) {
  engine::EvaluationRequest request = engine::read_evaluation_request(options.tokens);
  bool loss = false;
  choose(request, loss, options.with);
  const bool labelled = request.labels_BS.defined();
  if (!loss && !request.gradients && !request.mtp) request.labels_BS.reset();
  const engine::LoadedModel loaded = load(options.model);
  const engine::Evaluation evaluation = engine::evaluate(*loaded.model, request);
  io::write_safetensors(options.out, engine::evaluation_tensors(loaded, evaluation));
  Json report{{"out", options.out}, {"loss", nullptr}};
  if (evaluation.loss.defined()) report["loss"] = evaluation.loss.item<double>();
  if (!evaluation.mtp_loss.empty()) report["mtp_loss"] = evaluation.mtp_loss;
  if (options.json) return print_json(report);
  if (evaluation.loss.defined())
    std::printf("loss %.6f\n", evaluation.loss.item<double>());
  else if (loss && !labelled)
    std::printf("no labels in %s: no loss\n", options.tokens.c_str());
  std::printf("wrote %s\n", options.out.c_str());
}

void score_text(const Options& options) {
  const engine::LoadedModel loaded = load(options.model);
  const int64_t length = options.sequence_length > 0
                             ? options.sequence_length
                             : std::min(kLongestDefault, loaded.checkpoint.spec.max_positions);
  const data::PackedSamples samples =
      data::open_text({options.text}, loaded.tokenizer.require(), {length, false});
  const engine::StepLoss loss =
      engine::held_out_loss(*loaded.model, samples, std::max<int64_t>(1, kBatchTokens / length));
  const double perplexity = std::exp(loss.loss);
  if (options.json) {
    Json report{{"loss", loss.loss},
                {"perplexity", perplexity},
                {"tokens", loss.num_counted},
                {"sequence_length", length}};
    if (!loss.mtp.empty()) report["mtp_loss"] = loss.mtp;
    return print_json(report);
  }
  std::printf("loss %.4f  perplexity %.3f  over %lld tokens\n", loss.loss, perplexity,
              static_cast<long long>(loss.num_counted));
}

void run(const Options& options) {
  if (!options.text.empty()) return score_text(options);
  if (options.out.empty()) throw ConfigError("[eval] --out: missing, required with --tokens");
  score_tokens(options);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand(
      "eval", "Logits, loss and gradients of given tokens, or the loss of a text");
  add_model_options(*command, options->model);
  auto* input = command->add_option_group("input", "what to score");
  input->add_option("--tokens", options->tokens,
                    "safetensors file: input_ids, labels, mm_token_type_ids, each [B,S]");
  input->add_option("--text", options->text, "Text file, JSONL file or folder");
  input->require_option(1);
  command->add_option("--out", options->out, "safetensors file to write (with --tokens)");
  command->add_option("--with", options->with, "logits, loss, grads, hidden, mtp")
      ->capture_default_str();
  command
      ->add_option("--sequence-length", options->sequence_length,
                   "Tokens scored together (with --text)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
}

}  // namespace headway::cli
