// Which page ids are free, who shares them, and which may be found again by the prompt they hold.
// Not for: memory of pages (page_storage.h) or requests (dynamic_context.h).
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace headway::engine {

/// What happens to a block with a name when its last holder lets go: forgotten at once, or kept
/// until the room is needed, the longest unused first.
enum class PrefixPolicy { kRefZero, kLru };

/// Name of a block's content: layers that keep other rows have names of their own.
struct BlockKey {
  int64_t group = 0;
  uint64_t hash = 0;
  auto operator<=>(const BlockKey&) const = default;
};

/// Ids 0 … n-1. The last is the dummy: it belongs to nobody and stands where tokens have no row to
/// keep. Every other id is free, held (one or more references), or cached (named, no reference).
/// Test: tests/unit/engine/block_pool_test.cpp
class BlockPool {
 public:
  /// Errors: ConfigError unless num_blocks is in [2, 2^31).
  BlockPool(int64_t num_blocks, PrefixPolicy policy);

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  int32_t dummy() const { return static_cast<int32_t>(size() - 1); }
  /// Blocks `allocate` can give: free and cached ones.
  int64_t available() const;
  int64_t cached() const { return static_cast<int64_t>(unused_.size()); }
  int64_t references(int32_t id) const { return blocks_[id].references; }

  /// `count` blocks with one reference each, or nothing (and nothing changes) if fewer are
  /// available. Free ones go first, then the cached ones that nobody wanted for longest.
  std::optional<std::vector<int32_t>> allocate(int64_t count);
  /// One more holder. A cached block is no longer evictable: pin what was found before allocating.
  void retain(int32_t id);
  /// One holder less.
  void release(int32_t id);

  /// The block of that content, if it is held or cached.
  std::optional<int32_t> find(const BlockKey& key) const;
  /// Gives a held block a name. Its rows are written by the next forward: until `mark_filled` it is
  /// found but not yet readable. Does nothing if the name is taken.
  void name(int32_t id, const BlockKey& key);
  void mark_filled(int32_t id) { blocks_[id].filled = true; }
  bool filled(int32_t id) const { return blocks_[id].filled; }
  bool is_named(int32_t id) const { return blocks_[id].key.has_value(); }

  /// Everything free and forgotten.
  void reset();
  /// Forgets the content of cached blocks and the names of held ones.
  void forget_contents();

  /// Empty, or the first invariant that does not hold: for tests.
  std::string broken_invariant() const;

 private:
  struct Block {
    int64_t references = 0;
    std::optional<BlockKey> key{};
    bool filled = false;
    uint64_t last_used = 0;
  };
  void forget(int32_t id);

  PrefixPolicy policy_;
  std::vector<Block> blocks_;
  std::vector<int32_t> free_;  // a stack
  std::map<BlockKey, int32_t> by_key_;
  std::set<std::pair<uint64_t, int32_t>> unused_;  // cached: (last_used, id), oldest first
  uint64_t clock_ = 0;
};

}  // namespace headway::engine
