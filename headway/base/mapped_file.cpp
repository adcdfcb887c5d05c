// POSIX memory map behind MappedFile.
// Not for: writing.
#include "headway/base/mapped_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "headway/base/error.h"

namespace headway {
namespace {

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

[[noreturn]] void fail(const std::string& path, const std::string& got) {
  throw CheckpointError(fmt::format("[{}] file = {}, allowed a readable file", path, got));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // O_NONBLOCK: opening a named pipe must not wait for its writer.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) fail(path, errno == ENOENT ? "missing" : std::strerror(errno));
  struct stat status = {};
  if (::fstat(file.value, &status) != 0) fail(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) fail(path, "a folder");
  if (!S_ISREG(status.st_mode)) fail(path, "not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > 0) {  // an empty map is an error of mmap, not of the caller
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (address == MAP_FAILED) fail(path, std::strerror(errno));
    bytes_ = {static_cast<const std::byte*>(address), size};
  }
  descriptor_ = std::exchange(file.value, -1);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool MappedFile::has_same_size() const {
  struct stat status = {};
  return descriptor_ < 0 || (::fstat(descriptor_, &status) == 0 &&
                             static_cast<std::size_t>(status.st_size) == bytes_.size());
}

}  // namespace headway
