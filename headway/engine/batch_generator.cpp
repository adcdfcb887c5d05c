// The loop of continuous batching: admit, forward, sample, update. Not for: bookkeeping of pages.
#include "headway/engine/batch_generator.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/engine/generator.h"
#include "headway/engine/paged_runner.h"

namespace headway::engine {
namespace {

void check_option(const char* name, int64_t value, int64_t least) {
  if (value >= least) return;
  throw ConfigError(std::string("[generate] ") + name + " = " + std::to_string(value) +
                    ", allowed " + std::to_string(least) + " or more");
}

int64_t rows_of(const BatchRequest& request) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (request.options.max_new_tokens > (int64_t{1} << 40) - prompt) {
    throw ConfigError("[generate] --max-new-tokens = " +
                      std::to_string(request.options.max_new_tokens) + ", allowed up to 2^40");
  }
  return prompt + request.options.max_new_tokens;
}

/// Pages for as many of the largest requests as may run together, within the memory allowed.
ContextOptions context_options(const spec::ModelSpec& spec, at::ScalarType dtype,
                               const BatchOptions& options,
                               const std::vector<BatchRequest>& requests) {
  ContextOptions context;
  context.max_requests = options.max_requests;
  context.max_tokens = options.max_tokens;
  context.prefix_caching = options.prefix_caching;
  const PagePlan plan = plan_pages(spec, options.block_size);
  std::vector<int64_t> needs;
  for (const BatchRequest& request : requests) {
    context.max_sequence_length = std::max(context.max_sequence_length, rows_of(request));
    needs.push_back(most_blocks(plan, rows_of(request), options.max_tokens));
  }
  std::sort(needs.rbegin(), needs.rend());
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t limit = std::min<int64_t>(blocks_in(plan, options.memory_bytes, element), 1 << 30);
  if (needs.front() + 1 > limit) {
    throw ConfigError("[generate] --cache-memory = " + std::to_string(options.memory_bytes >> 20) +
                      " MiB, allowed for the longest request at least " +
                      std::to_string(((needs.front() + 1) * plan.page_bytes(element) >> 20) + 1) +
                      " MiB");
  }
  int64_t wanted = 1;
  for (size_t i = 0; i < needs.size() && i < static_cast<size_t>(options.max_requests); ++i) {
    wanted = std::min(limit, wanted + needs[i]);
  }
  context.num_blocks = std::max<int64_t>(2, wanted);
  return context;
}

/// One call of run().
class Batch {
 public:
  Batch(PagedRunner& runner, const std::vector<BatchRequest>& requests,
        const text::Tokenizer* tokenizer, const BatchGenerator::ResultCallback& done)
      : runner_(runner), context_(runner.context()), requests_(requests), done_(done) {
    for (size_t i = 0; i < requests.size(); ++i) {
      auto [entry, added] = live_.try_emplace(static_cast<int64_t>(i), requests[i].prompt,
                                              requests[i].options, tokenizer);
      if (entry->second.finished()) {
        finish(static_cast<int64_t>(i));
      } else {
        wait_for_room(static_cast<int64_t>(i));
      }
    }
  }

  BatchStatistics run() {
    while (!live_.empty()) {
      admit();
      // The share of active requests holds any one of them, so somebody can always go on.
      if (context_.active().empty()) throw InternalError("[generate] no request can go on");
      step();
    }
    statistics_.page_bytes = runner_.storage().bytes();
    return statistics_;
  }

 private:
  /// To the queue, which keeps the order of arrival.
  void wait_for_room(int64_t index) {
    const Generation& generation = live_.at(index);
    NewRequest request;
    request.id = index;
    request.arrival = static_cast<uint64_t>(index);
    request.prompt = generation.token_ids();
    request.output_length = generation.remaining();
    const auto place = std::find_if(waiting_.begin(), waiting_.end(),
                                    [index](const NewRequest& other) { return other.id > index; });
    waiting_.insert(place, std::move(request));
  }

  void admit() {
    if (context_.mid_prompt() && context_.try_continue()) return;
    // Who was paused was there before those who wait.
    while (!waiting_.empty() && context_.paused().empty()) {
      const int64_t id = waiting_.front().id;
      if (context_.try_add(waiting_.front())) return;
      statistics_.skipped_tokens += context_.find(id)->skipped;
      waiting_.pop_front();
    }
  }

  void step() {
    const ContextStep step = context_.begin_step();
    const at::Tensor hidden_TD = runner_.forward(step);
    at::Tensor logits_RV;
    if (std::find(step.samples.begin(), step.samples.end(), true) != step.samples.end()) {
      logits_RV = runner_.next_logits(step, hidden_TD).to(at::kCPU);
    }
    std::vector<StepOutcome> outcomes(step.request_ids.size());
    std::vector<int64_t> finished;
    int64_t row = 0;
    for (size_t n = 0; n < outcomes.size(); ++n) {
      if (!step.samples[n]) continue;
      Generation& generation = live_.at(step.request_ids[n]);
      outcomes[n].next_tokens = {generation.advance(logits_RV[row++])};
      if (!generation.finished()) continue;
      outcomes[n] = {.finished = true};
      finished.push_back(step.request_ids[n]);
    }
    for (const int64_t id : finished) finish(id);
    take_back(context_.update(outcomes));
    ++statistics_.steps;
  }

  void take_back(const UpdateResult& result) {
    statistics_.evictions += static_cast<int64_t>(result.evicted.size());
    for (const int64_t id : result.evicted) wait_for_room(id);
  }

  void finish(int64_t id) {
    int64_t pages = 0;
    if (const ContextRequest* request = context_.find(id)) {
      for (const auto& row : request->blocks) {
        pages += std::count_if(row.begin(), row.end(), [](int32_t block) { return block >= 0; });
      }
    }
    auto entry = live_.extract(id);
    done_(static_cast<size_t>(id), entry.mapped().take(pages * runner_.storage().page_bytes()));
  }

  PagedRunner& runner_;
  DynamicContext& context_;
  const std::vector<BatchRequest>& requests_;
  const BatchGenerator::ResultCallback& done_;
  std::map<int64_t, Generation> live_;
  std::deque<NewRequest> waiting_;
  BatchStatistics statistics_;
};

}  // namespace

BatchStatistics BatchGenerator::run(const std::vector<BatchRequest>& requests,
                                    const ResultCallback& done) const {
  check_option("--block-size", options_.block_size, 1);
  check_option("--cache-memory", options_.memory_bytes, 1);
  check_option("--max-batch-requests", options_.max_requests, 1);
  check_option("--max-batch-tokens", options_.max_tokens, options_.max_requests);
  for (const BatchRequest& request : requests) {
    check_generation(request.prompt, request.options, model_->spec().embedding.vocab_size,
                     tokenizer_ != nullptr);
  }
  if (requests.empty()) return {};
  if (!pages_hold(model_->spec())) {
    const Generator generator(*model_, tokenizer_);
    for (size_t i = 0; i < requests.size(); ++i) {
      done(i, generator.run(requests[i].prompt, requests[i].options));
    }
    return {};
  }
  const at::NoGradGuard no_grad;
  PagedRunner runner(
      *model_, options_.block_size,
      context_options(model_->spec(), model_->parameters().dtype(), options_, requests));
  return Batch(runner, requests, tokenizer_.get(), done).run();
}

}  // namespace headway::engine
