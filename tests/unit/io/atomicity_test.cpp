// Whatever interrupts a write, a name stands for the old content or the whole new one.
// Not for: what is written (safetensors_test.cpp).
#include <csignal>

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"
#include "headway/io/shards.h"
#include "headway/io/staged_folder.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

/// Runs `work` in a child process that may not write files longer than `bytes`; its exit code.
template <class F>
int with_file_limit(rlim_t bytes, const F& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      work();
      ::_exit(0);
    } catch (const CheckpointError&) {
      ::_exit(3);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A provider that kills the process at the n-th tensor, as a power cut would.
int killed_at(const std::filesystem::path& path, const std::vector<TensorInfo>& table, int n) {
  const pid_t child = ::fork();
  if (child == 0) {
    int calls = 0;
    write_safetensors(path, table, [&](const TensorInfo&) {
      if (calls++ == n) ::raise(SIGKILL);
      return at::zeros({4});
    });
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(Atomicity, NoRoomLeavesTheOldFile) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "m.safetensors", {{"w", at::ones({4})}});
  const std::string before = testing_support::read_bytes(folder / "m.safetensors");
  const auto big = at::ones({100'000});
  for (const rlim_t limit : {rlim_t{0}, rlim_t{10}, rlim_t{200}, rlim_t{100'000}}) {
    EXPECT_EQ(with_file_limit(limit,
                              [&] {
                                write_safetensors(folder / "m.safetensors", {{"w", big}});
                              }),
              3);
    EXPECT_EQ(testing_support::read_bytes(folder / "m.safetensors"), before);
    EXPECT_EQ(testing_support::count_temporary(folder.path()), 0);
  }
}

TEST(Atomicity, KilledWriterLeavesTheOldFileAndTheNextWriteSucceeds) {
  const testing_support::TempFolder folder;
  const std::vector<TensorInfo> table = {{"a", Dtype::kF32, {4}}, {"b", Dtype::kF32, {4}}};
  write_safetensors(folder / "m.safetensors", {{"w", at::ones({4})}});
  const std::string before = testing_support::read_bytes(folder / "m.safetensors");
  for (int n = 0; n < 2; ++n) {
    ASSERT_TRUE(WIFSIGNALED(killed_at(folder / "m.safetensors", table, n)));
    EXPECT_EQ(testing_support::read_bytes(folder / "m.safetensors"), before);
  }
  EXPECT_EQ(testing_support::count_temporary(folder.path()), 1);
  write_safetensors(folder / "m.safetensors", {{"new", at::ones({4})}});
  EXPECT_EQ(testing_support::count_temporary(folder.path()), 0);
  EXPECT_NE(SafetensorsFile(folder / "m.safetensors").find("new"), nullptr);
}

TEST(Atomicity, OpenReaderKeepsTheOldContent) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "m.safetensors", {{"w", at::ones({4})}});
  const SafetensorsFile file(folder / "m.safetensors");
  write_safetensors(folder / "m.safetensors", {{"w", at::zeros({4})}});
  EXPECT_EQ(file.load("w").sum().item<float>(), 4);
}

TEST(Atomicity, IndexIsWrittenLast) {
  const testing_support::TempFolder folder;
  const std::vector<TensorInfo> table = {{"a", Dtype::kF32, {4}}, {"b", Dtype::kF32, {4}}};
  EXPECT_THROW(write_shards(
                   folder.path(), table,
                   [](const TensorInfo& info) -> at::Tensor {
                     if (info.name == "b") throw CheckpointError("disk gone");
                     return at::ones({4});
                   },
                   16),
               CheckpointError);
  EXPECT_TRUE(std::filesystem::exists(folder / "model-00001-of-00002.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / kIndexName));
}

TEST(StagedFolder, AppearsOnCommitOnly) {
  const testing_support::TempFolder folder;
  {
    StagedFolder staged(folder / "deep/step-1");
    testing_support::write_text(staged.path() / "config.json", "{}");
    std::filesystem::create_directory(staged.path() / "trainer");
    EXPECT_FALSE(std::filesystem::exists(folder / "deep/step-1"));
    staged.commit();
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "deep/step-1/trainer"));
  EXPECT_EQ(testing_support::read_bytes(folder / "deep/step-1/config.json"), "{}");
  EXPECT_EQ(testing_support::count_temporary(folder / "deep"), 0);
}

TEST(StagedFolder, VanishesWithoutCommit) {
  const testing_support::TempFolder folder;
  {
    const StagedFolder staged(folder / "x");
    testing_support::write_text(staged.path() / "config.json", "{}");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(StagedFolder, LeftoverOfAKilledWriterIsCleared) {
  const testing_support::TempFolder folder;
  std::filesystem::create_directories(folder / ".x.tmp/old");
  StagedFolder staged(folder / "x");
  staged.commit();
  EXPECT_TRUE(std::filesystem::is_empty(folder / "x"));
}

TEST(StagedFolder, TargetMustBeFree) {
  const testing_support::TempFolder folder;
  std::filesystem::create_directory(folder / "empty");
  StagedFolder(folder / "empty/").commit();
  testing_support::write_text(folder / "empty/file", "x");
  EXPECT_THROW(StagedFolder(folder / "empty"), CheckpointError);
  EXPECT_THROW(StagedFolder(folder / "empty/file"), CheckpointError);
  EXPECT_THROW(StagedFolder(folder / "empty/file/below"), CheckpointError);
  EXPECT_EQ(testing_support::read_bytes(folder / "empty/file"), "x");
}

TEST(StagedFolder, TargetFilledMeanwhileIsKept) {
  const testing_support::TempFolder folder;
  StagedFolder staged(folder / "x");
  std::filesystem::create_directory(folder / "x");
  testing_support::write_text(folder / "x/file", "theirs");
  EXPECT_THROW(staged.commit(), CheckpointError);
  EXPECT_EQ(testing_support::read_bytes(folder / "x/file"), "theirs");
}

TEST(StagedFolder, OneWriterAtATime) {
  const testing_support::TempFolder folder;
  const StagedFolder first(folder / "x");
  EXPECT_THROW(StagedFolder(folder / "x"), CheckpointError);
}

}  // namespace
}  // namespace headway::io
