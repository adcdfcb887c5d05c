// Which requests run in the next forward and which page holds which of their rows: Megatron's
// dynamic inference context without its tensors.
// Not for: memory (page_storage.h), waiting queues and sampling (batch_generator.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "headway/engine/block_pool.h"
#include "headway/engine/context_types.h"
#include "headway/engine/page_plan.h"

namespace headway::engine {

/// Tokens of the next chunk of a prompt of which `remaining` are left, when `budget` of `limit`
/// tokens a step are free: never so many that a single token is left for the last chunk. 0 = wait.
int64_t chunk_length(int64_t remaining, int64_t budget, int64_t limit);

/// Life of a request: waiting (outside) -> prompt, perhaps in chunks -> decode <-> paused -> gone,
/// or evicted to wait again. A call that refuses changes nothing. Sharing: a block has as many
/// references as rows name it; named blocks may be shared, all others have one holder.
/// Test: tests/unit/engine/dynamic_context_test.cpp, tests/property/engine/dynamic_context_test.cpp
class DynamicContext {
 public:
  /// Errors: ConfigError (limits that leave no room for any request).
  DynamicContext(PagePlan plan, const ContextOptions& options);

  /// Takes a request and the blocks its next chunk needs: without `chunk` as much of the prompt as
  /// the step's tokens allow, provided that blocks for all of it are there. nullopt = taken (and
  /// `request` is moved from). Throws ContextOverflow if the request could never run; ConfigError
  /// for an empty prompt, an id in use or a chunk out of range.
  std::optional<Refusal> try_add(NewRequest& request, std::optional<int64_t> chunk = std::nullopt);
  /// The same; a refusal throws ContextOverflow.
  void add_request(NewRequest request, std::optional<int64_t> chunk = std::nullopt);

  /// Next chunk of the prompt that is not finished. ConfigError if there is none.
  std::optional<Refusal> try_continue(std::optional<int64_t> chunk = std::nullopt);
  bool mid_prompt() const { return partial_.has_value(); }

  /// The batch of the coming forward; ConfigError if nothing is active.
  ContextStep begin_step() const;

  /// After the forward, one outcome a row of the step. Errors: ConfigError if they do not match.
  UpdateResult update(const std::vector<StepOutcome>& outcomes);

  /// Gives back everything of a request, wherever it is; false if the id is unknown.
  bool remove(int64_t id);
  /// Lets paused requests go on as far as blocks allow, as `update` does: after `remove`.
  UpdateResult try_resume();

  /// Contents of pages are lost (suspend with drop): all requests leave, names are forgotten.
  std::vector<int64_t> drop_all();
  /// While the pages have no memory, requests are refused with kReleased.
  void set_released(bool released) { released_ = released; }
  /// As constructed.
  void reset();

  const std::vector<ContextRequest>& active() const { return active_; }
  const std::vector<ContextRequest>& paused() const { return paused_; }
  const ContextRequest* find(int64_t id) const;
  const BlockPool& pool() const { return pool_; }
  const PagePlan& plan() const { return plan_; }
  const ContextOptions& options() const { return options_; }
  int64_t total_blocks() const { return pool_.size() - 1; }
  int64_t active_blocks() const { return total_blocks() - options_.paused_blocks; }
  /// Blocks that active requests hold, each counted once.
  int64_t active_blocks_used() const { return active_use_.used; }
  int64_t paused_blocks_used() const { return paused_use_.used; }

  /// Empty, or the first invariant that does not hold: for tests.
  std::string broken_invariant() const;

 private:
  /// How many requests of a kind hold each block, and how many blocks that are.
  struct Use {
    std::vector<int32_t> holders;
    int64_t used = 0;
    void add(int32_t id) { used += holders[id]++ == 0; }
    void drop(int32_t id) { used -= --holders[id] == 0; }
  };
  /// A chunk of a prompt before anything has changed.
  struct Admission {
    std::optional<Refusal> refusal;
    int64_t chunk = 0;    // prompt tokens the request advances by
    int64_t skip = 0;     // of them, tokens that need not run
    int64_t matched = 0;  // entries of its rows that are settled: matched, or already there
    std::vector<std::vector<int32_t>>
        shared{};  // per group: ids from the end of the row to matched
  };

  int64_t tokens_in_step() const;
  int64_t first_visible(const PageGroup& group, int64_t position) const;
  Admission plan_admission(const ContextRequest& request, std::optional<int64_t> chunk) const;
  void match_prefix(const ContextRequest& request, int64_t length, Admission& admission) const;
  bool has_room(const ContextRequest& request, const Admission& admission, bool whole_prompt) const;
  void admit(ContextRequest& request, const Admission& admission);
  void place(ContextRequest request);
  void check_new(const NewRequest& request) const;

  void count(const ContextRequest& request, Use& use, bool held) const;
  void give_back(ContextRequest& request, Use& use);
  void forget_behind_windows(ContextRequest& request, Use& use);
  int64_t missing_blocks(const ContextRequest& request) const;
  bool grow(ContextRequest& request);
  void apply(ContextRequest& request, const StepOutcome& outcome);
  void resume(UpdateResult& result);
  void evict_latest_paused(UpdateResult& result);

  PagePlan plan_;
  ContextOptions options_;
  BlockPool pool_;
  std::vector<ContextRequest> active_;     // decode rows first, then prompts
  std::vector<ContextRequest> paused_;     // a stack: the last goes on first
  std::optional<ContextRequest> partial_;  // between two chunks of its prompt
  Use active_use_;                         // of active_ and partial_
  Use paused_use_;
  bool released_ = false;
};

}  // namespace headway::engine
