// The data section as a whole: split, explicit validation, cache, and nothing left after an error.
// Not for: each part's own rules.
#include "headway/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/text/byte_tokenizer.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

class DatasetTest : public testing::Test {
 protected:
  DatasetTest() {
    request_.tokenizer = std::make_shared<text::ByteTokenizer>();
    request_.model_vocab_size = 256;
    request_.cache_folder = folder_ / "out/cache";
    request_.config.sequence_length = 16;
  }
  void TearDown() override {
    if (expects_nothing_written_) {
      EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
    }
  }
  template <class E>
  std::string refused() {
    expects_nothing_written_ = true;
    return message_of<E>([&] { open_dataset(request_); });
  }

  TempFolder folder_;
  DatasetRequest request_;
  bool expects_nothing_written_ = false;
};

TEST_F(DatasetTest, EndOfTheStreamIsHeldOut) {
  request_.config.train = {folder_.write("b", std::string(500, 'b')),
                           folder_.write("a", std::string(500, 'a'))};
  request_.config.validation_fraction = 0.1;
  const Dataset dataset = open_dataset(request_);
  EXPECT_EQ(dataset.train.range(), (TokenRange{0, 900}));
  ASSERT_TRUE(dataset.validation.has_value());
  EXPECT_EQ(dataset.validation->range(), (TokenRange{900, 1000}));
  std::vector<std::int64_t> last(1);
  dataset.train.store().copy(999, last);
  EXPECT_EQ(last[0], 'b') << "files are sorted";
  EXPECT_FALSE(dataset.cached);
  EXPECT_TRUE(open_dataset(request_).cached);
}

TEST_F(DatasetTest, ExplicitValidationLeavesTrainingWhole) {
  folder_.write("v/picture", std::string(3, '\0'));
  folder_.write("v/text", "short");
  request_.config.train = {folder_.write("a", std::string(100, 'a'))};
  request_.config.validation = {(folder_ / "v").string()};
  const Dataset dataset = open_dataset(request_);
  EXPECT_EQ(dataset.train.range().size(), 100);
  EXPECT_EQ(dataset.validation->range().size(), 5);
  EXPECT_EQ(dataset.validation->size(), 1) << "a short validation text is a short sample";
  EXPECT_EQ(dataset.skipped_files, 1);
}

TEST_F(DatasetTest, NoValidation) {
  request_.config.train = {folder_.write("a", std::string(100, 'a'))};
  request_.config.validation_fraction = 0;
  EXPECT_FALSE(open_dataset(request_).validation.has_value());
}

TEST_F(DatasetTest, TextFieldAndCrossDocumentArriveWhereTheyBelong) {
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += "{\"body\": \"abc\"}\n";
  request_.config.train = {folder_.write("a.jsonl", lines)};
  request_.config.text_field = "body";
  for (const bool cross : {false, true}) {
    request_.config.cross_document = cross;
    const Dataset dataset = open_dataset(request_);
    std::vector<std::int64_t> input_ids(16), labels(16), lengths;
    EXPECT_EQ(dataset.train.read(0, input_ids, labels, lengths), cross ? 16 : 11);
    EXPECT_EQ(lengths.size(), cross ? 1u : 6u);
  }
}

TEST_F(DatasetTest, SequenceLongerThanTheData) {
  request_.config.train = {folder_.write("a", std::string(20, 'a'))};
  EXPECT_THAT(refused<ConfigError>(), HasSubstr("sequence_length = 16, allowed at most"));
}

TEST_F(DatasetTest, TokenizerOfAnotherModel) {
  request_.config.train = {folder_.write("a", std::string(100, 'a'))};
  request_.model_vocab_size = 255;
  EXPECT_THAT(refused<ConfigError>(), HasSubstr("does not belong to this model"));
}

TEST_F(DatasetTest, MissingValidationIsFoundBeforeAnythingIsMade) {
  request_.config.train = {folder_.write("a", std::string(100, 'a'))};
  request_.config.validation = {(folder_ / "none").string()};
  EXPECT_THAT(refused<CheckpointError>(), HasSubstr("[data.validation]"));
}

TEST_F(DatasetTest, EmptyValidationTakesTrainingTokensBack) {
  request_.config.train = {folder_.write("a", std::string(100, 'a'))};
  request_.config.validation = {folder_.write("v", "")};
  EXPECT_THAT(refused<CheckpointError>(), HasSubstr("[data.validation] tokens = 0"));
}

TEST_F(DatasetTest, NotUtf8) {
  std::string text(100, 'a');
  text.push_back('\xE9');
  request_.config.train = {folder_.write("a", text)};
  EXPECT_THAT(refused<CheckpointError>(), HasSubstr("byte at offset 100 = 0xE9"));
}

TEST_F(DatasetTest, NoPaths) { EXPECT_THAT(refused<ConfigError>(), HasSubstr("paths = none")); }

TEST(OpenText, KeepsEverythingInMemory) {
  const TempFolder folder;
  const std::string file = folder.write("a", std::string(33, 'a'));
  const PackedSamples samples =
      open_text({file}, std::make_shared<text::ByteTokenizer>(), {16, false});
  EXPECT_EQ(samples.size(), 2);
  EXPECT_EQ(samples.range().size(), 33);
  EXPECT_THROW(
      open_text({folder.write("b", "")}, std::make_shared<text::ByteTokenizer>(), {16, false}),
      CheckpointError);
}

}  // namespace
}  // namespace headway::data
