// Requests in and out of the context, and the batch of a step.
// Not for: prefix matches (dynamic_context_admission.cpp), growth (dynamic_context_update.cpp).
#include "headway/engine/dynamic_context.h"

#include <algorithm>

namespace headway::engine {
namespace {

void check_option(const char* name, int64_t value, bool fits, const std::string& allowed) {
  if (fits) return;
  throw ConfigError(std::string("[dynamic context] ") + name + " = " + std::to_string(value) +
                    ", allowed " + allowed);
}

const ContextOptions& checked(const ContextOptions& options, const PagePlan& plan) {
  check_option("max_requests", options.max_requests, options.max_requests >= 1, "1 or more");
  check_option("speculative_tokens", options.speculative_tokens,
               options.speculative_tokens >= 0 && options.speculative_tokens < plan.block_size,
               "0 to block_size - 1 (= " + std::to_string(plan.block_size - 1) + ")");
  check_option("max_tokens", options.max_tokens,
               options.max_tokens >= options.max_requests * (options.speculative_tokens + 1),
               "at least one decode step of max_requests (= " +
                   std::to_string(options.max_requests * (options.speculative_tokens + 1)) + ")");
  check_option("max_sequence_length", options.max_sequence_length, options.max_sequence_length >= 1,
               "1 or more");
  check_option("token_multiple", options.token_multiple, options.token_multiple >= 1, "1 or more");
  check_option("paused_blocks", options.paused_blocks,
               options.paused_blocks >= 0 && options.paused_blocks < options.num_blocks - 1,
               "0 to num_blocks - 2 (= " + std::to_string(options.num_blocks - 2) + ")");
  return options;
}

}  // namespace

DynamicContext::DynamicContext(PagePlan plan, const ContextOptions& options)
    : plan_(std::move(plan)),
      options_(checked(options, plan_)),
      pool_(options.num_blocks, options.prefix_policy) {
  reset();
}

void DynamicContext::reset() {
  pool_.reset();
  active_.clear();
  paused_.clear();
  partial_.reset();
  for (Use* use : {&active_use_, &paused_use_}) {
    use->holders.assign(static_cast<size_t>(pool_.size()), 0);
    use->used = 0;
  }
}

int64_t DynamicContext::tokens_in_step() const {
  int64_t tokens = 0;
  for (const ContextRequest& request : active_) tokens += request.query_length();
  return tokens;
}

const ContextRequest* DynamicContext::find(int64_t id) const {
  for (const auto* list : {&active_, &paused_}) {
    for (const ContextRequest& request : *list) {
      if (request.given.id == id) return &request;
    }
  }
  return partial_ && partial_->given.id == id ? &*partial_ : nullptr;
}

bool DynamicContext::remove(int64_t id) {
  const auto remove_from = [&](std::vector<ContextRequest>& list, Use& use) {
    const auto found = std::find_if(list.begin(), list.end(),
                                    [id](const auto& request) { return request.given.id == id; });
    if (found == list.end()) return false;
    give_back(*found, use);
    list.erase(found);
    return true;
  };
  if (remove_from(active_, active_use_) || remove_from(paused_, paused_use_)) return true;
  if (!partial_ || partial_->given.id != id) return false;
  give_back(*partial_, active_use_);
  partial_.reset();
  return true;
}

std::vector<int64_t> DynamicContext::drop_all() {
  std::vector<int64_t> ids;
  for (const auto* list : {&paused_, &active_}) {
    for (const ContextRequest& request : *list) ids.push_back(request.given.id);
  }
  if (partial_) ids.push_back(partial_->given.id);
  for (const int64_t id : ids) remove(id);
  pool_.forget_contents();
  return ids;
}

void DynamicContext::count(const ContextRequest& request, Use& use, bool held) const {
  for (const auto& row : request.blocks) {
    for (const int32_t id : row) {
      if (id >= 0) held ? use.add(id) : use.drop(id);
    }
  }
}

void DynamicContext::give_back(ContextRequest& request, Use& use) {
  count(request, use, false);
  for (auto& row : request.blocks) {
    // Last first: under LRU the end of a prefix then is older than its start.
    for (auto id = row.rbegin(); id != row.rend(); ++id) {
      if (*id >= 0) pool_.release(*id);
    }
    row.clear();
  }
}

int64_t DynamicContext::first_visible(const PageGroup& group, int64_t position) const {
  return group.window ? std::max<int64_t>(0, position - (*group.window - 1)) : 0;
}

namespace {

struct TokenPlace {
  int64_t position;
  int64_t block_size;
  int32_t dummy;
};

void put_token(const ContextRequest& request, size_t group, const TokenPlace& at,
               ContextStep::Group& out) {
  const bool there = at.position < request.shared_until;
  const int32_t block =
      there ? at.dummy : request.blocks[group][static_cast<size_t>(at.position / at.block_size)];
  out.token_blocks.push_back(block);
  out.slots.push_back(there ? -1 : block * at.block_size + at.position % at.block_size);
}

}  // namespace

ContextStep DynamicContext::begin_step() const {
  if (active_.empty())
    throw ConfigError("[dynamic context] active requests = 0, allowed 1 or more");
  if (released_) {
    throw ContextOverflow(Refusal::kReleased, "[dynamic context] the pages are released; resume");
  }
  ContextStep step;
  step.groups.resize(plan_.groups.size());
  for (const ContextRequest& request : active_) {
    for (const auto& row : request.blocks) {
      step.table_width = std::max(step.table_width, static_cast<int64_t>(row.size()));
    }
  }
  for (const ContextRequest& request : active_) {
    const auto row = step.rows();
    step.request_ids.push_back(request.given.id);
    step.query_lengths.push_back(request.query_length());
    step.kv_lengths.push_back(request.end());
    step.samples.push_back(request.samples());
    step.decode_only = step.decode_only && request.decoding;
    for (int64_t t = 0; t < request.query_length(); ++t) {
      step.input_ids.push_back(request.tokens[static_cast<size_t>(t)]);
      step.positions.push_back(request.kv_offset + t);
      step.token_rows.push_back(row);
    }
    for (size_t g = 0; g < step.groups.size(); ++g) {
      ContextStep::Group& group = step.groups[g];
      const auto& blocks = request.blocks[g];
      group.block_table.insert(group.block_table.end(), blocks.begin(), blocks.end());
      group.block_table.resize(static_cast<size_t>((row + 1) * step.table_width), -1);
      for (int64_t t = 0; t < request.query_length(); ++t) {
        put_token(request, g, {request.kv_offset + t, plan_.block_size, pool_.dummy()}, group);
      }
    }
  }
  const auto tokens = static_cast<int64_t>(step.input_ids.size());
  const int64_t multiple = options_.token_multiple;
  step.padding = (tokens + multiple - 1) / multiple * multiple - tokens;
  for (int64_t t = 0; t < step.padding; ++t) {
    step.input_ids.push_back(0);
    step.positions.push_back(0);
    step.token_rows.push_back(-1);
    for (ContextStep::Group& group : step.groups) {
      group.token_blocks.push_back(pool_.dummy());
      group.slots.push_back(-1);
    }
  }
  return step;
}

std::string DynamicContext::broken_invariant() const {
  if (std::string pool = pool_.broken_invariant(); !pool.empty()) return pool;
  std::vector<int64_t> named(static_cast<size_t>(pool_.size()), 0);
  std::vector<int64_t> active(named.size(), 0), paused(named.size(), 0);
  const auto walk = [&](const ContextRequest& request, std::vector<int64_t>& kind) {
    for (const auto& row : request.blocks) {
      for (const int32_t id : row) {
        if (id < 0) continue;
        ++named[static_cast<size_t>(id)];
        ++kind[static_cast<size_t>(id)];
      }
    }
  };
  for (const ContextRequest& request : active_) walk(request, active);
  for (const ContextRequest& request : paused_) walk(request, paused);
  if (partial_) walk(*partial_, active);
  for (int32_t id = 0; id < pool_.dummy(); ++id) {
    const std::string block = "block " + std::to_string(id);
    if (pool_.references(id) != named[id]) return block + " has references that no row explains";
    if (named[id] > 1 && !pool_.is_named(id)) return block + " is shared but has no name";
    if (active_use_.holders[id] != active[id] || paused_use_.holders[id] != paused[id]) {
      return block + " is counted wrongly";
    }
  }
  if (active_use_.used > active_blocks()) return "active requests hold more than their share";
  if (paused_use_.used > options_.paused_blocks)
    return "paused requests hold more than their share";
  if (named[static_cast<size_t>(pool_.dummy())] != 0) return "a row names the dummy";
  return "";
}

}  // namespace headway::engine
