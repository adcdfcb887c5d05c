// Token files: what is written is read, and every kind of damage is named.
// Not for: random damage (tests/fuzz/data).
#include "headway/data/token_store.h"

#include <csignal>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "headway/base/error.h"

#include "tests/support/token_bytes.h"

namespace headway::data {
namespace {

using internal::Header;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::read_bytes;
using testing_support::TempFolder;

std::vector<std::int64_t> all_tokens(const TokenStore& store) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(store.size()));
  store.copy(0, tokens);
  return tokens;
}

TEST(TokenFile, RoundTripInBothWidths) {
  const TempFolder folder;
  for (const std::int64_t vocab_size : {256, 65536, 65537, 1 << 20}) {
    const std::int64_t top = vocab_size - 1;
    const auto path = folder.write(
        "tokens", testing_support::token_file_bytes({{1, top, 0}, {}, {7}, {top, 9}}, vocab_size));
    const auto store = TokenStore::open(path);
    EXPECT_THAT(all_tokens(*store), ElementsAre(1, top, 0, 7, top, 9));
    EXPECT_THAT(store->document_ends(), ElementsAre(3, 4, 6));
    EXPECT_EQ(store->vocab_size(), vocab_size);
    EXPECT_EQ(store->content(), (ContentHash::Value{1, 2}));
    EXPECT_EQ(store->tokenizer(), (ContentHash::Value{3, 4}));
    const std::size_t width = vocab_size <= 65536 ? 2 : 4;
    EXPECT_EQ(read_bytes(path).size(), 128 + (width == 2 ? 16 : 24) + 3 * 8);
  }
}

TEST(TokenFile, NameAppearsOnlyOnCommit) {
  const TempFolder folder;
  const std::vector<std::int64_t> ids{1, 2};
  {
    TokenWriter writer((folder / "tokens").string(), {256, {}, {}});
    writer.append(ids);
    EXPECT_FALSE(std::filesystem::exists(folder / "tokens"));
    EXPECT_THAT(message_of<CheckpointError>([&] {
                  TokenWriter((folder / "tokens").string(), {256, {}, {}});
                }),
                HasSubstr("another process writes"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "the temporary file stayed";
  TokenWriter writer((folder / "tokens").string(), {256, {}, {}});
  writer.append(ids);
  writer.commit();
  EXPECT_EQ(TokenStore::open((folder / "tokens").string())->size(), 2);
}

TEST(TokenFile, FailedWriteNamesTheFileAndLeavesNothing) {
  const TempFolder folder;
  // A limit on the size of files stands for the full disk.
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of<CheckpointError>([&] {
    TokenWriter writer((folder / "tokens").string(), {256, {}, {}});
    writer.append(std::vector<std::int64_t>(10000, 1));
    writer.commit();
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, HasSubstr("/tokens] write = failed (File too large)"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenSink, RefusesIdsAndVocabularies) {
  TokenCollector collector({10, {}, {}});
  for (const std::int64_t id : {-1, 10}) {
    EXPECT_THAT(message_of<InternalError>([&] { collector.append(std::vector{id}); }),
                HasSubstr("allowed 0 to 9"));
  }
  for (const std::int64_t vocab_size : {std::int64_t{0}, (std::int64_t{1} << 32) + 1}) {
    EXPECT_THROW(TokenCollector({vocab_size, {}, {}}), UnsupportedError);
  }
}

TEST(TokenStore, CopyStaysInside) {
  TokenCollector collector({10, {}, {}});
  collector.append(std::vector<std::int64_t>{1, 2, 3});
  const auto store = collector.finish();
  std::vector<std::int64_t> two(2);
  store->copy(1, two);
  EXPECT_THAT(two, ElementsAre(2, 3));
  for (const std::int64_t begin : {-1, 2, 4}) {
    EXPECT_THROW(store->copy(begin, two), InternalError) << begin;
  }
}

TEST(TokenStore, InMemoryChecksDocuments) {
  EXPECT_THROW(TokenStore::in_memory({{1, 2}, {1}, 10}), InternalError);
  EXPECT_THROW(TokenStore::in_memory({{1, 2}, {2, 2}, 10}), InternalError);
  EXPECT_EQ(TokenStore::in_memory({{1, 2}, {1, 2}, 10})->size(), 2);
}

struct Damage {
  const char* name;
  std::function<void(std::string&, Header&)> apply;
  const char* message;
  bool sealed = true;  // checksums made right afterwards
};

class DamagedTokenFile : public testing::TestWithParam<Damage> {};

TEST_P(DamagedTokenFile, IsRefused) {
  const TempFolder folder;
  std::string bytes = testing_support::token_file_bytes({{1, 2, 3}, {4, 5}}, 256);
  Header header = testing_support::token_header(bytes);
  GetParam().apply(bytes, header);
  if (GetParam().sealed) testing_support::seal_token_file(bytes, header);
  const std::string path = folder.write("x.tokens", bytes);
  const auto message = message_of<CheckpointError>([&] { all_tokens(*TokenStore::open(path)); });
  EXPECT_THAT(message, HasSubstr(path));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

// Layout of the undamaged file: header 128, five uint16 tokens, six bytes of padding, two ends.
INSTANTIATE_TEST_SUITE_P(
    All, DamagedTokenFile,
    testing::Values(
        Damage{"Empty", [](auto& bytes, auto&) { bytes.clear(); }, "size = 0 bytes", false},
        Damage{"Short", [](auto& bytes, auto&) { bytes.resize(127); }, "size = 127 bytes", false},
        Damage{"Magic", [](auto& bytes, auto&) { bytes[0] = 'h'; }, "allowed HWTOKENS", false},
        Damage{"HeaderBit", [](auto& bytes, auto&) { bytes[20] ^= 1; }, "header checksum", false},
        Damage{"TokenBit", [](auto& bytes, auto&) { bytes[130] ^= 1; }, "payload checksum", false},
        Damage{"Cut", [](auto& bytes, auto&) { bytes.pop_back(); },
               "allowed 160 bytes for 5 tokens"},
        Damage{"Long", [](auto& bytes, auto&) { bytes += '\0'; }, "size = 161 bytes, allowed 160"},
        Damage{"Version", [](auto&, auto& h) { h.version = 2; }, "version = 2, allowed 1"},
        Damage{"Reserved", [](auto&, auto& h) { h.reserved[1] = 1; }, "reserved fields"},
        Damage{"Width", [](auto&, auto& h) { h.bytes_per_token = 4; },
               "bytes_per_token = 4, allowed 2"},
        Damage{"NoVocabulary", [](auto&, auto& h) { h.vocab_size = 0; }, "vocab_size = 0"},
        Damage{"HugeVocabulary", [](auto&, auto& h) { h.vocab_size = ~0ull; }, "allowed a 63-bit"},
        Damage{"BigVocabulary", [](auto&, auto& h) { h.vocab_size = (1ull << 32) + 1; }, "2^32"},
        Damage{"SmallVocabulary", [](auto&, auto& h) { h.vocab_size = 5; },
               "token id = 5, allowed less than vocab_size (= 5)"},
        Damage{"MoreTokens", [](auto&, auto& h) { h.token_count = 9; }, "for 9 tokens"},
        Damage{"PaddingTokens", [](auto&, auto& h) { h.token_count = 8; }, "document table"},
        Damage{"HugeTokens", [](auto&, auto& h) { h.token_count = ~0ull; }, "token_count"},
        Damage{"ProductOverflow", [](auto&, auto& h) { h.token_count = 1ull << 62; }, "product"},
        Damage{"SumOverflow", [](auto&, auto& h) { h.token_count = (1ull << 62) - 8; }, "sum"},
        Damage{"HugeDocuments", [](auto&, auto& h) { h.document_count = 1ull << 61; }, "product"},
        Damage{"FewerDocuments", [](auto&, auto& h) { h.document_count = 1; }, "152 bytes for 5"},
        Damage{"EmptyDocument", [](auto& bytes, auto&) { bytes[144] = 0; }, "document table"},
        Damage{"Disorder", [](auto& bytes, auto&) { bytes[144] = 6; }, "document table"},
        Damage{"LastEnd", [](auto& bytes, auto&) { bytes[152] = 4; }, "document table"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(TokenFileErrors, MissingFileAndFolder) {
  const TempFolder folder;
  EXPECT_THAT(message_of<CheckpointError>([&] { TokenStore::open((folder / "none").string()); }),
              HasSubstr("file = missing"));
  EXPECT_THAT(message_of<CheckpointError>([&] { TokenStore::open(folder.path().string()); }),
              HasSubstr("a folder"));
}

}  // namespace
}  // namespace headway::data
