// The task, its training loop and greedy decoding. Not for: other tasks.
#include "reverse_task.h"

#include <algorithm>
#include <random>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/engine/optimizer.h"

namespace example {
namespace {

namespace ops = headway::ops;

constexpr int64_t kStart = 10;

ops::Sequences sequences_of(const std::vector<Digits>& sources) {
  std::vector<int64_t> boundaries{0};
  for (const Digits& source : sources) {
    boundaries.push_back(boundaries.back() + static_cast<int64_t>(source.size()));
  }
  return ops::packed_sequences(std::move(boundaries));
}

at::Tensor packed(const std::vector<Digits>& sequences) {
  Digits all;
  for (const Digits& digits : sequences) all.insert(all.end(), digits.begin(), digits.end());
  return at::tensor(all, at::kLong);
}

}  // namespace

Digits source_of(uint64_t seed, int64_t index) {
  std::mt19937_64 random(seed * 1000003 + static_cast<uint64_t>(index));
  Digits digits(3 + random() % 6);
  for (int64_t& digit : digits) digit = static_cast<int64_t>(random() % 10);
  return digits;
}

Batch make_batch(uint64_t seed, int64_t first, int64_t count) {
  std::vector<Digits> sources, targets, labels;
  for (int64_t i = first; i < first + count; ++i) {
    sources.push_back(source_of(seed, i));
    labels.emplace_back(sources.back().rbegin(), sources.back().rend());
    targets.push_back({kStart});
    targets.back().insert(targets.back().end(), labels.back().begin(), labels.back().end() - 1);
  }
  return {sequences_of(sources), packed(sources), packed(targets), packed(labels)};
}

double train(EncoderDecoder& model, int64_t steps, uint64_t seed) {
  constexpr int64_t kBatch = 32;
  headway::config::OptimizerConfig config;
  config.weight_decay = 0.0;
  headway::engine::Optimizer optimizer(model.parameters(), config);
  double last = 0.0;
  for (int64_t step = 1; step <= steps; ++step) {
    const Batch batch = make_batch(seed, (step - 1) * kBatch, kBatch);
    const auto contexts =
        model.contexts(model.encode(batch.source_ids, batch.sequences), batch.sequences);
    const at::Tensor loss =
        model.loss(model.decode(batch.target_ids, batch.sequences, contexts), batch.labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.clip();
    optimizer.step(step, 5e-3 * std::min(1.0, static_cast<double>(step) / 20.0));
    last = loss.item<double>();
  }
  return last;
}

std::vector<Digits> answers(const EncoderDecoder& model, const std::vector<Digits>& sources) {
  const at::NoGradGuard no_grad;
  const ops::Sequences sequences = sequences_of(sources);
  const auto contexts = model.contexts(model.encode(packed(sources), sequences), sequences);
  std::vector<Digits> result;
  for (size_t n = 0; n < sources.size(); ++n) {
    DecodeState state = model.start(contexts, static_cast<int64_t>(n));
    Digits answer;
    for (int64_t token = kStart; answer.size() < sources[n].size();) {
      const at::Tensor hidden = model.decode_step(at::tensor({token}, at::kLong), state);
      token = model.logits(hidden).argmax(-1).item<int64_t>();
      answer.push_back(token);
    }
    result.push_back(std::move(answer));
  }
  return result;
}

int64_t count_reversed(const EncoderDecoder& model, int64_t count, uint64_t seed) {
  std::vector<Digits> sources;
  for (int64_t i = 0; i < count; ++i) sources.push_back(source_of(seed, i));
  const std::vector<Digits> got = answers(model, sources);
  int64_t right = 0;
  for (size_t n = 0; n < sources.size(); ++n) {
    right += std::equal(got[n].begin(), got[n].end(), sources[n].rbegin(), sources[n].rend());
  }
  return right;
}

}  // namespace example
