// See folder.h. Not for: statistics (harness.h).
#include "cli/bench/folder.h"

#include <chrono>
#include <memory>

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/engine/evaluation_file.h"
#include "headway/engine/evaluator.h"
#include "headway/engine/generator.h"
#include "headway/engine/optimizer.h"
#include "headway/engine/train_step.h"

namespace headway::cli::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

at::Tensor input_ids(const FolderWork& work, const spec::ModelSpec& spec) {
  const int64_t vocab = spec.embedding.vocab_size;
  if (work.tokens.empty()) {
    at::manual_seed(1);
    return at::randint(vocab, {work.batch, work.length}, at::kLong);
  }
  const at::Tensor ids_BS = engine::read_evaluation_request(work.tokens).input_ids_BS;
  const bool is_matrix =
      ids_BS.scalar_type() == at::kLong && ids_BS.dim() == 2 && ids_BS.numel() > 0;
  if (!is_matrix || ids_BS.min().item<int64_t>() < 0 || ids_BS.max().item<int64_t>() >= vocab) {
    throw ConfigError("[" + work.tokens + "] input_ids: allowed int64 [B,S] of ids from 0 to " +
                      std::to_string(vocab - 1));
  }
  return ids_BS;
}

data::Batch make_batch(const at::Tensor& ids_BS) {
  data::Batch batch;
  batch.input_ids = ids_BS.flatten();
  batch.labels = engine::shift_labels(ids_BS).flatten();
  batch.cu_seqlens = {0};
  batch.max_len = ids_BS.size(1);
  for (int64_t row = 0; row < ids_BS.size(0); ++row) {
    batch.cu_seqlens.push_back(batch.cu_seqlens.back() + batch.max_len);
  }
  batch.label_count = ids_BS.size(0) * (batch.max_len - 1);
  return batch;
}

struct Training {
  engine::LoadedModel loaded;
  std::unique_ptr<engine::Optimizer> optimizer;
  data::Batch batch;
  int64_t step = 0;
};

}  // namespace

Round make_step_round(const FolderWork& work) {
  auto training = std::make_shared<Training>();
  training->loaded = load(work.model);
  training->batch = make_batch(input_ids(work, training->loaded.model->spec()));
  config::OptimizerConfig config;
  config.weight_decay = 0.0;
  config.clip.reset();
  nn::Transformer& model = *training->loaded.model;
  training->optimizer = std::make_unique<engine::Optimizer>(model.parameters(), config);
  return [training, lr = work.lr] {
    engine::Optimizer& optimizer = *training->optimizer;
    const auto start = Clock::now();
    engine::StepOptions options;
    options.after_backward = [&] { optimizer.collect(); };
    const engine::StepLoss loss =
        engine::accumulate_gradients(*training->loaded.model, {training->batch}, options);
    optimizer.step(++training->step, lr);
    optimizer.zero_grad();
    const double seconds = seconds_since(start);
    return Json{
        {"seconds", seconds}, {"loss", loss.loss}, {"tokens", training->batch.input_ids.numel()}};
  };
}

Round make_decode_round(const FolderWork& work) {
  auto loaded = std::make_shared<engine::LoadedModel>(load(work.model));
  const at::Tensor ids = input_ids(work, loaded->model->spec())[0].contiguous();
  const int64_t* first = ids.const_data_ptr<int64_t>();
  const std::vector<int64_t> prompt(first, first + ids.numel());
  engine::GenerateOptions options;
  options.max_new_tokens = work.new_tokens;
  options.sampler.temperature = 0.0;
  return [loaded, prompt, options] {
    const engine::GenerateResult result =
        engine::Generator(*loaded->model, nullptr).run(prompt, options);
    const auto begin = result.token_ids.begin() + static_cast<int64_t>(prompt.size());
    return Json{{"seconds", result.timing.decode_seconds},
                {"prefill_seconds", result.timing.prefill_seconds},
                {"tokens", result.timing.new_tokens - 1},
                {"token_ids", std::vector<int64_t>(begin, result.token_ids.end())}};
  };
}

}  // namespace headway::cli::bench
