// Free, held and cached page ids. Not for: what is in them.
#include "headway/engine/block_pool.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "headway/base/error.h"

namespace headway::engine {

BlockPool::BlockPool(int64_t num_blocks, PrefixPolicy policy) : policy_(policy) {
  if (num_blocks < 2 || num_blocks > std::numeric_limits<int32_t>::max()) {
    throw ConfigError("[BlockPool] num_blocks = " + std::to_string(num_blocks) +
                      ", allowed 2 to 2147483647");
  }
  blocks_.resize(static_cast<size_t>(num_blocks));
  reset();
}

void BlockPool::reset() {
  std::fill(blocks_.begin(), blocks_.end(), Block{});
  free_.resize(blocks_.size() - 1);
  std::iota(free_.begin(), free_.end(), 0);
  by_key_.clear();
  unused_.clear();
  clock_ = 0;
}

int64_t BlockPool::available() const { return static_cast<int64_t>(free_.size() + unused_.size()); }

void BlockPool::forget(int32_t id) {
  Block& block = blocks_[id];
  if (block.key) by_key_.erase(*block.key);
  block.key.reset();
  block.filled = false;
}

std::optional<std::vector<int32_t>> BlockPool::allocate(int64_t count) {
  if (count > available()) return std::nullopt;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    if (free_.empty()) {
      const int32_t oldest = unused_.begin()->second;
      unused_.erase(unused_.begin());
      forget(oldest);
      free_.push_back(oldest);
    }
    ids.push_back(free_.back());
    free_.pop_back();
    blocks_[ids.back()] = Block{.references = 1};
  }
  return ids;
}

void BlockPool::retain(int32_t id) {
  Block& block = blocks_[id];
  if (block.references == 0) {
    if (unused_.erase({block.last_used, id}) == 0) {
      throw InternalError("[BlockPool] block " + std::to_string(id) + " is free: nothing to share");
    }
  }
  ++block.references;
}

void BlockPool::release(int32_t id) {
  Block& block = blocks_[id];
  if (block.references == 0) {
    throw InternalError("[BlockPool] block " + std::to_string(id) + " was released twice");
  }
  if (--block.references > 0) return;
  // A block whose rows were never written must not be found.
  if (block.key && block.filled && policy_ == PrefixPolicy::kLru) {
    block.last_used = ++clock_;
    unused_.insert({block.last_used, id});
    return;
  }
  forget(id);
  free_.push_back(id);
}

std::optional<int32_t> BlockPool::find(const BlockKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

void BlockPool::name(int32_t id, const BlockKey& key) {
  if (!by_key_.emplace(key, id).second) return;
  blocks_[id].key = key;
  blocks_[id].filled = false;
}

void BlockPool::forget_contents() {
  for (const auto& [last_used, id] : unused_) free_.push_back(id);
  unused_.clear();
  for (int32_t id = 0; id < dummy(); ++id) forget(id);
}

std::string BlockPool::broken_invariant() const {
  std::vector<int> places(blocks_.size(), 0);
  for (const int32_t id : free_) {
    ++places[id];
    if (blocks_[id].references != 0 || blocks_[id].key) {
      return "free block " + std::to_string(id) + " is held or named";
    }
  }
  for (const auto& [last_used, id] : unused_) {
    ++places[id];
    if (blocks_[id].references != 0 || !blocks_[id].key || !blocks_[id].filled) {
      return "cached block " + std::to_string(id) + " is held, nameless or unwritten";
    }
  }
  for (int32_t id = 0; id < dummy(); ++id) {
    if (places[id] + (blocks_[id].references > 0 ? 1 : 0) != 1) {
      return "block " + std::to_string(id) + " stands in more or less than one place";
    }
  }
  if (places[dummy()] != 0 || blocks_[dummy()].references != 0) return "the dummy is in use";
  for (const auto& [key, id] : by_key_) {
    if (blocks_[id].key != key) return "block " + std::to_string(id) + " has another name";
  }
  return "";
}

}  // namespace headway::engine
