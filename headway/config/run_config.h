// A whole run file: model, data, training, output. Every default but data.train and output is here.
// Not for: reading files (load.h) or values that depend on the machine.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "headway/config/chat_config.h"
#include "headway/config/model_config.h"
#include "headway/config/qk_clip_config.h"
#include "headway/config/recompute_config.h"

namespace headway::config {

enum class Dtype { kAuto, kFloat32, kBFloat16, kFloat64 };
enum class Device { kCpu, kCuda };
enum class ScheduleKind { kCosine, kLinear, kWsd, kConstant };

struct DataConfig {
  std::vector<std::string> train;       // files or folders of text or JSONL
  std::vector<std::string> validation;  // none given: the last part of `train`
  double validation_fraction = 0.02;
  int64_t sequence_length = 256;
  bool cross_document = false;
  std::optional<int64_t> shuffle_seed;  // none = train.seed
  std::string text_field = "text";
  std::optional<ChatDataConfig> chat;  // none: text
  bool operator==(const DataConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using D = DataConfig;
    v.field("train", &D::train, "text files, JSONL files or folders of them");
    v.field("validation", &D::validation,
            "held-out files; none given = the end of the training stream");
    v.field("validation_fraction", &D::validation_fraction,
            "held-out part of the stream where `validation` is empty; 0 = no evaluation",
            from_below(0, 1));
    v.field("sequence_length", &D::sequence_length, "tokens of a training sequence",
            between(1, kMaxTokens));
    v.field("cross_document", &D::cross_document, "let packed documents attend to each other");
    v.field("shuffle_seed", &D::shuffle_seed, "order of sequences; none = train.seed", at_least(0));
    v.field("text_field", &D::text_field, "key of the text in a JSONL line", Rule().not_empty());
    v.field(
        "chat", &D::chat,
        "lines of JSONL files are conversations {\"messages\": […]}, of which what the assistant "
        "says is learned; none = text");
  }
};

struct OptimizerConfig {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  std::optional<double> clip = 1.0;
  bool sparse_rows = true;
  bool operator==(const OptimizerConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using O = OptimizerConfig;
    v.field("lr", &O::lr, "highest learning rate", above(0));
    v.field("betas", &O::betas, "decay of AdamW's two averages", from_below(0, 1));
    v.field("eps", &O::eps, "added to the root of the second average", above(0));
    v.field("weight_decay", &O::weight_decay, "decoupled decay of matrices other than embeddings",
            at_least(0));
    v.field("clip", &O::clip, "largest global gradient norm; none = no clipping", above(0));
    v.field(
        "sparse_rows", &O::sparse_rows,
        "of a per-layer embedding, update and keep averages of the rows only that tokens named");
  }
};

struct ScheduleConfig {
  static constexpr std::string_view kShorthand = "kind";
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t warmup_steps = 0;
  std::optional<int64_t> decay_steps;  // none: cosine, linear = all after warm-up; wsd = last tenth
  double final_fraction = 0.1;
  bool operator==(const ScheduleConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using S = ScheduleConfig;
    v.field("kind", &S::kind,
            "how the learning rate falls after warm-up (wsd = warm-up, stable, decay)");
    v.field("warmup_steps", &S::warmup_steps, "steps of linear rise from 0", at_least(0));
    v.field("decay_steps", &S::decay_steps,
            "steps of the fall; none = all after warm-up (cosine, linear), the last tenth (wsd)",
            at_least(1));
    v.field("final_fraction", &S::final_fraction, "last learning rate as a part of lr",
            between(0, 1));
  }
};

/// First steps in which only the indexers of sparse attention learn, from attention over all keys.
struct IndexWarmupConfig {
  static constexpr std::string_view kShorthand = "steps";
  int64_t steps = 0;
  double lr = 1e-3;
  bool operator==(const IndexWarmupConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using W = IndexWarmupConfig;
    v.field("steps", &W::steps, "steps of it; the schedule covers those after it",
            at_least(1).required());
    v.field("lr", &W::lr, "learning rate in it, the same in every step", above(0));
  }
};

struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch_tokens = 4096;
  std::optional<int64_t> micro_batch_tokens;  // none = batch_tokens
  int64_t seed = 1;
  Dtype dtype = Dtype::kAuto;
  Device device = Device::kCpu;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  std::optional<IndexWarmupConfig> index_warmup;
  RecomputeConfig recompute;
  bool delay_wgrad = false;
  double z_loss = 0.0;
  std::optional<QkClipConfig> qk_clip;
  bool log_max_attention_logit = false;
  int64_t checkpoint_every = 1000;  // 0 = only after the last step
  int64_t keep_checkpoints = 3;
  int64_t evaluate_every = 500;  // 0 = only before the first and after the last step
  int64_t log_every = 1;
  bool operator==(const TrainConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using T = TrainConfig;
    v.field("steps", &T::steps, "optimizer steps", at_least(1));
    v.field("batch_tokens", &T::batch_tokens,
            "tokens of a step, a multiple of data.sequence_length", between(1, kMaxTokens));
    v.field("micro_batch_tokens", &T::micro_batch_tokens,
            "tokens of one forward and backward; none = batch_tokens",
            between(1, kMaxTokens).divides("batch_tokens"));
    v.field("seed", &T::seed, "of initialisation, data order and everything random", at_least(0));
    v.field("dtype", &T::dtype, "of the computation; auto looks at the machine");
    v.field("device", &T::device, "where to compute");
    v.field("optimizer", &T::optimizer, "AdamW");
    v.field("schedule", &T::schedule, "learning rate over steps");
    v.field(
        "index_warmup", &T::index_warmup,
        "first steps in which only indexers of sparse attention learn; none = they learn along");
    v.field("recompute", &T::recompute, "less memory for more arithmetic, with the same results");
    v.field("delay_wgrad", &T::delay_wgrad,
            "weight gradients of projections after the whole backward pass, with the same results");
    v.field("z_loss", &T::z_loss, "weight of the squared log-partition", at_least(0));
    v.field("qk_clip", &T::qk_clip,
            "shrinks query and key weights after a step whose attention logits are above a "
            "threshold; none = off");
    v.field("log_max_attention_logit", &T::log_max_attention_logit,
            "measure the largest attention logit of every step (always on with qk_clip)");
    v.field("checkpoint_every", &T::checkpoint_every, "steps; 0 = only after the last",
            at_least(0));
    v.field("keep_checkpoints", &T::keep_checkpoints, "newest checkpoints kept", at_least(1));
    v.field("evaluate_every", &T::evaluate_every,
            "steps; 0 = only before the first and after the last", at_least(0));
    v.field("log_every", &T::log_every, "steps between metrics lines", at_least(1));
  }
};

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  std::string output;  // folder of config.yaml, metrics.jsonl, checkpoints/
  bool operator==(const RunConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("model", &RunConfig::model, "what to build", Rule().required());
    v.field("data", &RunConfig::data, "what to train on");
    v.field("train", &RunConfig::train, "how to train");
    v.field("output", &RunConfig::output, "folder for results");
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::Dtype> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::Dtype>>({{config::Dtype::kAuto, "auto"},
                                               {config::Dtype::kFloat32, "float32"},
                                               {config::Dtype::kBFloat16, "bfloat16"},
                                               {config::Dtype::kFloat64, "float64"}});
};
template <>
struct EnumTable<config::Device> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::Device>>(
      {{config::Device::kCpu, "cpu"}, {config::Device::kCuda, "cuda"}});
};
template <>
struct EnumTable<config::ScheduleKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::ScheduleKind>>(
      {{config::ScheduleKind::kCosine, "cosine"},
       {config::ScheduleKind::kLinear, "linear"},
       {config::ScheduleKind::kWsd, "wsd"},
       {config::ScheduleKind::kConstant, "constant"}});
};

}  // namespace headway
