// After a forward: who finished, who goes on, who waits for blocks, who loses them.
// Not for: prompts (dynamic_context_admission.cpp).
#include <algorithm>

#include "headway/engine/dynamic_context.h"

namespace headway::engine {
namespace {

int64_t rounded_up(int64_t rows, int64_t block) { return (rows + block - 1) / block; }

bool came_later(const ContextRequest& a, const ContextRequest& b) {
  return a.given.arrival > b.given.arrival;
}

}  // namespace

void DynamicContext::apply(ContextRequest& request, const StepOutcome& outcome) {
  // Blocks named when the chunk was taken now hold what their names say.
  for (const auto& row : request.blocks) {
    for (const int32_t id : row) {
      if (id >= 0) pool_.mark_filled(id);
    }
  }
  request.decoding = request.samples();
  request.kv_offset = request.end() - outcome.rejected;
  request.tokens = outcome.next_tokens;
}

void DynamicContext::forget_behind_windows(ContextRequest& request, Use& use) {
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    if (!plan_.groups[g].window) continue;
    auto& row = request.blocks[g];
    const int64_t kept = first_visible(plan_.groups[g], request.kv_offset) / plan_.block_size;
    for (int64_t k = std::min(kept, static_cast<int64_t>(row.size())) - 1; k >= 0 && row[k] >= 0;
         --k) {
      use.drop(row[k]);
      pool_.release(row[k]);
      row[k] = -1;
    }
  }
}

int64_t DynamicContext::missing_blocks(const ContextRequest& request) const {
  int64_t missing = 0;
  for (const auto& row : request.blocks) {
    missing += std::max<int64_t>(
        0, rounded_up(request.end(), plan_.block_size) - static_cast<int64_t>(row.size()));
  }
  return missing;
}

/// Blocks for the coming tokens of an active request, if there are enough.
bool DynamicContext::grow(ContextRequest& request) {
  if (active_use_.used + missing_blocks(request) > active_blocks()) return false;
  const auto fresh = pool_.allocate(missing_blocks(request));
  if (!fresh) return false;
  size_t next = 0;
  const auto entries = static_cast<size_t>(rounded_up(request.end(), plan_.block_size));
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    while (request.blocks[g].size() < entries) {
      active_use_.add((*fresh)[next]);
      request.blocks[g].push_back((*fresh)[next++]);
    }
  }
  return true;
}

void DynamicContext::resume(UpdateResult& result) {
  const int64_t tokens_a_row = options_.speculative_tokens + 1;
  const int64_t rows = std::min(options_.max_requests, options_.max_tokens / tokens_a_row);
  while (!paused_.empty() && static_cast<int64_t>(active_.size()) < rows) {
    ContextRequest& request = paused_.back();
    count(request, paused_use_, false);
    count(request, active_use_, true);
    if (active_use_.used > active_blocks() || !grow(request)) {
      count(request, active_use_, false);
      count(request, paused_use_, true);
      return;
    }
    result.resumed.push_back(request.given.id);
    active_.push_back(std::move(request));
    paused_.pop_back();
  }
}

void DynamicContext::evict_latest_paused(UpdateResult& result) {
  const auto latest = std::min_element(paused_.begin(), paused_.end(), came_later);
  result.evicted.push_back(latest->given.id);
  give_back(*latest, paused_use_);
  paused_.erase(latest);
}

UpdateResult DynamicContext::update(const std::vector<StepOutcome>& outcomes) {
  if (outcomes.size() != active_.size()) {
    throw ConfigError("[dynamic context] outcomes = " + std::to_string(outcomes.size()) +
                      ", allowed one a row (= " + std::to_string(active_.size()) + ")");
  }
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const ContextRequest& request = active_[i];
    const auto next = static_cast<int64_t>(outcomes[i].next_tokens.size());
    const bool goes_on = request.samples() && !outcomes[i].finished;
    const int64_t most = goes_on ? options_.speculative_tokens + 1 : 0;
    if (next > most || (goes_on && next == 0) || outcomes[i].rejected < 0 ||
        outcomes[i].rejected >= request.query_length() ||
        (outcomes[i].rejected > 0 && !request.decoding)) {
      throw ConfigError("[dynamic context] outcome of request " + std::to_string(request.given.id) +
                        " = " + std::to_string(next) + " tokens, " +
                        std::to_string(outcomes[i].rejected) + " rejected, allowed " +
                        (goes_on ? "1 to " : "") + std::to_string(most) +
                        " tokens and fewer rejected than its decode row carried");
    }
  }
  std::vector<ContextRequest> going, waiting;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    ContextRequest& request = active_[i];
    apply(request, outcomes[i]);
    if (outcomes[i].finished) {
      give_back(request, active_use_);
      continue;
    }
    forget_behind_windows(request, active_use_);
    if (!request.decoding) {
      partial_ = std::move(request);
    } else {
      (missing_blocks(request) > 0 ? waiting : going).push_back(std::move(request));
    }
  }
  active_ = std::move(going);
  UpdateResult result;
  // The earliest comer on top of the stack, so that it is the first to go on.
  std::sort(waiting.begin(), waiting.end(), came_later);
  for (ContextRequest& request : waiting) {
    count(request, active_use_, false);
    count(request, paused_use_, true);
    result.paused.push_back(request.given.id);
    paused_.push_back(std::move(request));
  }
  resume(result);
  while (paused_use_.used > options_.paused_blocks) {
    evict_latest_paused(result);
    resume(result);
  }
  // A request that only waited for its turn in this call was never paused.
  std::erase_if(result.paused, [&](int64_t id) { return std::erase(result.resumed, id) > 0; });
  std::erase_if(result.paused, [&](int64_t id) {
    return std::find(result.evicted.begin(), result.evicted.end(), id) != result.evicted.end();
  });
  return result;
}

UpdateResult DynamicContext::try_resume() {
  UpdateResult result;
  resume(result);
  return result;
}

}  // namespace headway::engine
