// Files that are nearly right: every mutation of a safetensors header, an index or a config either
// loads or throws a headway::Error. Deterministic; the seed and the number are in the failure text.
// Not for: rules with a test of their own (tests/unit/io).
#include <random>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/io/convert.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing_support::read_bytes;
using testing_support::TempFolder;
using testing_support::write_text;
namespace fs = std::filesystem;

/// Words that tend to break readers of JSON headers and configs.
const std::vector<std::string> kWords = {"0",
                                         "-1",
                                         "1e400",
                                         "9223372036854775807",
                                         "18446744073709551616",
                                         "null",
                                         "true",
                                         "[]",
                                         "{}",
                                         "\"\"",
                                         "\"\\u0000\"",
                                         "[[[[[[[[",
                                         "}",
                                         "]",
                                         ",",
                                         ":",
                                         "\"dtype\":\"F32\",",
                                         "\"F4\"",
                                         "\"F64\"",
                                         "[0,0]",
                                         "\xFF",
                                         std::string(1, '\0'),
                                         "\"..\"",
                                         "\"yarn\"",
                                         "\"sparse\"",
                                         "1.5",
                                         "\"rope_type\":\"llama3\","};

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string mutate(std::string text) {
    const int edits = 1 + static_cast<int>(below(3));
    for (int i = 0; i < edits; ++i) edit(text);
    return text;
  }
  size_t below(size_t end) { return end == 0 ? 0 : random_() % end; }

 private:
  void edit(std::string& text) {
    const size_t at = below(text.size());
    const size_t length = std::min(below(12), text.size() - at);
    switch (below(7)) {
      case 0:
        text[at] = static_cast<char>(random_());
        return;
      case 1:
        text.erase(at, length);
        return;
      case 2:
        text.insert(at, kWords[below(kWords.size())]);
        return;
      case 3:
        text.replace(at, length, kWords[below(kWords.size())]);
        return;
      case 4:
        text.insert(below(text.size()), text.substr(at, below(80)));
        return;
      case 5:
        text.resize(at);
        return;
      default:
        replace_value(text, at);
    }
  }

  /// Swaps the value after the next colon for a word: mostly valid JSON that says something odd.
  void replace_value(std::string& text, size_t at) {
    const size_t colon = text.find(':', at);
    if (colon == std::string::npos) return;
    const size_t end = text.find_first_of(",}\n", colon);
    if (end == std::string::npos) return;
    text.replace(colon + 1, end - colon - 1, kWords[below(kWords.size())]);
  }

  std::mt19937_64 random_;
};

/// Runs `use` and lets only headway::Error out of it; InternalError would be a bug of ours.
template <class F>
bool survives(const F& use) {
  try {
    use();
  } catch (const InternalError& error) {
    ADD_FAILURE() << error.what();
    return false;
  } catch (const Error&) {
    return false;
  }
  return true;
}

constexpr uint64_t kSeed = 20240601;

TEST(Fuzz, SafetensorsHeaders) {
  const TempFolder temp;
  write_safetensors(
      temp / "m.safetensors",
      {{"a", at::ones({2, 3})}, {"b", at::ones({4}).to(c10::kBool)}, {"c", at::ones({})}},
      {{"key", "value"}});
  const std::string good = read_bytes(temp / "m.safetensors");
  Mutator mutator(kSeed);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    SCOPED_TRACE(i);
    std::string header = good.substr(8, good.size() - 8 - 32);
    std::string bytes;
    if (i % 4 == 0) {
      bytes = mutator.mutate(good);  // length and data too
    } else {
      header = mutator.mutate(header);
      bytes =
          testing_support::little_endian(header.size()) + header + good.substr(good.size() - 32);
    }
    accepted += survives([&] {
      const auto parsed = parse_safetensors_header(std::as_bytes(std::span(bytes)), "m");
      for (const TensorEntry& entry : parsed.entries) {
        ASSERT_LE(parsed.data_start + entry.end, static_cast<int64_t>(bytes.size()));
      }
    });
  }
  EXPECT_GT(accepted, 20);  // mutations must not be all alike
  EXPECT_LT(accepted, 19'000);
}

TEST(Fuzz, SafetensorsFilesOnDisk) {
  const TempFolder temp;
  write_safetensors(temp / "m.safetensors",
                    {{"a", at::ones({2, 3})}, {"b", at::ones({4}).to(c10::kBool)}});
  const std::string good = read_bytes(temp / "m.safetensors");
  Mutator mutator(kSeed + 1);
  for (int i = 0; i < 1'000; ++i) {
    SCOPED_TRACE(i);
    write_text(temp / "m.safetensors", mutator.mutate(good));
    survives([&] { load_safetensors(temp / "m.safetensors"); });
  }
}

TEST(Fuzz, Indexes) {
  const TempFolder temp;
  const std::vector<TensorInfo> table = {{"a", Dtype::kF32, {4}}, {"b", Dtype::kF32, {4}}};
  write_shards(
      temp.path(), table, [](const TensorInfo&) { return at::ones({4}); }, 16);
  const std::string good = read_bytes(temp / kIndexName);
  Mutator mutator(kSeed + 2);
  int accepted = 0;
  for (int i = 0; i < 2'000; ++i) {
    SCOPED_TRACE(i);
    write_text(temp / kIndexName, mutator.mutate(good));
    accepted += survives([&] {
      const TensorSource source = TensorSource::open(temp.path());
      for (const auto& [name, info] : source.tensors()) source.load(name);
    });
  }
  EXPECT_GT(accepted, 5);
  EXPECT_LT(accepted, 1'900);
}

class FuzzConfig : public ::testing::TestWithParam<const char*> {};

TEST_P(FuzzConfig, ReadsOrThrows) {
  const TempFolder temp;
  const fs::path golden = fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / GetParam();
  Mutator mutator(kSeed + 3);
  int accepted = 0;
  for (const char* name : {"config.json", "config_alt.json"}) {
    const std::string good = read_bytes(golden / name);
    for (int i = 0; i < 1'500; ++i) {
      SCOPED_TRACE(i);
      write_text(temp / "config.json", mutator.mutate(good));
      accepted += survives([&] {
        const Checkpoint checkpoint = open_checkpoint(temp.path());
        // What was accepted can be listed and written down again.
        layout(checkpoint.spec, *checkpoint.family);
        export_config(*checkpoint.family, checkpoint.spec, {.original = &checkpoint.config});
      });
    }
  }
  EXPECT_GT(accepted, 20);
  EXPECT_LT(accepted, 2'900);
}

TEST_P(FuzzConfig, NativeReadsOrThrows) {
  const TempFolder temp;
  const fs::path golden = fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / GetParam();
  const Checkpoint start = open_checkpoint(golden);
  const std::string good =
      native_config(start.spec, std::nullopt, Json::object(), Json::object(), "float32").dump();
  Mutator mutator(kSeed + 4);
  for (int i = 0; i < 1'000; ++i) {
    SCOPED_TRACE(i);
    write_text(temp / "config.json", mutator.mutate(good));
    survives([&] {
      const Checkpoint checkpoint = open_checkpoint(temp.path());
      layout(checkpoint.spec, *checkpoint.family);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, FuzzConfig,
                         ::testing::Values("llama_llama3_bias_tied", "qwen3_qknorm",
                                           "mistral_sliding", "step3p5_dense"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace headway::io
