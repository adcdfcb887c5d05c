// Staging by rename. Not for: single files (base/atomic_file.h).
#include "headway/io/staged_folder.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& target, std::string_view action, std::string_view reason) {
  throw CheckpointError(fmt::format("[{}] {} = failed ({}); hint: check free space and permissions",
                                    target.string(), action, reason));
}

void require(const std::error_code& error, const fs::path& target, std::string_view action) {
  if (error) fail(target, action, error.message());
}

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

void require_free(const fs::path& target) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(target, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status) || !fs::is_empty(target, error) || error) {
    throw CheckpointError(fmt::format("[{}] target = exists, allowed a new name or an empty folder",
                                      target.string()));
  }
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& target)
    : target_(target.filename().empty() ? target.parent_path() : target),
      staging_(parent_of(target_) / ("." + target_.filename().string() + ".tmp")) {
  require_free(target_);
  std::error_code error;
  fs::create_directories(parent_of(target_), error);
  require(error, target_, "create");
  fs::create_directory(staging_, error);
  require(error, target_, "create");
  lock_ = ::open(staging_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) fail(target_, "create", std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw CheckpointError(
        fmt::format("[{}] writers = 2, allowed 1; hint: another process writes this folder now",
                    target_.string()));
  }
  for (fs::directory_iterator entry(staging_, error), end; !error && entry != end;
       entry.increment(error)) {
    fs::remove_all(entry->path(), error);
    if (error) break;
  }
  if (error) {
    ::close(lock_);
    fail(target_, "create", error.message());
  }
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(staging_, ignored);
  ::close(lock_);
}

void StagedFolder::commit() {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(staging_, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory(error)) sync_folder(entry->path().string());
  }
  require(error, target_, "sync");
  sync_folder(staging_.string());
  // rename() replaces an empty folder and refuses any other.
  if (::rename(staging_.c_str(), target_.c_str()) != 0) {
    fail(target_, "rename", std::strerror(errno));
  }
  committed_ = true;
  sync_folder(parent_of(target_).string());
}

}  // namespace headway::io
