// Runs requests whose tokens are known in advance through a PagedRunner and compares every hidden
// state with the full forward of that request alone. Unowned pages and rows nobody wrote are NaN.
// Not for: sampling.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/engine/paged_runner.h"

namespace headway::test {

inline std::vector<int64_t> drawn_tokens(int64_t count, int64_t vocab, uint64_t seed) {
  std::vector<int64_t> tokens;
  uint64_t state = seed * 2654435761u + 12345;
  for (int64_t t = 0; t < count; ++t) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

class PagedDriver {
 public:
  PagedDriver(nn::Transformer& model, int64_t block_size, const engine::ContextOptions& options)
      : model_(&model), runner_(model, block_size, options) {
    runner_.storage().memory().fill_(NAN);
  }

  engine::PagedRunner& runner() { return runner_; }
  engine::DynamicContext& context() { return runner_.context(); }

  /// Declares the tokens of a request and what they give alone.
  void declare(int64_t id, const std::vector<int64_t>& tokens) {
    const at::NoGradGuard no_grad;
    tokens_[id] = tokens;
    want_[id] = model_->forward(at::tensor(tokens, at::kLong),
                                ops::equal_sequences(1, static_cast<int64_t>(tokens.size())));
  }

  /// The first `known` tokens of a declared request as a prompt.
  engine::NewRequest request(int64_t id, int64_t known) const {
    engine::NewRequest request{.id = id, .arrival = static_cast<uint64_t>(id)};
    const auto& tokens = tokens_.at(id);
    request.prompt.assign(tokens.begin(), tokens.begin() + known);
    request.output_length = static_cast<int64_t>(tokens.size()) - known;
    return request;
  }

  /// Page ids in a disorder: takes them all and gives them back in an order of its own.
  void shuffle_pages(uint64_t seed) {
    const int64_t count = context().total_blocks();
    std::vector<std::pair<uint64_t, int64_t>> order;
    for (int64_t n = 0; n < count; ++n) {
      order.emplace_back((static_cast<uint64_t>(n) + seed) * 0x9E3779B97F4A7C15u >> 17, n);
    }
    std::sort(order.begin(), order.end());
    // One-token requests hold a page of every group each.
    std::vector<int64_t> ids;
    for (const auto& [key, n] : order) {
      engine::NewRequest filler{.id = -1 - n, .prompt = {0}};
      if (context().try_add(filler)) break;
      ids.push_back(-1 - n);
    }
    std::sort(ids.begin(), ids.end(), [seed](int64_t a, int64_t b) {
      return (static_cast<uint64_t>(-a) * 2654435761u + seed) % 1009 <
             (static_cast<uint64_t>(-b) * 2654435761u + seed) % 1009;
    });
    for (const int64_t id : ids) context().remove(id);
  }

  /// One forward; requests whose tokens are used up finish. Largest |difference| of any hidden
  /// state.
  double step() {
    poison();
    const engine::ContextStep step = context().begin_step();
    const at::Tensor hidden = runner_.forward(step);
    double worst = 0.0;
    int64_t row = 0;
    std::vector<engine::StepOutcome> outcomes;
    for (size_t n = 0; n < step.request_ids.size(); ++n) {
      const int64_t id = step.request_ids[n], count = step.query_lengths[n];
      const at::Tensor want = want_.at(id).narrow(0, step.kv_lengths[n] - count, count);
      // A NaN is never the largest of max(): compare so that it shows.
      const at::Tensor difference = (hidden.narrow(0, row, count) - want).abs();
      const double largest = difference.max().item<double>();
      worst = largest <= worst ? worst : largest;
      if (difference.isnan().any().item<bool>()) worst = INFINITY;
      row += count;
      outcomes.push_back(outcome(id, step.kv_lengths[n], step.samples[n]));
    }
    if (step.padding > 0 && !hidden.narrow(0, row, step.padding).isfinite().all().item<bool>()) {
      worst = INFINITY;
    }
    for (size_t n = 0; n < outcomes.size(); ++n) {
      if (outcomes[n].finished) finished_.insert(step.request_ids[n]);
    }
    last_ = context().update(outcomes);
    return worst;
  }

  /// Steps until nothing is active, continuing unfinished prompts; largest difference.
  double run() {
    double worst = 0.0;
    for (;;) {
      if (context().mid_prompt()) context().try_continue();
      if (context().active().empty()) return worst;
      worst = std::max(worst, step());
    }
  }

  const engine::UpdateResult& last_update() const { return last_; }
  bool finished(int64_t id) const { return finished_.contains(id); }
  const std::vector<int64_t>& tokens(int64_t id) const { return tokens_.at(id); }

 private:
  engine::StepOutcome outcome(int64_t id, int64_t position, bool samples) const {
    const auto& tokens = tokens_.at(id);
    if (!samples) return {};
    if (position >= static_cast<int64_t>(tokens.size())) return {.finished = true};
    engine::StepOutcome outcome;
    const int64_t most = context_options().speculative_tokens + 1;
    for (int64_t t = position;
         t < std::min<int64_t>(position + most, static_cast<int64_t>(tokens.size())); ++t) {
      outcome.next_tokens.push_back(tokens[static_cast<size_t>(t)]);
    }
    return outcome;
  }
  const engine::ContextOptions& context_options() const { return runner_.context().options(); }

  void poison() {
    const engine::BlockPool& pool = context().pool();
    for (int32_t id = 0; id < pool.size(); ++id) {
      if (pool.references(id) == 0 && !pool.is_named(id)) {
        runner_.storage().memory()[id].fill_(NAN);
      }
    }
  }

  nn::Transformer* model_;
  engine::PagedRunner runner_;
  std::map<int64_t, std::vector<int64_t>> tokens_;
  std::map<int64_t, at::Tensor> want_;
  std::set<int64_t> finished_;
  engine::UpdateResult last_;
};

}  // namespace headway::test
