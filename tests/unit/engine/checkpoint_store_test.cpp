// Names, completeness and retention of checkpoint folders.
#include "headway/engine/checkpoint_store.h"

#include <fstream>

#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/checkpoint.h"

#include "tests/support/temp_folder.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

void save(const CheckpointStore& store, std::int64_t step) {
  store.save(step, [](const fs::path& folder) {
    write(folder / "config.json", "{}");
    write(folder / "trainer" / "state.json", "{}");
  });
}

TEST(CheckpointStore, SavesUnderUnpaddedNamesAndPointsLatestAtTheNewest) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  EXPECT_FALSE(store.newest());
  save(store, 9);
  save(store, 10);
  EXPECT_EQ(store.complete_steps(), (std::vector<std::int64_t>{9, 10}));
  EXPECT_EQ(store.newest(), 10);
  EXPECT_TRUE(fs::exists(run.path() / "checkpoints" / "step-10" / "config.json"));
  EXPECT_EQ(fs::read_symlink(run.path() / "latest"), fs::path("checkpoints/step-10"));
  EXPECT_TRUE(fs::exists(run.path() / "latest" / "config.json"));
}

TEST(CheckpointStore, KeepsTheNewestByNumberNotByName) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  for (const std::int64_t step : {2, 100, 30}) save(store, step);
  store.keep_newest(2);
  EXPECT_EQ(store.complete_steps(), (std::vector<std::int64_t>{30, 100}));
  store.keep_newest(0);  // the newest always stays
  EXPECT_EQ(store.complete_steps(), (std::vector<std::int64_t>{100}));
}

TEST(CheckpointStore, AFailedSaveLeavesNothingAndTheOlderOneIntact) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  save(store, 1);
  EXPECT_THROW(store.save(2,
                          [](const fs::path& folder) {
                            write(folder / "model.safetensors", "half of it");
                            throw CheckpointError("no space left on device");
                          }),
               CheckpointError);
  EXPECT_EQ(store.newest(), 1);
  EXPECT_EQ(fs::read_symlink(run.path() / "latest"), fs::path("checkpoints/step-1"));
  EXPECT_TRUE(io::is_complete(store.folder(1)));
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(run.path() / "checkpoints")) {
    EXPECT_EQ(entry.path().filename(), "step-1");
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

TEST(CheckpointStore, RepairRemovesHiddenNamesAndMendsLatest) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  save(store, 1);
  save(store, 2);
  fs::create_directories(run.path() / "checkpoints" / ".step-3.tmp" / "trainer");
  fs::create_directories(run.path() / "checkpoints" / ".step-1.old");
  write(run.path() / ".metrics.jsonl.tmp", "x");
  write(run.path() / ".keep", "the user's own");
  fs::remove(run.path() / "latest");
  fs::create_directory_symlink("checkpoints/step-1", run.path() / "latest");
  store.repair();
  EXPECT_EQ(fs::read_symlink(run.path() / "latest"), fs::path("checkpoints/step-2"));
  EXPECT_FALSE(fs::exists(run.path() / "checkpoints" / ".step-3.tmp"));
  EXPECT_FALSE(fs::exists(run.path() / "checkpoints" / ".step-1.old"));
  EXPECT_FALSE(fs::exists(run.path() / ".metrics.jsonl.tmp"));
  EXPECT_TRUE(fs::exists(run.path() / ".keep"));
}

TEST(CheckpointStore, AFolderWithoutManifestDoesNotCountAndMayBeReplaced) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  fs::create_directories(store.folder(5));
  write(store.folder(5) / "config.json", "{}");
  fs::create_directories(run.path() / "checkpoints" / "step-007");
  write(run.path() / "checkpoints" / "step-007" / "manifest.json", R"({"files": {}})");
  EXPECT_FALSE(store.newest());
  save(store, 5);
  EXPECT_EQ(store.newest(), 5);
}

TEST(CheckpointStore, AShortenedTensorFileDoesNotCount) {
  const testing_support::TempFolder run;
  const CheckpointStore store(run.path());
  save(store, 4);
  store.save(5, [](const fs::path& folder) { write(folder / "model.safetensors", "whole"); });
  EXPECT_EQ(store.newest(), 5);
  write(store.folder(5) / "model.safetensors", "half");
  EXPECT_EQ(store.newest(), 4);
}

}  // namespace
}  // namespace headway::engine
