// Token files kept between runs under the hash of what they were made from.
// Not for: deleting old ones; a cache folder belongs to one output folder and goes with it.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "headway/data/token_store.h"
#include "headway/data/tokenize.h"

namespace headway::data {

/// Files `<32 hexadecimal digits>.tokens` in one folder. The folder is made when the first file is.
/// Until keep() is called everything this object made, folders included, goes when it is destroyed:
/// a run that fails its checks leaves nothing behind.
class TokenCache {
 public:
  explicit TokenCache(std::filesystem::path folder) : folder_(std::move(folder)) {}
  ~TokenCache();
  TokenCache(const TokenCache&) = delete;
  TokenCache& operator=(const TokenCache&) = delete;

  /// The tokens of `request`, from the cache if it has them undamaged, else made now.
  /// Errors: those of inspect_sources and tokenize; CheckpointError if the cache cannot be written.
  std::shared_ptr<const TokenStore> get(const TokenizeRequest& request);

  /// Number of token files made (not found) by get().
  int made() const { return static_cast<int>(files_.size()); }
  void keep();

 private:
  std::filesystem::path path_of(const TokenFileInfo& info) const;
  void make_folder();

  std::filesystem::path folder_;
  std::vector<std::filesystem::path> folders_;  // made by this object, outermost first
  std::vector<std::filesystem::path> files_;    // likewise
};

}  // namespace headway::data
