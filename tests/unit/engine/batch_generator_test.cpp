// Many prompts at once give what each gives alone, in every limit of memory and batch.
#include "headway/engine/batch_generator.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/generator.h"
#include "headway/engine/page_plan.h"
#include "headway/text/tokenizer_factory.h"

#include "tests/support/paged_driver.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

nn::Transformer make(const spec::ModelSpec& spec) {
  nn::Transformer model(spec, at::kDouble);
  model.parameters().initialise(4);
  return model;
}

/// Prompts of many lengths, some with equal beginnings, with samplers of their own.
std::vector<BatchRequest> requests_for(int64_t vocab, int64_t count) {
  std::vector<BatchRequest> requests;
  for (int64_t n = 0; n < count; ++n) {
    BatchRequest request;
    request.prompt = test::drawn_tokens(1 + n * 7 % 30, vocab, n % 3 == 0 ? 1 : n + 2);
    request.options.max_new_tokens = n * 5 % 13;
    request.options.sampler.temperature = n % 2 == 0 ? 0.0 : 0.8;
    request.options.seed = 11;
    request.options.request = static_cast<uint64_t>(n);
    if (n % 4 == 1) request.options.stop_ids = {3, 5, 7};
    requests.push_back(request);
  }
  return requests;
}

std::vector<GenerateResult> run(nn::Transformer& model, const BatchOptions& options,
                                const std::vector<BatchRequest>& requests,
                                BatchStatistics* statistics = nullptr,
                                std::shared_ptr<const text::Tokenizer> tokenizer = nullptr) {
  std::vector<GenerateResult> results(requests.size());
  std::vector<int> calls(requests.size(), 0);
  const BatchStatistics got = BatchGenerator(model, std::move(tokenizer), options)
                                  .run(requests, [&](size_t index, GenerateResult result) {
                                    ++calls[index];
                                    results[index] = std::move(result);
                                  });
  EXPECT_THAT(calls, testing::Each(1));
  if (statistics) *statistics = got;
  return results;
}

void expect_as_alone(nn::Transformer& model, const std::vector<BatchRequest>& requests,
                     const std::vector<GenerateResult>& results) {
  const Generator alone(model, nullptr);
  for (size_t n = 0; n < requests.size(); ++n) {
    SCOPED_TRACE(n);
    const GenerateResult want = alone.run(requests[n].prompt, requests[n].options);
    EXPECT_EQ(results[n].token_ids, want.token_ids);
    EXPECT_EQ(results[n].finish, want.finish);
    EXPECT_EQ(results[n].timing.new_tokens, want.timing.new_tokens);
  }
}

TEST(BatchGenerator, EveryModelGivesWhatEachPromptGivesAlone) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec);
    const auto requests = requests_for(spec.embedding.vocab_size, 24);
    for (const bool caching : {false, true}) {
      BatchOptions options;
      options.block_size = 4;
      options.max_requests = 8;
      options.max_tokens = 20;
      options.prefix_caching = caching;
      BatchStatistics statistics;
      expect_as_alone(model, requests, run(model, options, requests, &statistics));
      EXPECT_EQ(statistics.skipped_tokens > 0, caching && pages_hold(spec));
      EXPECT_EQ(statistics.evictions, 0);
    }
  }
}

TEST(BatchGenerator, LittleMemoryMeansWaitingAndEvictionNotOtherTokens) {
  nn::Transformer model = make(test::tiny_llama());
  auto requests = requests_for(23, 16);
  for (BatchRequest& request : requests) request.options.max_new_tokens += 20;
  BatchOptions options;
  options.block_size = 4;
  options.max_requests = 6;
  options.max_tokens = 12;
  const PagePlan plan = plan_pages(model.spec(), 4);
  options.memory_bytes = 22 * plan.page_bytes(8);
  BatchStatistics statistics;
  expect_as_alone(model, requests, run(model, options, requests, &statistics));
  EXPECT_GT(statistics.evictions, 0);
  EXPECT_LE(statistics.page_bytes, options.memory_bytes);
}

TEST(BatchGenerator, BatchesFewerSteps) {
  nn::Transformer model = make(test::tiny_llama());
  std::vector<BatchRequest> requests(10);
  for (BatchRequest& request : requests) {
    request.prompt = {1, 2, 3};
    request.options.max_new_tokens = 7;
    request.options.sampler.temperature = 0.0;
  }
  BatchStatistics statistics;
  run(model, {}, requests, &statistics);
  EXPECT_EQ(statistics.steps, 7);
  EXPECT_LT(statistics.page_bytes, 1 << 20) << "no more pages than the requests can fill";
}

TEST(BatchGenerator, TextAndStopStrings) {
  spec::ModelSpec spec = test::tiny_step();
  spec.embedding.vocab_size = 256;
  nn::Transformer model = make(spec);
  const auto tokenizer = text::load_tokenizer("bytes");
  std::vector<BatchRequest> requests(3);
  const Generator alone(model, tokenizer);
  for (size_t n = 0; n < requests.size(); ++n) {
    requests[n].prompt = {72, 101, 108, static_cast<int64_t>(97 + n)};
    requests[n].options.max_new_tokens = 12;
    requests[n].options.sampler.temperature = 0.0;
  }
  const std::string text = alone.run(requests[1].prompt, requests[1].options).text;
  ASSERT_GT(text.size(), 3u);
  requests[2].prompt = requests[1].prompt;
  requests[2].options.stop = {text.substr(2, 1)};
  const auto results = run(model, {}, requests, nullptr, tokenizer);
  EXPECT_EQ(results[1].text, text);
  EXPECT_EQ(results[2].text, alone.run(requests[2].prompt, requests[2].options).text);
  EXPECT_EQ(results[2].finish, FinishReason::kStopString);
}

std::string error_of(const BatchOptions& options, const std::vector<BatchRequest>& requests) {
  nn::Transformer model = make(test::tiny_llama());
  try {
    BatchGenerator(model, nullptr, options).run(requests, [](size_t, GenerateResult) {});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(BatchGenerator, Errors) {
  BatchRequest good;
  good.prompt = {1};
  good.options.max_new_tokens = 4;
  BatchOptions options;
  EXPECT_EQ(error_of(options, {}), "no error");
  options.block_size = 0;
  EXPECT_EQ(error_of(options, {good}), "[generate] --block-size = 0, allowed 1 or more");
  options = {};
  options.max_requests = 0;
  EXPECT_EQ(error_of(options, {good}), "[generate] --max-batch-requests = 0, allowed 1 or more");
  options = {};
  options.max_tokens = 63;
  EXPECT_EQ(error_of(options, {good}), "[generate] --max-batch-tokens = 63, allowed 64 or more");
  options = {};
  options.memory_bytes = 0;
  EXPECT_EQ(error_of(options, {good}), "[generate] --cache-memory = 0, allowed 1 or more");
  options.memory_bytes = int64_t{1} << 20;
  good.options.max_new_tokens = 100000;
  EXPECT_THAT(
      error_of(options, {good}),
      testing::HasSubstr("--cache-memory = 1 MiB, allowed for the longest request at least"));
  good.options.max_new_tokens = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(error_of(options, {good}), testing::HasSubstr("--max-new-tokens"));
  good.options.max_new_tokens = 1;
  good.prompt = {99};
  EXPECT_THAT(error_of(options, {good}), testing::HasSubstr("token id = 99"));
}

}  // namespace
}  // namespace headway::engine
