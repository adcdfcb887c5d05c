// Which files paths lead to, in which order, and every path that leads nowhere.
// Not for: what is in the files.
#include "headway/data/source_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "headway/base/error.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

std::vector<std::string> names(const TempFolder& folder, const SourceList& list) {
  std::vector<std::string> result;
  for (const SourceFile& file : list.files) {
    result.push_back(file.path.lexically_relative(folder.path()).string());
  }
  return result;
}

TEST(FindSources, FolderIsWalkedAndSorted) {
  const TempFolder folder;
  for (const char* name : {"b.txt", "a/z.txt", "a/a.jsonl", "a.b", "Z.txt"})
    folder.write(name, "x");
  const SourceList list = find_sources({folder.path().string()}, "data.train");
  EXPECT_THAT(names(folder, list), ElementsAre("Z.txt", "a.b", "a/a.jsonl", "a/z.txt", "b.txt"));
  EXPECT_EQ(list.files[2].format, SourceFormat::kJsonl);
  EXPECT_EQ(list.files[3].format, SourceFormat::kText);
}

TEST(FindSources, OrderOfPathsDoesNotMatter) {
  const TempFolder folder;
  const std::string a = folder.write("a.txt", "x");
  const std::string b = folder.write("b.ndjson", "x");
  EXPECT_EQ(find_sources({a, b}, "w").files, find_sources({b, a}, "w").files);
  EXPECT_EQ(find_sources({b}, "w").files[0].format, SourceFormat::kJsonl);
}

TEST(FindSources, FoldersPassOverHiddenAndBinaryFilesAndLinkedFolders) {
  const TempFolder folder;
  folder.write("in/text.txt", "x");
  folder.write("in/.hidden", "x");
  folder.write("in/.git/config", "x");
  folder.write("in/picture", std::string("a\0b", 3));
  folder.write("out/more.txt", "x");
  std::filesystem::create_directory_symlink(folder / "out", folder / "in/link");
  std::filesystem::create_symlink(folder / "out/more.txt", folder / "in/linked.txt");
  std::filesystem::create_symlink(folder / "nowhere", folder / "in/dangling");
  const SourceList list = find_sources({(folder / "in").string()}, "w");
  EXPECT_THAT(names(folder, list), ElementsAre("in/linked.txt", "in/text.txt"));
  EXPECT_THAT(list.skipped, ElementsAre(folder / "in/picture"));
}

TEST(FindSources, FileNamedItselfIsTaken) {
  const TempFolder folder;
  const std::string hidden = folder.write(".hidden", std::string("a\0b", 3));
  EXPECT_EQ(find_sources({hidden}, "w").files.size(), 1u);
}

TEST(FindSources, Errors) {
  const TempFolder folder;
  const std::string file = folder.write("in/a.txt", "x");
  const std::string in = (folder / "in").string();
  const auto config_error = [](const std::vector<std::string>& paths) {
    return message_of<ConfigError>([&] { find_sources(paths, "data.train"); });
  };
  const auto file_error = [](const std::string& path) {
    return message_of<CheckpointError>([&] { find_sources({path}, "data.train"); });
  };
  EXPECT_THAT(config_error({}), HasSubstr("[data.train] paths = none"));
  EXPECT_THAT(config_error({in, file}), HasSubstr(file + " = named twice"));
  EXPECT_THAT(config_error({file, in + "/../in/a.txt"}), HasSubstr("named twice"));
  EXPECT_THAT(file_error((folder / "none").string()), HasSubstr("none = missing, allowed"));
  std::filesystem::create_directory(folder / "empty");
  EXPECT_THAT(file_error((folder / "empty").string()), HasSubstr("a folder without text files"));
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(file_error(pipe), HasSubstr("neither a file nor a folder"));
}

}  // namespace
}  // namespace headway::data
