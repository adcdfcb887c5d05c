// The cache: found when nothing changed, made again when something did, taken back when unused.
// Not for: the format of the files.
#include "headway/data/token_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/text/byte_tokenizer.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

class TokenCacheTest : public testing::Test {
 protected:
  TokenizeRequest request(const std::string& content) {
    TokenizeRequest result;
    result.files = find_sources({folder_.write("text", content)}, "data.train").files;
    result.tokenizer = std::make_shared<text::ByteTokenizer>();
    return result;
  }
  fs::path cache_folder() const { return folder_ / "out/run/cache"; }
  std::vector<fs::path> cached_files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(cache_folder())) files.push_back(entry.path());
    return files;
  }

  TempFolder folder_;
};

TEST_F(TokenCacheTest, SecondLookFindsTheFile) {
  TokenCache first(cache_folder());
  EXPECT_EQ(first.get(request("abc"))->size(), 3);
  EXPECT_EQ(first.made(), 1);
  first.keep();
  TokenCache second(cache_folder());
  EXPECT_EQ(second.get(request("abc"))->size(), 3);
  EXPECT_EQ(second.made(), 0);
  EXPECT_EQ(second.get(request("abcd"))->size(), 4);
  EXPECT_EQ(second.made(), 1);
}

TEST_F(TokenCacheTest, WithoutKeepNothingStays) {
  { TokenCache(cache_folder()).get(request("abc")); }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_THROW(TokenCache(cache_folder()).get(request("ab\xFF")), CheckpointError);
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(TokenCacheTest, WithoutKeepOthersFilesStay) {
  folder_.write("out/run/other", "x");
  TokenCache kept(cache_folder());
  kept.get(request("abc"));
  kept.keep();
  {
    TokenCache cache(cache_folder());
    cache.get(request("abc"));
    cache.get(request("abcd"));
  }
  EXPECT_TRUE(fs::exists(folder_ / "out/run/other"));
  EXPECT_EQ(cached_files().size(), 1u);
}

TEST_F(TokenCacheTest, DamagedFileIsMadeAgain) {
  {
    TokenCache cache(cache_folder());
    cache.get(request("abc"));
    cache.keep();
  }
  const fs::path file = cached_files().at(0);
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  for (const std::string damage : {"", "HWTOKENS and more", "cut"}) {
    if (damage == "cut") {
      fs::resize_file(file, fs::file_size(file) - 1);
    } else {
      std::ofstream(file, std::ios::binary) << damage;
    }
    TokenCache cache(cache_folder());
    EXPECT_EQ(cache.get(request("abc"))->size(), 3);
    EXPECT_EQ(cache.made(), 1);
    cache.keep();
  }
  set_log_sink({});
  EXPECT_EQ(lines.size(), 3u);
}

TEST_F(TokenCacheTest, FileOfOtherDataUnderTheNameIsMadeAgain) {
  TokenCache cache(cache_folder());
  cache.get(request("abc"));
  const fs::path abc = cached_files().at(0);
  cache.get(request("xyz!"));
  for (const fs::path& file : cached_files()) {
    if (file != abc) fs::copy_file(file, abc, fs::copy_options::overwrite_existing);
  }
  EXPECT_EQ(TokenCache(cache_folder()).get(request("abc"))->size(), 3);
}

TEST_F(TokenCacheTest, PlaceThatCannotBeWritten) {
  folder_.write("out", "a file, not a folder");
  EXPECT_THAT(message_of<CheckpointError>([&] { TokenCache(cache_folder()).get(request("abc")); }),
              HasSubstr("cannot be made"));
}

}  // namespace
}  // namespace headway::data
