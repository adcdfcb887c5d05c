// Random life of requests over real layers in double: admitted, cut, shared, paused, evicted,
// cancelled; every hidden state stays that of the request alone. Not for: ten thousand of them
// (dynamic_context_test.cpp does that without a model).
#include "headway/engine/paged_runner.h"

#include <deque>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/paged_driver.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

class Life {
 public:
  Life(nn::Transformer& model, const ContextOptions& options, uint64_t seed)
      : vocab_(model.spec().embedding.vocab_size), driver_(model, 4, options), random_(seed) {
    driver_.shuffle_pages(seed);
  }

  int64_t evicted() const { return evicted_; }

  void run(int64_t requests) {
    for (int64_t to_come = requests; to_come > 0 || !waiting_.empty() || !idle();) {
      for (int64_t n = draw(0, 2); n > 0 && to_come > 0 && waiting_.size() < 6; --n, --to_come) {
        arrive();
      }
      admit();
      DynamicContext& context = driver_.context();
      if (context.active().empty()) {
        const UpdateResult resumed = context.try_resume();
        ASSERT_TRUE(idle() || !resumed.resumed.empty());
        continue;
      }
      ASSERT_LT(driver_.step(), 1e-10);
      for (const int64_t id : driver_.last_update().evicted) {
        ++evicted_;
        waiting_.push_front({id, known_.at(id)});
      }
      for (const ContextRequest& request : context.active()) {
        known_[request.given.id] = request.end();
      }
      for (const ContextRequest& request : context.paused()) {
        known_[request.given.id] = request.end();
      }
      if (draw(0, 15) == 0 && !context.active().empty()) {
        context.remove(context.active()[draw(0, context.active().size() - 1)].given.id);
      }
      ASSERT_EQ(context.broken_invariant(), "");
    }
    EXPECT_EQ(driver_.context().pool().available(), driver_.context().total_blocks());
  }

 private:
  int64_t draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  bool idle() {
    const DynamicContext& context = driver_.context();
    return context.active().empty() && context.paused().empty() && !context.mid_prompt();
  }

  void arrive() {
    const int64_t id = next_++, prompt = draw(1, 22);
    const bool common = draw(0, 1) == 0;
    driver_.declare(id, test::drawn_tokens(prompt + draw(1, 12), vocab_, common ? 77 : id + 1000));
    waiting_.push_back({id, prompt});
  }

  void admit() {
    DynamicContext& context = driver_.context();
    if (context.mid_prompt() && context.try_continue()) return;
    while (!waiting_.empty() && context.paused().empty()) {
      const auto [id, known] = waiting_.front();
      NewRequest request = driver_.request(id, known);
      if (context.try_add(request)) return;
      known_[id] = known;
      waiting_.pop_front();
    }
  }

  int64_t vocab_;
  test::PagedDriver driver_;
  std::mt19937_64 random_;
  int64_t next_ = 0;
  struct Waiting {
    int64_t id;
    int64_t known;
  };
  std::deque<Waiting> waiting_;
  std::map<int64_t, int64_t> known_;  // tokens an evicted request starts again from
  int64_t evicted_ = 0;
};

TEST(PagedRunnerProperty, RandomLivesGiveTheHiddenStatesOfRequestsAlone) {
  int64_t evicted = 0;
  for (const auto& [name, spec] : test::tiny_attention_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model(spec, at::kDouble);
    model.parameters().initialise(3);
    const auto groups = static_cast<int64_t>(plan_pages(spec, 4).groups.size());
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      SCOPED_TRACE(seed);
      ContextOptions options;
      options.num_blocks = 1 + groups * 16;
      options.paused_blocks = seed % 2 == 0 ? groups * 3 : 0;
      options.max_requests = 6;
      options.max_tokens = 20;
      options.max_sequence_length = 60;
      options.prefix_caching = seed > 2;
      options.speculative_tokens = seed == 4 ? 2 : 0;
      Life life(model, options, seed);
      life.run(60);
      evicted += life.evicted();
    }
  }
  EXPECT_GT(evicted, 0);
}

}  // namespace
}  // namespace headway::engine
