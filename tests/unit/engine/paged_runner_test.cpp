// Pages under real layers, in double: every hidden state of a mixed batch is that of the request's
// full forward alone. Not for: bookkeeping (dynamic_context_test.cpp).
#include "headway/engine/paged_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/paged_driver.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using test::PagedDriver;

constexpr double kClose = 1e-10;

/// Every inference test scales scores by something else than 1/sqrt(dim) (Fix-1).
spec::ModelSpec rescaled(spec::ModelSpec spec) {
  for (spec::LayerSpec& layer : spec.layers) {
    test::set_attention_scale(layer, 0.3);
  }
  return spec;
}

nn::Transformer make(const spec::ModelSpec& spec, at::ScalarType dtype = at::kDouble) {
  nn::Transformer model(rescaled(spec), dtype);
  model.parameters().initialise(9);
  return model;
}

ContextOptions limits(int64_t num_blocks, int64_t max_tokens = 1000) {
  ContextOptions options;
  options.num_blocks = num_blocks;
  options.max_requests = 16;
  options.max_tokens = max_tokens;
  options.max_sequence_length = 400;
  return options;
}

int64_t vocab(const nn::Transformer& model) { return model.spec().embedding.vocab_size; }

TEST(PagedRunner, MixedDecodeAndPrefillEqualTheFullForward) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    for (const int64_t block : {4, 64, 256}) {
      SCOPED_TRACE(name + " block " + std::to_string(block));
      nn::Transformer model = make(spec);
      ContextOptions options = limits(4 * (800 / block + 20));
      options.token_multiple = block == 64 ? 8 : 1;
      PagedDriver driver(model, block, options);
      driver.shuffle_pages(3);
      // In decode: 1, 37 and 256 keys so far; then prompts of 1, 2 and 300 tokens join them.
      const std::vector<int64_t> decoding{1, 37, 256}, prompts{1, 2, 300};
      for (int64_t id = 0; id < 6; ++id) {
        const int64_t prompt = id < 3 ? decoding[id] : prompts[id - 3];
        driver.declare(id, test::drawn_tokens(prompt + 4, vocab(model), id + 1));
      }
      for (int64_t id = 0; id < 3; ++id) {
        driver.context().add_request(driver.request(id, decoding[id]));
      }
      EXPECT_LT(driver.step(), kClose);
      EXPECT_LT(driver.step(), kClose);
      for (int64_t id = 3; id < 6; ++id) {
        driver.context().add_request(driver.request(id, prompts[id - 3]));
      }
      EXPECT_LT(driver.run(), kClose);
      for (int64_t id = 0; id < 6; ++id) EXPECT_TRUE(driver.finished(id)) << id;
      EXPECT_EQ(driver.context().pool().available(), driver.context().total_blocks());
    }
  }
}

TEST(PagedRunner, FloatKernelsAgreeWithTheFullForward) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec, at::kFloat);
    PagedDriver driver(model, 16, limits(200));
    for (int64_t id = 0; id < 4; ++id) {
      driver.declare(id, test::drawn_tokens(20 + 30 * id, vocab(model), id + 1));
      driver.context().add_request(driver.request(id, 3 + 25 * id));
    }
    EXPECT_LT(driver.run(), 2e-4);
  }
}

TEST(PagedRunner, EverySplitOfAPromptGivesTheSame) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    nn::Transformer model = make(spec);
    for (int64_t split = 1; split < 20; ++split) {
      SCOPED_TRACE(name + " split at " + std::to_string(split));
      PagedDriver driver(model, 4, limits(80));
      driver.declare(0, test::drawn_tokens(6, vocab(model), 1));
      driver.declare(1, test::drawn_tokens(23, vocab(model), 2));
      driver.context().add_request(driver.request(0, 5));  // finishes meanwhile
      driver.context().add_request(driver.request(1, 20), split);
      EXPECT_LT(driver.step(), kClose);
      EXPECT_LT(driver.run(), kClose);
      EXPECT_TRUE(driver.finished(0) && driver.finished(1));
    }
  }
}

TEST(PagedRunner, ATokenBudgetCutsPromptsAndOthersDecodeMeanwhile) {
  nn::Transformer model = make(test::tiny_step());
  PagedDriver driver(model, 4, limits(400, 16));
  driver.declare(0, test::drawn_tokens(40, vocab(model), 1));
  driver.declare(1, test::drawn_tokens(90, vocab(model), 2));
  driver.context().add_request(driver.request(0, 3));
  EXPECT_LT(driver.step(), kClose);
  driver.context().add_request(driver.request(1, 77));
  EXPECT_EQ(driver.context().active().back().query_length(), 15);
  EXPECT_LT(driver.run(), kClose);
  EXPECT_TRUE(driver.finished(0) && driver.finished(1));
}

TEST(PagedRunner, PrefixesFromTheCacheGiveTheSame) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec);
    ContextOptions options = limits(300);
    options.prefix_caching = true;
    PagedDriver driver(model, 4, options);
    const std::vector<int64_t> road = test::drawn_tokens(40, vocab(model), 1);
    // The same prompt, a full match, a longer one, one that leaves the road.
    const std::vector<int64_t> prompts{24, 24, 30, 30};
    for (int64_t id = 0; id < 4; ++id) {
      std::vector<int64_t> tokens = road;
      if (id == 3) tokens[17] = (tokens[17] + 1) % vocab(model);
      driver.declare(id, tokens);
      driver.context().add_request(driver.request(id, prompts[id]));
      EXPECT_EQ(driver.context().find(id)->skipped, (std::vector<int64_t>{0, 20, 24, 16}[id]));
      EXPECT_LT(driver.step(), kClose);
    }
    EXPECT_LT(driver.run(), kClose);
    for (int64_t id = 0; id < 4; ++id) EXPECT_TRUE(driver.finished(id));
  }
}

TEST(PagedRunner, TwoDraftedTokensAcrossABlockBoundaryEqualOneByOne) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    for (int64_t prompt = 1; prompt <= 4; ++prompt) {
      SCOPED_TRACE(name + " prompt " + std::to_string(prompt));
      nn::Transformer model = make(spec);
      ContextOptions options = limits(80);
      options.speculative_tokens = 2;
      PagedDriver driver(model, 4, options);
      driver.declare(0, test::drawn_tokens(22, vocab(model), 1));
      driver.context().add_request(driver.request(0, prompt));
      EXPECT_LT(driver.run(), kClose);
      EXPECT_TRUE(driver.finished(0));
    }
  }
}

TEST(PagedRunner, SuspendedAndResumedGoesOnTheSame) {
  for (const Suspend mode : {Suspend::kKeep, Suspend::kOffload, Suspend::kDrop}) {
    nn::Transformer model = make(test::tiny_step());
    PagedDriver driver(model, 4, limits(80));
    driver.declare(0, test::drawn_tokens(14, vocab(model), 1));
    driver.declare(1, test::drawn_tokens(11, vocab(model), 2));
    driver.context().add_request(driver.request(0, 6));
    EXPECT_LT(driver.step(), kClose);
    const at::Tensor before = driver.runner().storage().memory().clone();
    const std::vector<int64_t> left = driver.runner().suspend(mode);
    EXPECT_EQ(driver.runner().storage().allocated(), mode == Suspend::kKeep);
    if (mode != Suspend::kKeep) {
      NewRequest refused = driver.request(1, 5);
      EXPECT_EQ(driver.context().try_add(refused), Refusal::kReleased);
      EXPECT_THROW(driver.runner().storage().state(), ContextOverflow);
    }
    driver.runner().resume();
    if (mode == Suspend::kDrop) {
      EXPECT_THAT(left, testing::ElementsAre(0));
      driver.runner().storage().memory().fill_(NAN);
      driver.context().add_request(driver.request(0, 7));
    } else {
      EXPECT_TRUE(left.empty());
      // Compared as bits, since unwritten rows are NaN.
      EXPECT_TRUE(
          at::equal(driver.runner().storage().memory().view(at::kLong), before.view(at::kLong)));
    }
    driver.context().add_request(driver.request(1, 5));
    EXPECT_LT(driver.run(), kClose);
    EXPECT_TRUE(driver.finished(0) && driver.finished(1));
  }
}

TEST(PagedRunner, GradientsAreNotRecorded) {
  nn::Transformer model = make(test::tiny_llama());
  PagedDriver driver(model, 4, limits(20));
  driver.declare(0, {1, 2, 3});
  driver.context().add_request(driver.request(0, 2));
  EXPECT_FALSE(driver.runner().forward(driver.context().begin_step()).requires_grad());
}

}  // namespace
}  // namespace headway::engine
