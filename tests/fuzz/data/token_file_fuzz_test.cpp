// Random damage to token files: either a CheckpointError, or a store whose every token can be read.
// Not for: single kinds of damage with their messages (tests/unit/data/token_store_test.cpp).
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/base/error.h"

#include "tests/support/token_bytes.h"

namespace headway::data {
namespace {

using testing_support::TempFolder;

// Opens and reads everything; true if the file was accepted.
bool survives(const std::string& bytes) {
  const TempFolder folder;
  try {
    const auto store = TokenStore::open(folder.write("x.tokens", bytes));
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(store->size()));
    store->copy(0, tokens);
    for (const std::int64_t token : tokens) RC_ASSERT(token >= 0 && token < store->vocab_size());
    std::uint64_t last = 0;
    for (const std::uint64_t end : store->document_ends()) {
      RC_ASSERT(end > last);
      last = end;
    }
    RC_ASSERT(last == tokens.size());
    return true;
  } catch (const CheckpointError& error) {
    RC_ASSERT(std::string(error.what()).find("x.tokens") != std::string::npos);
    return false;
  }
}

std::string seed_file() {
  static const std::string narrow =
      testing_support::token_file_bytes({{1, 2, 3}, {4, 5, 6, 7}, {8}}, 300);
  static const std::string wide =
      testing_support::token_file_bytes({{70000, 1}, {2, 3, 4}}, 100000);
  return *rc::gen::element(narrow, wide);
}

// Overwrites, removes or inserts a few bytes.
void damage(std::string& bytes) {
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count && !bytes.empty(); ++i) {
    const auto place = *rc::gen::inRange<std::size_t>(0, bytes.size());
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        bytes[place] = *rc::gen::arbitrary<char>();
        break;
      case 1:
        bytes.resize(place);
        break;
      case 2:
        bytes.insert(place, *rc::gen::inRange<std::size_t>(1, 20), '\x01');
        break;
      default:
        bytes.erase(place, *rc::gen::inRange<std::size_t>(1, 20));
    }
  }
}

RC_GTEST_PROP(TokenFileFuzz, DamagedFileIsRefused, ()) {
  const std::string original = seed_file();
  std::string bytes = original;
  damage(bytes);
  RC_ASSERT(survives(bytes) == (bytes == original));
}

RC_GTEST_PROP(TokenFileFuzz, DamagedPayloadWithRightChecksums, ()) {
  std::string bytes = seed_file();
  const auto header = testing_support::token_header(bytes);
  std::string payload = bytes.substr(sizeof(header));
  damage(payload);
  bytes = bytes.substr(0, sizeof(header)) + payload;
  testing_support::seal_token_file(bytes, header);
  survives(bytes);
}

RC_GTEST_PROP(TokenFileFuzz, HostileHeaderWithRightChecksums, ()) {
  std::string bytes = seed_file();
  auto header = testing_support::token_header(bytes);
  const auto number = rc::gen::oneOf(
      rc::gen::inRange<std::uint64_t>(0, 40), rc::gen::arbitrary<std::uint64_t>(),
      rc::gen::map(
          rc::gen::pair(rc::gen::inRange(0, 64), rc::gen::inRange<std::uint64_t>(0, 17)),
          [](const auto& pair) { return (std::uint64_t{1} << pair.first) - pair.second; }));
  for (std::uint64_t* field : {&header.token_count, &header.document_count, &header.vocab_size}) {
    if (*rc::gen::arbitrary<bool>()) *field = *number;
  }
  if (*rc::gen::inRange(0, 4) == 0) header.bytes_per_token = static_cast<std::uint32_t>(*number);
  testing_support::seal_token_file(bytes, header);
  survives(bytes);
}

RC_GTEST_PROP(TokenFileFuzz, RandomBytes, ()) {
  const auto bytes = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
  RC_ASSERT(!survives(bytes));
}

}  // namespace
}  // namespace headway::data
