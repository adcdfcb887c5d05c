// Prompts into the context: prefix matches, chunks, and room checked before anything changes.
// Not for: decode rows (dynamic_context_update.cpp).
#include <algorithm>

#include "headway/engine/block_hash.h"
#include "headway/engine/dynamic_context.h"

namespace headway::engine {
namespace {

int64_t rounded_up(int64_t rows, int64_t block) { return (rows + block - 1) / block; }

const char* words(Refusal refusal) {
  switch (refusal) {
    case Refusal::kRequests: return "RequestOverflow: all request rows are taken";
    case Refusal::kTokens: return "TokenOverflow: the step has no token left for it";
    case Refusal::kBlocks: return "BlockOverflow: too few free blocks";
    case Refusal::kDeferred: return "deferred: its prefix is written by the coming step";
    case Refusal::kLength: return "MaxSequenceLengthOverflow: it can never fit";
    case Refusal::kReleased: return "TensorStateDeallocated: the pages are released";
  }
  return "?";
}

/// Prompt tokens to skip when the first `covered` of `length` are in matched blocks. The rest is
/// two tokens or more where possible.
int64_t tokens_to_skip(int64_t covered, int64_t length, int64_t block) {
  const int64_t skip = std::min(covered, length - 1);
  if (length - skip >= 2 || length < 2) return skip;
  return (length - 2) / block * block;
}

void check_chunk(std::optional<int64_t> chunk, int64_t left) {
  if (!chunk || (*chunk >= 1 && *chunk <= left)) return;
  throw ConfigError("[dynamic context] chunk = " + std::to_string(*chunk) + ", allowed 1 to " +
                    std::to_string(left));
}

}  // namespace

int64_t chunk_length(int64_t remaining, int64_t budget, int64_t limit) {
  if (budget <= 0) return 0;
  if (remaining <= budget) return remaining;
  if (remaining - budget != 1) return budget;
  // With a limit of one token a step there is no other way.
  return budget > 1 ? budget - 1 : (limit == 1 ? 1 : 0);
}

void DynamicContext::check_new(const NewRequest& request) const {
  const std::string who = "[dynamic context] request " + std::to_string(request.id);
  if (request.prompt.empty()) throw ConfigError(who + ": prompt = 0 tokens, allowed 1 or more");
  if (request.output_length < 0) {
    throw ConfigError(who + ": output_length = " + std::to_string(request.output_length) +
                      ", allowed 0 or more");
  }
  if (find(request.id)) throw ConfigError(who + " is already there, allowed an unused id");
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (request.output_length > options_.max_sequence_length - prompt) {
    throw ContextOverflow(
        Refusal::kLength,
        who + ": MaxSequenceLengthOverflow: prompt and new tokens = " + std::to_string(prompt) +
            " + " + std::to_string(request.output_length) + ", allowed " +
            std::to_string(options_.max_sequence_length));
  }
  const int64_t rows = prompt + request.output_length + options_.speculative_tokens;
  const int64_t blocks = most_blocks(plan_, rows, options_.max_tokens);
  if (blocks > active_blocks()) {
    throw ContextOverflow(Refusal::kLength, who + ": needs up to " + std::to_string(blocks) +
                                                " blocks at a time, allowed " +
                                                std::to_string(active_blocks()));
  }
}

/// The longest prefix of the next `length` prompt tokens whose blocks are all there, searched from
/// its end; of groups with a window only the blocks in sight of the first token that runs.
void DynamicContext::match_prefix(const ContextRequest& request, int64_t length,
                                  Admission& admission) const {
  const int64_t block = plan_.block_size, done = request.kv_offset;
  const int64_t start = admission.matched, limit = (done + length) / block;
  const size_t groups = plan_.groups.size();
  std::vector<std::vector<int32_t>> ids(groups);
  std::vector<std::vector<int64_t>> first_of_run(groups);  // by last entry of the run
  for (size_t g = 0; g < groups; ++g) {
    for (int64_t k = start; k < limit; ++k) {
      const auto id = pool_.find({static_cast<int64_t>(g), request.given.hashes[k]});
      const bool joins = k > start && ids[g].back() >= 0;
      const int64_t before = joins ? first_of_run[g].back() : k;
      first_of_run[g].push_back(id ? before : k + 1);
      ids[g].push_back(id.value_or(-1));
    }
  }
  for (int64_t end = limit; end > start; --end) {
    const int64_t skip = tokens_to_skip(end * block - done, length, block);
    bool complete = true, filled = true;
    std::vector<std::vector<int32_t>> shared(groups);
    for (size_t g = 0; g < groups && complete; ++g) {
      const int64_t needed = std::max(start, first_visible(plan_.groups[g], done + skip) / block);
      complete = first_of_run[g][end - 1 - start] <= needed;
      for (int64_t k = start; k < end && complete; ++k) {
        shared[g].push_back(k < needed ? -1 : ids[g][k - start]);
        filled = filled && (k < needed || pool_.filled(shared[g].back()));
      }
    }
    if (!complete || skip <= 0) continue;
    if (!filled) admission.refusal = Refusal::kDeferred;
    admission.skip = skip;
    admission.matched = end;
    admission.shared = std::move(shared);
    return;
  }
}

bool DynamicContext::has_room(const ContextRequest& request, const Admission& admission,
                              bool whole_prompt) const {
  const int64_t block = plan_.block_size;
  const int64_t end = rounded_up(request.kv_offset + admission.chunk, block);
  const int64_t first_new = request.given.output_length > 0 ? 1 : 0;
  const int64_t last = rounded_up(request.prompt_length() + first_new, block);
  int64_t fresh = 0, wanted = 0, pinned = 0, entering = 0;
  for (const PageGroup& group : plan_.groups) {
    const int64_t more = std::max<int64_t>(0, end - admission.matched);
    const int64_t all = std::max(more, last - admission.matched);
    const int64_t seen =
        group.window ? rounded_up(*group.window - 1 + options_.max_tokens, block) + 1 : all;
    fresh += more;
    wanted += whole_prompt ? std::max(more, std::min(all, seen)) : more;
  }
  for (const auto& row : admission.shared) {
    for (const int32_t id : row) {
      if (id < 0) continue;
      pinned += pool_.references(id) == 0;
      entering += active_use_.holders[static_cast<size_t>(id)] == 0;
    }
  }
  const bool in_pool = pool_.available() - pinned >= wanted;
  return in_pool &&
         active_use_.used + entering + (whole_prompt ? wanted : fresh) <= active_blocks();
}

DynamicContext::Admission DynamicContext::plan_admission(const ContextRequest& request,
                                                         std::optional<int64_t> chunk) const {
  Admission admission;
  const auto refuse = [&admission](Refusal why) {
    admission.refusal = why;
    return admission;
  };
  if (released_) return refuse(Refusal::kReleased);
  const int64_t left = request.prompt_length() - request.kv_offset;
  if (static_cast<int64_t>(active_.size()) >= options_.max_requests) {
    return refuse(Refusal::kRequests);
  }
  const int64_t budget = options_.max_tokens - tokens_in_step();
  admission.shared.resize(plan_.groups.size());
  admission.matched = static_cast<int64_t>(request.blocks.front().size());
  if (options_.prefix_caching && request.kv_offset % plan_.block_size == 0) {
    match_prefix(request, chunk.value_or(left), admission);
    if (admission.refusal) return admission;
  }
  const int64_t runs = chunk ? *chunk - admission.skip
                             : chunk_length(left - admission.skip, budget, options_.max_tokens);
  if (runs < 1 || runs > budget) return refuse(Refusal::kTokens);
  admission.chunk = admission.skip + runs;
  const bool is_new = request.blocks.front().empty() && !chunk;
  if (!has_room(request, admission, is_new)) return refuse(Refusal::kBlocks);
  return admission;
}

void DynamicContext::admit(ContextRequest& request, const Admission& admission) {
  const int64_t block = plan_.block_size, done = request.kv_offset;
  const int64_t end = rounded_up(done + admission.chunk, block);
  // What matched is pinned before anything is allocated, or making room could take it away.
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    for (const int32_t id : admission.shared[g]) {
      if (id >= 0) {
        pool_.retain(id);
        active_use_.add(id);
      }
      request.blocks[g].push_back(id);
    }
  }
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    auto& row = request.blocks[g];
    const auto fresh = pool_.allocate(std::max<int64_t>(0, end - static_cast<int64_t>(row.size())));
    if (!fresh) throw InternalError("[dynamic context] room was checked, yet blocks are missing");
    for (const int32_t id : *fresh) {
      active_use_.add(id);
      row.push_back(id);
    }
    if (!options_.prefix_caching) continue;
    for (int64_t k = admission.matched; k < (done + admission.chunk) / block; ++k) {
      pool_.name(row[k], {static_cast<int64_t>(g), request.given.hashes[k]});
    }
  }
  if (admission.skip > 0) request.shared_until = admission.matched * block;
  request.skipped += admission.skip;
  request.kv_offset = done + admission.skip;
  const auto first = request.given.prompt.begin() + request.kv_offset;
  request.tokens.assign(first, first + (admission.chunk - admission.skip));
}

/// Prompts stand behind decode rows, the unfinished one last.
void DynamicContext::place(ContextRequest request) {
  if (!request.samples() || active_.empty() || active_.back().samples()) {
    active_.push_back(std::move(request));
  } else {
    active_.insert(active_.end() - 1, std::move(request));
  }
}

std::optional<Refusal> DynamicContext::try_add(NewRequest& given, std::optional<int64_t> chunk) {
  check_new(given);
  check_chunk(chunk, static_cast<int64_t>(given.prompt.size()));
  if (partial_ || (!active_.empty() && !active_.back().samples())) return Refusal::kTokens;
  if (options_.prefix_caching && given.hashes.empty()) {
    given.hashes = block_hashes(given.prompt, plan_.block_size);
  }
  ContextRequest request;
  request.given = std::move(given);
  request.blocks.resize(std::max<size_t>(1, plan_.groups.size()));
  const Admission admission = plan_admission(request, chunk);
  if (admission.refusal) {
    given = std::move(request.given);
    return admission.refusal;
  }
  admit(request, admission);
  place(std::move(request));
  return std::nullopt;
}

void DynamicContext::add_request(NewRequest request, std::optional<int64_t> chunk) {
  const int64_t id = request.id;
  if (const auto refusal = try_add(request, chunk)) {
    throw ContextOverflow(
        *refusal, "[dynamic context] request " + std::to_string(id) + ": " + words(*refusal));
  }
}

std::optional<Refusal> DynamicContext::try_continue(std::optional<int64_t> chunk) {
  if (!partial_) throw ConfigError("[dynamic context] no prompt is unfinished");
  check_chunk(chunk, partial_->prompt_length() - partial_->kv_offset);
  const Admission admission = plan_admission(*partial_, chunk);
  if (admission.refusal) return admission.refusal;
  admit(*partial_, admission);
  place(std::move(*partial_));
  partial_.reset();
  return std::nullopt;
}

}  // namespace headway::engine
