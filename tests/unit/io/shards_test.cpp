// Sharded checkpoints: the plan, the index and what an index may not say.
// Not for: single files (safetensors_test.cpp).
#include "headway/io/shards.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/io/tensor_source.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

class Shards : public ::testing::Test {
 protected:
  void write_table(int64_t max_bytes) {
    std::vector<TensorInfo> table;
    for (const char* name : {"z", "m", "a", "k"}) table.push_back({name, Dtype::kF32, {4}});
    write_shards(
        folder.path(), table,
        [](const TensorInfo& info) { return at::full({4}, static_cast<double>(info.name[0])); },
        max_bytes);
  }
  std::string index_error(const std::string& text) {
    testing_support::write_text(folder / kIndexName, text);
    try {
      TensorSource::open(folder.path());
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kFile);
      return error.what();
    }
    return "accepted";
  }
  testing_support::TempFolder folder;
};

TEST_F(Shards, FilledInTableOrder) {
  write_table(40);
  const auto index = nlohmann::json::parse(testing_support::read_bytes(folder / kIndexName));
  EXPECT_EQ(index["metadata"]["total_size"], 64);
  EXPECT_EQ(index["weight_map"]["z"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["m"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["a"], "model-00002-of-00002.safetensors");
  const TensorSource source = TensorSource::open(folder.path());
  EXPECT_EQ(source.tensors().size(), 4u);
  EXPECT_EQ(source.load("k")[0].item<float>(), 'k');
  EXPECT_EQ(source.view("z")[3].item<float>(), 'z');
  EXPECT_TRUE(source.warnings().empty());
  EXPECT_FALSE(std::filesystem::exists(folder / kSingleFileName));
}

TEST_F(Shards, TensorLargerThanAShardStandsAlone) {
  write_table(1);
  EXPECT_EQ(TensorSource::open(folder.path()).tensors().size(), 4u);
  EXPECT_TRUE(std::filesystem::exists(folder / "model-00004-of-00004.safetensors"));
}

TEST_F(Shards, OneShardHasNoIndex) {
  write_table(kDefaultMaxShardBytes);
  EXPECT_TRUE(std::filesystem::exists(folder / kSingleFileName));
  EXPECT_FALSE(std::filesystem::exists(folder / kIndexName));
  EXPECT_THROW(TensorSource::open(folder.path()).info("absent"), CheckpointError);
}

TEST_F(Shards, FileValuesCannotLeaveTheFolder) {
  write_table(40);
  for (const char* value : {"../x.safetensors", "/etc/x.safetensors", "a/b.safetensors",
                            "a\\\\b.safetensors", "..", ".hidden.safetensors", "C:x.safetensors",
                            "x\\u0000.safetensors", "x..y.safetensors", "", "model.bin"}) {
    const std::string text = std::string(R"({"weight_map":{"a":")") + value + "\"}}";
    EXPECT_NE(index_error(text).find("weight_map.a"), std::string::npos) << value;
  }
  EXPECT_NE(index_error(R"({"weight_map":{"a":)" + std::string("\"") + std::string(300, 'a') +
                        ".safetensors\"}}")
                .find("longer"),
            std::string::npos);
}

TEST_F(Shards, DamagedIndex) {
  write_table(40);
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"", "JSON"},
      {"[]", "not an object"},
      {"{}", "weight_map"},
      {R"({"weight_map":[]})", "weight_map"},
      {R"({"weight_map":{"a":1}})", "not a string"},
      {R"({"weight_map":{"a":"model-00002-of-00002.safetensors","a":"x.safetensors"}})",
       "given twice"},
      {R"({"weight_map":{"a":"model-00003-of-00003.safetensors"}})", "missing"},
      {R"({"weight_map":{"q":"model-00001-of-00002.safetensors"}})", "does not hold it"},
      {R"({"weight_map":{"a":"model-00001-of-00002.safetensors",)"
       R"("z":)"
       R"("model-00002-of-00002.safetensors"}})",
       "but the tensor is in"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_NE(index_error(text).find(expected), std::string::npos)
        << text << " gave " << index_error(text);
  }
}

TEST_F(Shards, SameTensorInTwoShards) {
  write_safetensors(folder / "x.safetensors", {{"w", at::ones({1})}, {"a", at::ones({1})}});
  write_safetensors(folder / "y.safetensors", {{"w", at::ones({1})}, {"b", at::ones({1})}});
  EXPECT_NE(index_error(R"({"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})")
                .find("allowed in one file"),
            std::string::npos);
}

TEST_F(Shards, OdditiesAreWarnings) {
  write_safetensors(folder / "x.safetensors", {{"w", at::ones({1})}, {"a", at::ones({1})}});
  testing_support::write_text(
      folder / kIndexName,
      R"({"metadata":{"total_size":5,"total_parameters":2},"weight_map":{"a":"x.safetensors"}})");
  const TensorSource source = TensorSource::open(folder.path());
  EXPECT_EQ(source.tensors().size(), 1u);
  ASSERT_EQ(source.warnings().size(), 2u);
  EXPECT_NE(source.warnings()[0].find("\"w\""), std::string::npos);
  EXPECT_NE(source.warnings()[1].find("total_size"), std::string::npos);
  EXPECT_EQ(read_index(folder / kIndexName).metadata["total_parameters"], 2);
}

TEST_F(Shards, DiscoveryNeverGuesses) {
  EXPECT_THROW(TensorSource::open(folder / "absent"), CheckpointError);
  try {
    TensorSource::open(folder.path());
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("model.safetensors"), std::string::npos);
  }
  write_safetensors(folder / "x.safetensors", {{"w", at::ones({1})}});
  write_safetensors(folder / "y.safetensors", {{"v", at::ones({1})}});
  try {
    TensorSource::open(folder.path());
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("x.safetensors, y.safetensors without"),
              std::string::npos);
  }
}

TEST_F(Shards, PickledWeightsGetAHint) {
  testing_support::write_text(folder / "pytorch_model.bin", "x");
  try {
    TensorSource::open(folder.path());
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("pickled"), std::string::npos);
  }
}

}  // namespace
}  // namespace headway::io
