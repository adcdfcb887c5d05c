// Looks up, makes and, if the run does not come about, takes back token files.
// Not for: what is in them.
#include "headway/data/token_cache.h"

#include <algorithm>
#include <ranges>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/data/token_writer.h"

namespace headway::data {

namespace fs = std::filesystem;

namespace {

// The tokens in `path`, or null if there are none or they are not usable.
std::shared_ptr<const TokenStore> find(const fs::path& path, const TokenFileInfo& info) {
  std::error_code error;
  if (!fs::exists(path, error)) return nullptr;
  try {
    auto store = TokenStore::open(path.string());
    if (store->content() == info.content && store->tokenizer() == info.tokenizer &&
        store->vocab_size() == info.vocab_size) {
      return store;
    }
    log(LogLevel::kWarning,
        fmt::format("[{}] belongs to other data and is made again", path.string()));
  } catch (const CheckpointError& damage) {
    log(LogLevel::kWarning, damage.what());
  }
  return nullptr;
}

}  // namespace

TokenCache::~TokenCache() {
  std::error_code ignored;
  for (const fs::path& file : files_) fs::remove(file, ignored);
  for (const fs::path& folder : std::views::reverse(folders_)) fs::remove(folder, ignored);
}

void TokenCache::keep() {
  files_.clear();
  folders_.clear();
}

fs::path TokenCache::path_of(const TokenFileInfo& info) const {
  return folder_ / fmt::format("{:016x}{:016x}.tokens", info.content[0], info.content[1]);
}

void TokenCache::make_folder() {
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path folder = folder_; !folder.empty() && !fs::exists(folder, error);
       folder = folder.parent_path()) {
    missing.push_back(folder);
  }
  for (const fs::path& folder : std::views::reverse(missing)) {
    if (fs::create_directory(folder, error)) folders_.push_back(folder);
    if (error) {
      throw CheckpointError(
          fmt::format("[{}] folder = cannot be made ({}), allowed a writable place",
                      folder.string(), error.message()));
    }
  }
}

std::shared_ptr<const TokenStore> TokenCache::get(const TokenizeRequest& request) {
  const SourceContent content = inspect_sources(request);
  const fs::path path = path_of(content.info);
  if (auto found = find(path, content.info)) return found;
  make_folder();
  TokenWriter writer(path.string(), content.info);
  tokenize(request, content, writer);
  writer.commit();
  files_.push_back(path);
  return TokenStore::open(path.string());
}

}  // namespace headway::data
