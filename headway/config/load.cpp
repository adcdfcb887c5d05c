// From a file and overrides to a checked RunConfig; rules over data and training.
// Not for: rules over the model (check_model.cpp).
#include "headway/config/load.h"

#include <filesystem>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/base/file_util.h"
#include "headway/config/overrides.h"
#include "headway/config/yaml.h"

namespace headway::config {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 20;

Json parse_document(std::string_view text, const std::string& source) {
  if (source.ends_with(".json")) {
    JsonLimits limits;
    limits.max_bytes = kMaxFileBytes;
    return parse_json(text, source, JsonErrors::kConfig, limits);
  }
  return parse_yaml(text, source);
}

// Where a Hugging Face folder is the model, its tokenizer is the tokenizer unless another is named.
void fill_tokenizer(Json& document) {
  if (!document.is_object() || !document.contains("model")) return;
  Json& model = document["model"];
  if (!model.is_object() || !model.contains("hf") || model.contains("tokenizer")) return;
  if (model["hf"].is_string()) model["tokenizer"] = model["hf"];
}

class RunChecker {
 public:
  RunChecker(const RunConfig& run, const LoadOptions& options, Problems& problems)
      : run_(run), options_(options), problems_(problems) {}

  void run() {
    if (!problems_.touches_above("model")) check_model_rules(run_.model, "model", problems_);
    if (options_.needs_training) {
      if (run_.data.train.empty()) missing("data.train", "a list of files or folders");
      if (run_.output.empty()) missing("output", "a folder");
    }
    check_paths(run_.data.train, "data.train");
    check_paths(run_.data.validation, "data.validation");
    check_tokens();
    check_schedule();
    check_recompute();
    check_fine_tuning();
  }

 private:
  void missing(const std::string& path, std::string_view allowed) {
    if (!problems_.touches(path)) problems_.add(path, fmt::format("missing; allowed {}", allowed));
  }

  bool sound(const std::string& path) const { return !problems_.touches(path); }

  void check_paths(const std::vector<std::string>& paths, const std::string& at) {
    for (size_t i = 0; i < paths.size(); ++i) {
      if (paths[i].empty() && sound(index_path(at, i))) {
        problems_.add_value(index_path(at, i), "\"\"", "a file or folder");
      }
    }
  }

  // `part` must be a multiple of `whole`'s value.
  void check_multiple(const std::string& path, int64_t value, const std::string& unit_path,
                      int64_t unit) {
    if (!sound(path) || !sound(unit_path) || unit <= 0 || value % unit == 0) return;
    problems_.add_value(path, std::to_string(value),
                        fmt::format("a multiple of {} (= {})", unit_path, unit));
  }

  void check_tokens() {
    const int64_t length = run_.data.sequence_length;
    check_multiple("train.batch_tokens", run_.train.batch_tokens, "data.sequence_length", length);
    if (run_.train.micro_batch_tokens) {
      check_multiple("train.micro_batch_tokens", *run_.train.micro_batch_tokens,
                     "data.sequence_length", length);
    }
    const bool native = options_.needs_training && !run_.model.hf && run_.model.megatron.is_null();
    const bool known = sound("data.sequence_length") && sound("model.max_positions");
    if (native && known && length > run_.model.max_positions) {
      problems_.add_value(
          "data.sequence_length", std::to_string(length),
          fmt::format("at most model.max_positions (= {})", run_.model.max_positions));
    }
  }

  void check_schedule() {
    const ScheduleConfig& schedule = run_.train.schedule;
    const std::string warmup = "train.schedule.warmup_steps";
    const std::string decay = "train.schedule.decay_steps";
    if (!sound("train.steps") || !sound(warmup)) return;
    const int64_t frozen = run_.train.index_warmup ? run_.train.index_warmup->steps : 0;
    const int64_t steps = run_.train.steps - frozen;
    if (frozen > 0 && steps <= 0) return;  // no step follows a schedule
    const std::string whole = frozen > 0 ? "train.steps - train.index_warmup.steps" : "train.steps";
    if (schedule.warmup_steps > steps) {
      problems_.add_value(warmup, std::to_string(schedule.warmup_steps),
                          fmt::format("at most {} (= {})", whole, steps));
      return;
    }
    if (!schedule.decay_steps || !sound(decay)) return;
    if (schedule.kind == ScheduleKind::kConstant) {
      problems_.add_value(decay, std::to_string(*schedule.decay_steps), "none for kind constant");
    } else if (*schedule.decay_steps > steps - schedule.warmup_steps) {
      problems_.add_value(
          decay, std::to_string(*schedule.decay_steps),
          fmt::format("at most steps - warmup_steps (= {})", steps - schedule.warmup_steps));
    }
  }

  void check_fine_tuning() {
    if (run_.data.chat && run_.data.cross_document && sound("data.cross_document")) {
      problems_.add_value("data.cross_document", "true",
                          "false with data.chat: a conversation sees no other one");
    }
    if (!run_.model.adapter) return;
    if (run_.train.qk_clip && sound("train.qk_clip")) {
      problems_.add("train.qk_clip",
                    "not allowed with model.adapter: it shrinks weights, which are frozen");
    }
    if (run_.train.delay_wgrad && sound("train.delay_wgrad")) {
      problems_.add_value("train.delay_wgrad", "true",
                          "false with model.adapter: no weight gradient is left to wait");
    }
  }

  void check_recompute() {
    const RecomputeConfig& recompute = run_.train.recompute;
    const std::string path = "train.recompute";
    if (!sound(path + ".granularity")) return;
    const std::string granularity(enum_name(recompute.granularity));
    const bool full = recompute.granularity == RecomputeGranularity::kFull;
    const auto check_full = [&](const char* field, bool given, const char* allowed) {
      const std::string at = join_path(path, field);
      if (full && !given && sound(at)) {
        problems_.add(at, fmt::format("missing; granularity full needs {}", allowed));
      } else if (!full && given) {
        problems_.add(at, fmt::format("not allowed with granularity {}", granularity));
      }
    };
    check_full("method", recompute.method.has_value(), "block | uniform");
    check_full("num_layers", recompute.num_layers.has_value(), "an integer >= 1");
    const bool selective = recompute.granularity == RecomputeGranularity::kSelective;
    if (!selective && recompute.modules != RecomputeConfig{}.modules) {
      problems_.add(path + ".modules", fmt::format("not allowed with granularity {}", granularity));
    }
  }

  const RunConfig& run_;
  const LoadOptions& options_;
  Problems& problems_;
};

}  // namespace

RunConfig parse_run(std::string_view text, const std::string& source,
                    const std::vector<std::string>& overrides, const LoadOptions& options) {
  Json document = parse_document(text, source);
  Sources sources(source);
  std::vector<std::string> lines;
  apply_overrides(overrides, document, sources, lines);
  fill_tokenizer(document);
  Problems problems(std::move(sources));
  RunConfig run;
  read_fields(document, "", run, problems);
  RunChecker(run, options, problems).run();
  for (std::string& line : problems.lines()) lines.push_back(std::move(line));
  if (!lines.empty()) throw ConfigError(std::move(lines));
  return run;
}

RunConfig load_run(const std::string& path, const std::vector<std::string>& overrides,
                   const LoadOptions& options) {
  return parse_run(read_file(path, kMaxFileBytes), path, overrides, options);
}

Json to_json(const RunConfig& run) { return write_fields(run); }

std::string to_yaml(const RunConfig& run) { return emit_yaml(to_json(run)); }

}  // namespace headway::config
