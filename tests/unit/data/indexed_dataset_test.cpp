// Megatron datasets: written, read back, found by every name, mixed with text, refused when
// damaged.
#include "headway/data/indexed_dataset.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/data/source_files.h"
#include "headway/data/tokenize.h"
#include "headway/text/tokenizer_factory.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::read_bytes;
using testing_support::TempFolder;
using Documents = std::vector<std::vector<std::int64_t>>;

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  std::string bytes;
  for (const T value : values) bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  return bytes;
}

// Three sequences in two documents, as Megatron writes them.
std::string small_index(std::uint8_t type, std::int64_t token_bytes) {
  return std::string("MMIDIDX\0\0", 9) + bytes_of<std::uint64_t>({1}) +
         bytes_of<std::uint8_t>({type}) + bytes_of<std::uint64_t>({3, 3}) +
         bytes_of<std::int32_t>({2, 1, 3}) +
         bytes_of<std::int64_t>({0, 2 * token_bytes, 3 * token_bytes}) +
         bytes_of<std::int64_t>({0, 2, 3});
}

Documents read_all(const std::string& index, std::int64_t vocab_size = 256) {
  Documents documents;
  std::vector<std::int64_t> open;
  IndexedDataset(index).read(vocab_size, [&](std::span<const std::int64_t> ids, bool last) {
    open.insert(open.end(), ids.begin(), ids.end());
    if (last) documents.push_back(std::exchange(open, {}));
  });
  return documents;
}

TEST(IndexedDataset, ReadsEveryIntegerType) {
  const TempFolder folder;
  const std::string index = (folder / "d.idx").string();
  const auto read = [&](std::uint8_t type, const std::string& tokens) {
    folder.write("d.idx", small_index(type, std::ssize(tokens) / 6));
    folder.write("d.bin", tokens);
    return read_all(index);
  };
  const Documents wanted{{1, 2, 3}, {4, 5, 100}};
  EXPECT_EQ(read(1, bytes_of<std::uint8_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_EQ(read(2, bytes_of<std::int8_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_EQ(read(3, bytes_of<std::int16_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_EQ(read(4, bytes_of<std::int32_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_EQ(read(5, bytes_of<std::int64_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_EQ(read(8, bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 100})), wanted);
  EXPECT_THROW(read(7, bytes_of<float>({1, 2, 3, 4, 5, 6})), UnsupportedError);
  EXPECT_THROW(read(2, bytes_of<std::int8_t>({1, 2, -3, 4, 5, 6})), CheckpointError);
}

TEST(IndexedDataset, WritesWhatMegatronReads) {
  const TempFolder folder;
  IndexedWriter writer((folder / "out").string(), {.vocab_size = 256});
  for (const auto& document : Documents{{1, 2, 3}, {4, 5, 100}}) {
    writer.append(document);
    writer.end_document();
  }
  writer.end_document();  // an empty document leaves no trace
  EXPECT_FALSE(std::filesystem::exists(folder / "out.idx"));
  writer.commit();
  EXPECT_EQ(read_bytes(folder / "out.bin"), bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 100}));
  EXPECT_EQ(read_bytes(folder / "out.idx"),
            std::string("MMIDIDX\0\0", 9) + bytes_of<std::uint64_t>({1}) +
                bytes_of<std::uint8_t>({8}) + bytes_of<std::uint64_t>({2, 3}) +
                bytes_of<std::int32_t>({3, 3}) + bytes_of<std::int64_t>({0, 6}) +
                bytes_of<std::int64_t>({0, 1, 2}));
}

TEST(IndexedDataset, LargeVocabulariesAreInt32) {
  const TempFolder folder;
  IndexedWriter writer((folder / "out").string(), {.vocab_size = 262144});
  writer.append(std::vector<std::int64_t>{200000, 1});
  writer.commit();
  EXPECT_EQ(read_bytes(folder / "out.bin"), bytes_of<std::int32_t>({200000, 1}));
  EXPECT_EQ(read_all((folder / "out.idx").string(), 262144), (Documents{{200000, 1}}));
}

TEST(IndexedDataset, IsFoundByEveryNameAndInFolders) {
  const TempFolder folder;
  folder.write("d/x.idx", small_index(8, 2));
  folder.write("d/x.bin", bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 100}));
  folder.write("d/notes.txt", "hi");
  const SourceFile wanted{folder / "d/x.idx", SourceFormat::kIndexed};
  for (const char* name : {"d/x", "d/x.bin", "d/x.idx"}) {
    EXPECT_THAT(find_sources({(folder / name).string()}, "data.train").files, ElementsAre(wanted));
  }
  const SourceList all = find_sources({(folder / "d").string()}, "data.train");
  EXPECT_THAT(all.files, ElementsAre(SourceFile{folder / "d/notes.txt"}, wanted));
  EXPECT_TRUE(all.skipped.empty());
}

TEST(IndexedDataset, TokensJoinThoseOfTexts) {
  const TempFolder folder;
  folder.write("b.idx", small_index(8, 2));
  folder.write("b.bin", bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 100}));
  TokenizeRequest request;
  request.files = find_sources({folder.write("a.txt", "AB"), (folder / "b").string(),
                                folder.write("c.txt", "C")},
                               "data.train")
                      .files;
  request.tokenizer = text::load_tokenizer("bytes");
  const auto store = tokenize_in_memory(request);
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(store->size()));
  store->copy(0, tokens);
  EXPECT_THAT(tokens, ElementsAre(65, 66, 1, 2, 3, 4, 5, 100, 67));
  EXPECT_THAT(store->document_ends(), ElementsAre(2, 5, 8, 9));
}

TEST(IndexedDataset, OtherTokensAreOtherContent) {
  const TempFolder folder;
  folder.write("b.idx", small_index(8, 2));
  folder.write("b.bin", bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 100}));
  TokenizeRequest request;
  request.files = find_sources({(folder / "b").string()}, "data.train").files;
  request.tokenizer = text::load_tokenizer("bytes");
  const auto before = inspect_sources(request).info.content;
  folder.write("b.bin", bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 101}));
  EXPECT_NE(inspect_sources(request).info.content, before);
}

TEST(IndexedDataset, DamageIsNamed) {
  const TempFolder folder;
  const std::string good = small_index(8, 2);
  folder.write("d.bin", bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 300}));
  const auto message = [&](std::string index) {
    const std::string path = folder.write("d.idx", index);
    return message_of<CheckpointError>([&] { read_all(path); });
  };
  const auto with = [&](std::size_t at, const std::string& bytes) {
    std::string index = good;
    index.replace(at, bytes.size(), bytes);
    return index;
  };
  EXPECT_THAT(message(good.substr(0, 20)), HasSubstr("size = 20 bytes, allowed at least 34"));
  EXPECT_THAT(message(with(0, "X")), HasSubstr("first bytes = something else, allowed MMIDIDX"));
  EXPECT_THAT(message(with(9, "\x02")), HasSubstr("version = 2, allowed 1"));
  EXPECT_THAT(message(with(17, "\x09")), HasSubstr("type of tokens = 9"));
  EXPECT_THAT(message(with(18, std::string(8, '\xFF'))), HasSubstr("sequence count = "));
  EXPECT_THAT(message(good + "xx"), HasSubstr("allowed 94 for 3 sequences and 3 document entries"));
  EXPECT_THAT(message(with(34, bytes_of<std::int32_t>({-1}))),
              HasSubstr("length of sequence 0 = -1"));
  EXPECT_THAT(message(with(34, bytes_of<std::int32_t>({100}))),
              HasSubstr("sequence 0 = bytes 0 to 200"));
  EXPECT_THAT(message(with(46, bytes_of<std::int64_t>({-2}))), HasSubstr("sequence 0 = bytes -2"));
  EXPECT_THAT(message(with(70, bytes_of<std::int64_t>({1}))), HasSubstr("document entry 0 = 1"));
  EXPECT_THAT(message(with(78, bytes_of<std::int64_t>({9}))), HasSubstr("document entry 1 = 9"));
  EXPECT_THAT(message(good), HasSubstr("token 2 of sequence 2 = 300, allowed 0 to 255"));
}

}  // namespace
}  // namespace headway::data
