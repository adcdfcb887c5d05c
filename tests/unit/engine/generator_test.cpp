// Generation: caches, streams, stops, seeds, errors.
#include "headway/engine/generator.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/text/tokenizer_factory.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

spec::ModelSpec byte_model() {
  spec::ModelSpec spec = test::tiny_step();
  spec.embedding.vocab_size = 256;
  return spec;
}

nn::Transformer make(const spec::ModelSpec& spec) {
  nn::Transformer model(spec, at::kDouble);
  model.parameters().initialise(4);
  return model;
}

/// Greedy ids by full forwards without any cache.
std::vector<int64_t> greedy_without_cache(nn::Transformer& model, std::vector<int64_t> ids,
                                          int64_t count) {
  at::NoGradGuard no_grad;
  for (int64_t n = 0; n < count; ++n) {
    const auto length = static_cast<int64_t>(ids.size());
    const at::Tensor h = model.forward(at::tensor(ids, at::kLong), ops::equal_sequences(1, length));
    ids.push_back(model.logits(h.narrow(0, length - 1, 1)).argmax().item<int64_t>());
  }
  return ids;
}

TEST(Generator, CachesChangeNothing) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec);
    const std::vector<int64_t> prompt{3, 1, 4, 1, 5, 9, 2, 6};
    GenerateOptions options;
    options.max_new_tokens = 30;
    options.sampler.temperature = 0.0;
    const GenerateResult result = Generator(model, nullptr).run(prompt, options);
    EXPECT_EQ(result.token_ids, greedy_without_cache(model, prompt, 30));
    EXPECT_EQ(result.finish, FinishReason::kLength);
    EXPECT_EQ(result.timing.new_tokens, 30);
  }
}

TEST(Generator, DrawsDependOnSeedAndRequestOnly) {
  nn::Transformer model = make(byte_model());
  const Generator generator(model, nullptr);
  GenerateOptions options;
  options.max_new_tokens = 20;
  options.sampler.temperature = 1.5;
  options.seed = 9;
  const auto first = generator.run({1, 2, 3}, options).token_ids;
  EXPECT_EQ(generator.run({1, 2, 3}, options).token_ids, first);
  options.request = 1;
  EXPECT_NE(generator.run({1, 2, 3}, options).token_ids, first);
  options.request = 0;
  options.seed = 10;
  EXPECT_NE(generator.run({1, 2, 3}, options).token_ids, first);
}

TEST(Generator, StreamsTheTextItReturns) {
  nn::Transformer model = make(byte_model());
  const Generator generator(model, text::load_tokenizer("bytes"));
  GenerateOptions options;
  options.max_new_tokens = 64;
  options.sampler.temperature = 1.0;
  std::string streamed;
  const GenerateResult result =
      generator.run({65, 66}, options, [&](const std::string& piece) { streamed += piece; });
  EXPECT_EQ(streamed, result.text);
  EXPECT_FALSE(result.text.empty());
}

TEST(Generator, StopsAtIdsAndStrings) {
  nn::Transformer model = make(byte_model());
  const Generator generator(model, text::load_tokenizer("bytes"));
  GenerateOptions options;
  options.max_new_tokens = 40;
  options.sampler.temperature = 0.0;
  const std::vector<int64_t> all = generator.run({65, 66}, options).token_ids;
  options.stop_ids = {all[5]};
  const GenerateResult by_id = generator.run({65, 66}, options);
  EXPECT_EQ(by_id.finish, FinishReason::kStopId);
  EXPECT_EQ(by_id.token_ids.back(), all[5]);
  EXPECT_LE(by_id.token_ids.size(), 6u);
}

TEST(Generator, StateOfWindowedLayersStaysBounded) {
  nn::Transformer model = make(test::tiny_step());
  GenerateOptions options;
  options.sampler.temperature = 0.0;
  options.max_new_tokens = 60;
  const int64_t small = Generator(model, nullptr).run({1, 2}, options).state_bytes;
  options.max_new_tokens = 500;
  const int64_t large = Generator(model, nullptr).run({1, 2}, options).state_bytes;
  // One full layer of four: 2 kv heads of 8, keys and values, doubles; its buffer doubles up to 512
  // rows.
  EXPECT_LE(large - small, 512 * 2 * 8 * 2 * 8);
}

TEST(Generator, RefusesWhatItCannotDo) {
  nn::Transformer model = make(byte_model());
  const Generator generator(model, nullptr);
  GenerateOptions options;
  options.max_new_tokens = 1;
  EXPECT_THROW(generator.run({}, options), ConfigError);
  EXPECT_THROW(generator.run({256}, options), ConfigError);
  EXPECT_THROW(generator.run({-1}, options), ConfigError);
  options.stop = {"x"};
  EXPECT_THROW(generator.run({1}, options), ConfigError);
  options.stop.clear();
  options.sampler.top_p = 0.0;
  EXPECT_THROW(generator.run({1}, options), ConfigError);
  options.sampler.top_p = 1.0;
  options.max_new_tokens = -1;
  EXPECT_THROW(generator.run({1}, options), ConfigError);
}

TEST(Generator, RecordsNoAutograd) {
  nn::Transformer model = make(byte_model());
  GenerateOptions options;
  options.max_new_tokens = 3;
  Generator(model, nullptr).run({1, 2, 3}, options);
  for (const at::Tensor& tensor : model.parameters().tensors())
    EXPECT_FALSE(tensor.grad().defined());
}

}  // namespace
}  // namespace headway::engine
