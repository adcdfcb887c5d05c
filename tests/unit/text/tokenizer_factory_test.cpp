// Which tokenizer a name or a folder gives, and every error on the way.
// Not for: what the tokenizers do.
#include "headway/text/tokenizer_factory.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/text/byte_tokenizer.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TokenizerFactory : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }

  template <class E, class F>
  static std::string message_of(F action) {
    try {
      action();
    } catch (const E& error) {
      return error.what();
    }
    return "no such error";
  }

  fs::path folder_;
};

TEST_F(TokenizerFactory, BytesIsBuiltIn) {
  EXPECT_EQ(load_tokenizer("bytes")->fingerprint(), ByteTokenizer().fingerprint());
}

TEST_F(TokenizerFactory, SavedTokenizerLoadsAgain) {
  ByteTokenizer().save(folder_);
  EXPECT_EQ(load_tokenizer(folder_.string())->fingerprint(), ByteTokenizer().fingerprint());
  EXPECT_EQ(load_tokenizer((folder_ / "tokenizer_config.json").string())->vocab_size(), 256);
  EXPECT_EQ(find_tokenizer(folder_).require()->vocab_size(), 256);
}

TEST_F(TokenizerFactory, SaveIntoMissingFolderFails) {
  EXPECT_THAT(message_of<CheckpointError>([&] { ByteTokenizer().save(folder_ / "missing"); }),
              HasSubstr("tokenizer_config.json"));
}

TEST_F(TokenizerFactory, FolderWithoutTokenizerIsNotAnErrorUntilNeeded) {
  const FolderTokenizer found = find_tokenizer(folder_);
  EXPECT_EQ(found.tokenizer, nullptr);
  EXPECT_FALSE(found.unsupported);
  EXPECT_THAT(message_of<CheckpointError>([&] { found.require(); }),
              HasSubstr("no tokenizer.json and no tokenizer_config.json"));
  EXPECT_THROW(load_tokenizer(folder_.string()), CheckpointError);
}

TEST_F(TokenizerFactory, TokenizerJsonLoadsByFolderAndByFile) {
  const fs::path file =
      write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
  for (const std::string& name : {folder_.string(), file.string()}) {
    EXPECT_EQ(load_tokenizer(name)->encode("aa", false), (std::vector<std::int64_t>{0, 0}));
  }
}

TEST_F(TokenizerFactory, UnknownComponentsAreUnsupportedUntilNeeded) {
  const fs::path file = write("tokenizer.json", R"({"model": {"type": "Nope"}})");
  const FolderTokenizer found = find_tokenizer(folder_);
  EXPECT_EQ(found.tokenizer, nullptr);
  EXPECT_TRUE(found.unsupported);
  for (const std::string& name : {folder_.string(), file.string()}) {
    const auto message = message_of<UnsupportedError>([&] { load_tokenizer(name); });
    EXPECT_THAT(message, HasSubstr(file.string()));
    EXPECT_THAT(message, HasSubstr("model.type = \"Nope\""));
  }
}

TEST_F(TokenizerFactory, DamagedTokenizerIsAFileError) {
  write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}})");
  EXPECT_THAT(message_of<CheckpointError>([&] { find_tokenizer(folder_); }),
              HasSubstr("model.vocab[\"a\"] = \"x\""));
}

TEST_F(TokenizerFactory, OtherTokenizerClassIsUnsupported) {
  write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_THAT(message_of<UnsupportedError>([&] { load_tokenizer(folder_.string()); }),
              HasSubstr("\"LlamaTokenizer\""));
  write("tokenizer_config.json", R"({"tokenizer_class": 5})");
  EXPECT_THROW(load_tokenizer(folder_.string()), UnsupportedError);
  write("tokenizer_config.json", "{}");
  EXPECT_THAT(message_of<UnsupportedError>([&] { load_tokenizer(folder_.string()); }),
              HasSubstr("tokenizer_class = absent"));
}

TEST_F(TokenizerFactory, DamagedConfigIsAFileError) {
  write("tokenizer_config.json", "{\"tokenizer_class\": ");
  EXPECT_THAT(message_of<CheckpointError>([&] { load_tokenizer(folder_.string()); }),
              HasSubstr("tokenizer_config.json"));
  write("tokenizer_config.json", "[1, 2]");
  EXPECT_THAT(message_of<CheckpointError>([&] { load_tokenizer(folder_.string()); }),
              HasSubstr("allowed a mapping"));
}

TEST_F(TokenizerFactory, MissingNames) {
  EXPECT_THAT(message_of<ConfigError>([&] { load_tokenizer("byte"); }),
              HasSubstr("tokenizer = byte, allowed bytes"));
  EXPECT_THAT(message_of<CheckpointError>([&] { load_tokenizer((folder_ / "none").string()); }),
              HasSubstr("no such file or folder"));
}

TEST_F(TokenizerFactory, VocabularyMustFitTheModel) {
  EXPECT_NO_THROW(check_vocabulary(ByteTokenizer(), 256));
  EXPECT_NO_THROW(check_vocabulary(ByteTokenizer(), 512));
  EXPECT_THAT(message_of<ConfigError>([] { check_vocabulary(ByteTokenizer(), 255); }),
              HasSubstr("vocab_size = 256, allowed at most the model's vocab_size (= 255)"));
}

}  // namespace
}  // namespace headway::text
