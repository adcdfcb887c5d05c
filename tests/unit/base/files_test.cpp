// Atomic writes and memory maps: what appears when, and every refusal.
// Not for: full disks (tests/unit/data/token_store_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/base/mapped_file.h"

#include "tests/support/temp_folder.h"

namespace headway {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::read_bytes;
using testing_support::TempFolder;

TEST(AtomicFile, OldContentStaysUntilCommit) {
  const TempFolder folder;
  const std::string path = folder.write("file", "old");
  AtomicFile file(path);
  file.append("new ");
  file.append("content");
  file.overwrite(0, std::as_bytes(std::span(std::string_view("NEW"))));
  EXPECT_EQ(file.size(), 11);
  EXPECT_EQ(read_bytes(path), "old");
  file.commit();
  EXPECT_EQ(read_bytes(path), "NEW content");
  EXPECT_FALSE(std::filesystem::exists(folder / ".file.tmp"));
}

TEST(AtomicFile, WithoutCommitNothingChanges) {
  const TempFolder folder;
  const std::string path = folder.write("file", "old");
  { AtomicFile(path).append("new"); }
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / ".file.tmp"));
}

TEST(AtomicFile, LeftoverOfAKilledProcessIsOverwritten) {
  const TempFolder folder;
  folder.write(".file.tmp", "much longer than what follows");
  write_file_atomically((folder / "file").string(), "short");
  EXPECT_EQ(read_bytes(folder / "file"), "short");
}

TEST(AtomicFile, Errors) {
  const TempFolder folder;
  const std::string path = (folder / "file").string();
  EXPECT_THAT(message_of<CheckpointError>([&] { AtomicFile((folder / "none/file").string()); }),
              HasSubstr("none/file] create = failed (No such file or directory)"));
  AtomicFile first(path);
  EXPECT_THAT(message_of<CheckpointError>([&] { AtomicFile second(path); }),
              HasSubstr("writers = 2"));
  first.append("abc");
  const std::string two = "xy";
  EXPECT_THROW(first.overwrite(2, std::as_bytes(std::span(two))), InternalError);
  EXPECT_THROW(first.overwrite(-1, std::as_bytes(std::span(two))), InternalError);
  std::filesystem::create_directory(path);
  EXPECT_THAT(message_of<CheckpointError>([&] { first.commit(); }), HasSubstr("rename = failed"));
}

TEST(MappedFile, HoldsTheBytes) {
  const TempFolder folder;
  MappedFile map(folder.write("file", "some bytes"));
  const MappedFile moved = std::move(map);
  const auto* text = reinterpret_cast<const char*>(moved.bytes().data());
  EXPECT_EQ(std::string(text, moved.bytes().size()), "some bytes");
  EXPECT_TRUE(MappedFile(folder.write("empty", "")).bytes().empty());
}

TEST(MappedFile, Errors) {
  const TempFolder folder;
  EXPECT_THAT(message_of<CheckpointError>([&] { MappedFile((folder / "none").string()); }),
              HasSubstr("none] file = missing, allowed a readable file"));
  EXPECT_THAT(message_of<CheckpointError>([&] { MappedFile(folder.path().string()); }),
              HasSubstr("file = a folder"));
  EXPECT_THAT(message_of<CheckpointError>([] { MappedFile("/dev/null"); }),
              HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace headway
