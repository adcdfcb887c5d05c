// What a dynamic context takes and gives: limits, requests, one step's batch, refusals.
// Not for: behaviour (dynamic_context.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headway/base/error.h"
#include "headway/engine/block_pool.h"

namespace headway::engine {

struct ContextOptions {
  int64_t num_blocks = 0;           // pages in memory, the dummy included
  int64_t paused_blocks = 0;        // of them, what requests that wait for room may keep
  int64_t max_requests = 64;        // rows of one forward
  int64_t max_tokens = 16384;       // tokens of one forward; longer prompts come in chunks
  int64_t max_sequence_length = 0;  // prompt and new tokens of one request
  int64_t speculative_tokens = 0;   // drafted tokens a decode row carries besides its own
  int64_t token_multiple = 1;       // tokens of a forward are padded to a multiple of it
  bool prefix_caching = false;
  PrefixPolicy prefix_policy = PrefixPolicy::kLru;
};

/// Why a request does not run now. Only kLength never passes; kDeferred: blocks that match the
/// prompt are written by the coming forward.
enum class Refusal { kRequests, kTokens, kBlocks, kDeferred, kLength, kReleased };

/// Megatron's RequestOverflow, TokenOverflow, BlockOverflow, MaxSequenceLengthOverflow and
/// TensorStateDeallocated. The context is as it was before.
class ContextOverflow : public Error {
 public:
  ContextOverflow(Refusal reason, std::string message)
      : Error(std::move(message), ExitCode::kConfig), reason_(reason) {}
  Refusal reason() const { return reason_; }
  /// Room may come when others finish.
  bool transient() const { return reason_ != Refusal::kLength; }

 private:
  Refusal reason_;
};

struct NewRequest {
  int64_t id = 0;
  std::vector<int64_t> prompt{};
  int64_t output_length = 0;       // new tokens at most
  uint64_t arrival = 0;            // who came first keeps its place longest
  std::vector<uint64_t> hashes{};  // of the prompt's blocks; filled when first needed
};

/// A request in the context. The coming step runs `tokens` at positions kv_offset, kv_offset+1, …
struct ContextRequest {
  NewRequest given;
  int64_t kv_offset = 0;                     // rows in the cache
  std::vector<int64_t> tokens;               // of the coming step
  bool decoding = false;                     // the whole prompt is in the cache
  int64_t shared_until = 0;                  // rows before it are in blocks that matched
  int64_t skipped = 0;                       // prompt tokens that never ran thanks to a match
  std::vector<std::vector<int32_t>> blocks;  // a row of ids for each page group; -1: given back

  int64_t query_length() const { return static_cast<int64_t>(tokens.size()); }
  int64_t end() const { return kv_offset + query_length(); }
  int64_t prompt_length() const { return static_cast<int64_t>(given.prompt.size()); }
  /// The step's last token is followed by a new one.
  bool samples() const { return decoding || end() == prompt_length(); }
};

/// The batch of one forward. Row i of the lists is request i; decode rows come first, a prompt that
/// does not end in this step comes last. Padding tokens form a last row of their own without keys.
struct ContextStep {
  std::vector<int64_t> request_ids;
  std::vector<int64_t> query_lengths;
  std::vector<int64_t> kv_lengths;  // kv_offset + query_length
  std::vector<bool> samples;
  bool decode_only = true;
  // Per token.
  std::vector<int64_t> input_ids;
  std::vector<int64_t> positions;
  std::vector<int64_t> token_rows;  // of the request
  int64_t padding = 0;              // tokens at the end that stand for nothing
  // Per page group.
  struct Group {
    std::vector<int32_t> block_table;   // [rows, table_width], -1 where there is no block
    std::vector<int32_t> token_blocks;  // the dummy for tokens whose row is already there
    std::vector<int64_t> slots;         // block·block_size + position % block_size; -1 = dropped
  };
  std::vector<Group> groups;
  int64_t table_width = 0;

  int64_t rows() const { return static_cast<int64_t>(request_ids.size()); }
};

/// What became of one row of a step.
struct StepOutcome {
  bool finished = false;
  std::vector<int64_t> next_tokens{};  // the sampled one and drafted ones; empty mid-prompt
  int64_t rejected = 0;                // tokens at the row's end whose keys are forgotten
};

struct UpdateResult {
  std::vector<int64_t> paused;   // wait for blocks, keep theirs
  std::vector<int64_t> resumed;  // go on
  std::vector<int64_t> evicted;  // lost their blocks: to be added again from the start
};

}  // namespace headway::engine
