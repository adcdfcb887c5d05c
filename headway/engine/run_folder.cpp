// Checks, creation and the lock.
// Not for: cleaning up what is inside (checkpoint_store.cpp).
#include "headway/engine/run_folder.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"

namespace headway::engine {

namespace fs = std::filesystem;

RunFolder::RunFolder(fs::path path, bool resume) : path_(std::move(path)) {
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw ConfigError(fmt::format("[train] output = {}, allowed a folder; hint: a file is there",
                                  path_.string()));
  }
  if (!resume && !fs::is_empty(path_, error)) {
    throw ConfigError(fmt::format(
        "[train] output = {} (not empty), allowed a new or empty folder; hint: --resume goes on "
        "with the run that is there",
        path_.string()));
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

bool RunFolder::exists() const {
  std::error_code error;
  return fs::is_directory(path_, error);
}

void RunFolder::open() {
  if (lock_ >= 0) return;
  std::error_code error;
  fs::create_directories(path_, error);
  if (!error) lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) {
    throw CheckpointError(fmt::format("[{}] create = failed ({})", path_.string(),
                                      error ? error.message() : std::strerror(errno)));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw CheckpointError(
        fmt::format("[{}] runs = 2, allowed 1; hint: another process trains into this folder now",
                    path_.string()));
  }
}

void RunFolder::write_config(const std::string& yaml) const {
  write_file_atomically((path_ / "config.yaml").string(), yaml);
}

}  // namespace headway::engine
