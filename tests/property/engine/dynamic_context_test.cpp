// Ten thousand requests through a small context with a make-believe forward: every row a query may
// see holds exactly what its own request put there, nothing is left over, everybody gets done.
// Not for: numbers of a model (paged_runner_test.cpp).
#include "headway/engine/dynamic_context.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

constexpr int64_t kVocab = 3;  // few words: prefixes meet often

uint64_t extend(uint64_t prefix, int64_t token) {
  return (prefix ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15u + 1;
}

/// A request that knows in advance how it goes on.
struct Script {
  std::vector<int64_t> tokens;  // prompt and everything after
  int64_t prompt = 0;
  int64_t known = 0;  // tokens that are sure: what an eviction starts again from
};

/// Content of every row of every group: a fingerprint of the tokens up to it.
class FakePages {
 public:
  explicit FakePages(const DynamicContext& context)
      : block_(context.plan().block_size),
        rows_(context.plan().groups.size(),
              std::vector<uint64_t>(static_cast<size_t>(context.pool().size() * block_), 0)) {}

  void write(const ContextStep& step, const std::vector<std::vector<uint64_t>>& prints) {
    for (size_t g = 0; g < rows_.size(); ++g) {
      for (size_t t = 0; t < step.groups[g].slots.size(); ++t) {
        const int64_t slot = step.groups[g].slots[t];
        if (slot < 0) continue;
        rows_[g][static_cast<size_t>(slot)] = prints[step.token_rows[t]][step.positions[t]];
      }
    }
  }

  /// Rows in sight of row n's queries that do not hold what they should.
  int64_t wrong(const ContextStep& step, size_t n, const PagePlan& plan,
                const std::vector<uint64_t>& prints) const {
    int64_t count = 0;
    const int64_t first_query = step.kv_lengths[n] - step.query_lengths[n];
    for (size_t g = 0; g < rows_.size(); ++g) {
      const int64_t first = plan.groups[g].window
                                ? std::max<int64_t>(0, first_query - *plan.groups[g].window + 1)
                                : 0;
      for (int64_t j = first; j < step.kv_lengths[n]; ++j) {
        const int32_t id = step.groups[g].block_table[n * step.table_width + j / block_];
        count += id < 0 || rows_[g][id * block_ + j % block_] != prints[j];
      }
    }
    return count;
  }

  /// What nobody holds and nobody can find again loses its content.
  void poison(const BlockPool& pool) {
    for (int32_t id = 0; id < pool.size(); ++id) {
      if (pool.references(id) > 0 || pool.is_named(id)) continue;
      for (auto& rows : rows_) std::fill_n(rows.begin() + id * block_, block_, 0);
    }
  }

 private:
  int64_t block_;
  std::vector<std::vector<uint64_t>> rows_;
};

struct Setting {
  std::string name;
  int64_t block = 4;
  ContextOptions options;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

class Soak {
 public:
  Soak(const Setting& setting, int64_t requests)
      : context_(plan_pages(test::tiny_step(), setting.block), setting.options),
        pages_(context_),
        to_come_(requests) {}

  void run() {
    while (to_come_ > 0 || !scripts_.empty()) {
      arrive();
      admit();
      if (context_.active().empty()) {
        ASSERT_FALSE(context_.mid_prompt()) << "an unfinished prompt alone must find room";
        take_back(context_.try_resume());
        ASSERT_FALSE(context_.active().empty() && !scripts_.empty()) << "nobody can go on";
        continue;
      }
      step();
      if (testing::Test::HasFatalFailure()) return;
      disturb();
      ASSERT_EQ(context_.broken_invariant(), "");
    }
    EXPECT_EQ(context_.pool().available(), context_.total_blocks());
    EXPECT_EQ(context_.active_blocks_used() + context_.paused_blocks_used(), 0);
    EXPECT_GT(done_, 0);
    EXPECT_GT(cancelled_, 0);
    EXPECT_GT(evicted_, 0);
    EXPECT_GT(refused_, 0);
    EXPECT_EQ(paused_ > 0, context_.options().paused_blocks > 0);
  }

 private:
  int64_t draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  void arrive() {
    for (int64_t n = draw(0, 3); n > 0 && to_come_ > 0 && waiting_.size() < 20; --n, --to_come_) {
      Script script;
      script.prompt = draw(0, 9) == 0 ? draw(1, 60) : draw(1, 14);
      // Half of the prompts go along a road that many share.
      const bool common = draw(0, 1) == 0;
      const int64_t length = script.prompt + draw(1, 16);
      for (int64_t j = 0; j < length; ++j) {
        script.tokens.push_back(common && j < 40 ? j % kVocab : draw(0, kVocab - 1));
      }
      script.known = script.prompt;
      scripts_[next_id_] = std::move(script);
      wait_for_room(next_id_++);
    }
  }

  void wait_for_room(int64_t id) {
    const Script& script = scripts_.at(id);
    NewRequest request{.id = id, .arrival = static_cast<uint64_t>(id)};
    request.prompt.assign(script.tokens.begin(), script.tokens.begin() + script.known);
    request.output_length = static_cast<int64_t>(script.tokens.size()) - script.known;
    const auto place = std::find_if(waiting_.begin(), waiting_.end(),
                                    [id](const NewRequest& other) { return other.id > id; });
    waiting_.insert(place, std::move(request));
  }

  void admit() {
    if (context_.mid_prompt() && context_.try_continue()) return;
    while (!waiting_.empty() && context_.paused().empty()) {
      if (context_.try_add(waiting_.front())) {
        ++refused_;
        return;
      }
      waiting_.pop_front();
    }
  }

  /// Fingerprints of a row's rows: what was given, then the step's own tokens, drafts included.
  std::vector<uint64_t> prints_of(const ContextRequest& request) const {
    const Script& script = scripts_.at(request.given.id);
    std::vector<uint64_t> prints;
    uint64_t print = 0;
    for (int64_t j = 0; j < request.end(); ++j) {
      const bool now = j >= request.kv_offset;
      print = extend(print, now ? request.tokens[j - request.kv_offset] : script.tokens[j]);
      prints.push_back(print);
    }
    return prints;
  }

  void step() {
    const ContextStep step = context_.begin_step();
    std::vector<std::vector<uint64_t>> prints;
    for (const ContextRequest& request : context_.active()) prints.push_back(prints_of(request));
    pages_.write(step, prints);
    std::vector<StepOutcome> outcomes;
    for (size_t n = 0; n < prints.size(); ++n) {
      ASSERT_EQ(pages_.wrong(step, n, context_.plan(), prints[n]), 0)
          << "request " << step.request_ids[n];
      outcomes.push_back(outcome_of(context_.active()[n]));
    }
    for (size_t n = 0; n < outcomes.size(); ++n) {
      if (!outcomes[n].finished) continue;
      scripts_.erase(step.request_ids[n]);
      ++done_;
    }
    take_back(context_.update(outcomes));
    pages_.poison(context_.pool());
  }

  StepOutcome outcome_of(const ContextRequest& request) {
    if (!request.samples()) return {};
    Script& script = scripts_.at(request.given.id);
    StepOutcome outcome;
    int64_t position = request.end();
    // Drafts that are not what comes are rejected with everything after them.
    for (int64_t t = request.query_length() - 1; request.decoding && t > 0; --t) {
      if (request.tokens[t] != script.tokens[request.kv_offset + t]) {
        outcome.rejected = request.query_length() - t;
        position = request.kv_offset + t;
      }
    }
    const auto length = static_cast<int64_t>(script.tokens.size());
    if (position >= length) return {.finished = true};
    script.known = position + 1;
    const int64_t drafts = std::min(context_.options().speculative_tokens, length - position - 1);
    outcome.next_tokens.push_back(script.tokens[position]);
    for (int64_t d = 1; d <= drafts; ++d) {
      const bool right = draw(0, 2) > 0;
      outcome.next_tokens.push_back((script.tokens[position + d] + (right ? 0 : 1)) % kVocab);
    }
    return outcome;
  }

  void take_back(const UpdateResult& result) {
    evicted_ += static_cast<int64_t>(result.evicted.size());
    paused_ += static_cast<int64_t>(result.paused.size());
    for (const int64_t id : result.evicted) wait_for_room(id);
  }

  void disturb() {
    if (draw(0, 19) == 0 && !scripts_.empty()) {
      auto victim = scripts_.begin();
      std::advance(victim, draw(0, static_cast<int64_t>(scripts_.size()) - 1));
      const int64_t id = victim->first;
      context_.remove(id);
      std::erase_if(waiting_, [id](const NewRequest& request) { return request.id == id; });
      scripts_.erase(victim);
      ++cancelled_;
    }
    if (draw(0, 999) == 0) {
      for (const int64_t id : context_.drop_all()) wait_for_room(id);
      pages_.poison(context_.pool());
    }
  }

  DynamicContext context_;
  FakePages pages_;
  int64_t to_come_;
  std::mt19937_64 random_{5};
  int64_t next_id_ = 0;
  std::map<int64_t, Script> scripts_;
  std::deque<NewRequest> waiting_;
  int64_t done_ = 0, cancelled_ = 0, evicted_ = 0, paused_ = 0, refused_ = 0;
};

class ContextSoak : public testing::TestWithParam<Setting> {};

TEST_P(ContextSoak, NoRowIsEverAnothersAndNothingIsLost) { Soak(GetParam(), 10000).run(); }

std::vector<Setting> settings() {
  ContextOptions small;
  small.num_blocks = 66;
  small.max_requests = 10;
  small.max_tokens = 30;
  small.max_sequence_length = 100;
  std::vector<Setting> list;
  list.push_back({"Plain", 4, small});
  list.push_back({"Paused", 4, small});
  list.back().options.paused_blocks = 8;
  list.push_back({"PrefixLru", 4, small});
  list.back().options.prefix_caching = true;
  list.push_back({"PrefixRefZeroPaused", 3, small});
  list.back().options.prefix_caching = true;
  list.back().options.prefix_policy = PrefixPolicy::kRefZero;
  list.back().options.num_blocks = 80;
  list.back().options.paused_blocks = 8;
  list.push_back({"PrefixLruSpeculative", 4, small});
  list.back().options.prefix_caching = true;
  list.back().options.speculative_tokens = 2;
  list.back().options.paused_blocks = 10;
  list.back().options.token_multiple = 8;
  return list;
}

INSTANTIATE_TEST_SUITE_P(Settings, ContextSoak, testing::ValuesIn(settings()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace headway::engine
