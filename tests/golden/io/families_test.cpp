// Golden checkpoints through import and export: one model from both spellings, the same bytes back.
// Not for: forward passes.
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/io/convert.h"
#include "headway/io/tensor_layout.h"
#include "headway/spec/spec_json.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing_support::read_bytes;
using testing_support::TempFolder;
namespace fs = std::filesystem;

class GoldenFamily : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path folder() const { return fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / GetParam(); }
  Json json(const char* name) const { return parse_json_file(folder() / name); }
  ReadConfig read(const char* name) const {
    const Json config = json(name);
    return read_config(find_family(config["model_type"].get<std::string>()), config, name);
  }
};

TEST_P(GoldenFamily, BothSpellingsAreOneModel) {
  if (!fs::exists(folder() / "config_alt.json")) GTEST_SKIP() << "the case has one spelling";
  const ReadConfig a = read("config.json");
  const ReadConfig b = read("config_alt.json");
  EXPECT_EQ(spec::diff(a.spec, b.spec), std::vector<std::string>{});
  EXPECT_TRUE(a.spec == b.spec);
  EXPECT_EQ(a.unknown_keys, std::vector<std::string>{});
  EXPECT_EQ(b.unknown_keys, std::vector<std::string>{});
}

TEST_P(GoldenFamily, InventoryIsTheFile) {
  const Checkpoint checkpoint = open_checkpoint(folder());
  const TensorSource source = TensorSource::open(folder());
  const auto bindings = layout(checkpoint.spec, *checkpoint.family);
  EXPECT_EQ(bindings.size(), source.tensors().size());
  const Account held = account(bindings, checkpoint.spec, *checkpoint.family, source, {});
  EXPECT_EQ(held.present.size(), source.tensors().size());
  EXPECT_TRUE(held.notes.empty());
}

TEST_P(GoldenFamily, SameFamilyGivesTheSameFiles) {
  const TempFolder temp;
  const Checkpoint checkpoint = open_checkpoint(folder());
  const auto report =
      convert(folder(), temp / "out", {.to = std::string(checkpoint.family->name), .verify = true});
  EXPECT_TRUE(report.verified);
  EXPECT_EQ(read_bytes(temp / "out/model.safetensors"), read_bytes(folder() / "model.safetensors"));
  EXPECT_EQ(read_bytes(temp / "out/generation_config.json"),
            read_bytes(folder() / "generation_config.json"));
  EXPECT_EQ(parse_json_file((temp / "out/config.json").string()).dump(),
            json("config.json").dump());
}

TEST_P(GoldenFamily, ThroughNativeAndBack) {
  const TempFolder temp;
  convert(folder(), temp / "native", {.verify = true});
  const Checkpoint native = open_checkpoint(temp / "native");
  EXPECT_EQ(native.family->name, "headway");
  EXPECT_TRUE(native.spec == read("config.json").spec);
  EXPECT_TRUE(is_complete(temp / "native"));
  convert(temp / "native", temp / "back", {.verify = true, .max_shard_bytes = 1 << 16});
  EXPECT_TRUE(fs::exists(temp / "back" / kIndexName));
  const TensorSource want = TensorSource::open(folder());
  const TensorSource got = TensorSource::open(temp / "back");
  ASSERT_EQ(got.tensors(), want.tensors());
  for (const auto& [name, info] : want.tensors()) {
    EXPECT_EQ(std::memcmp(got.load(name).const_data_ptr(), want.load(name).const_data_ptr(),
                          static_cast<size_t>(*checked_bytes(info.dtype, info.shape))),
              0)
        << name;
  }
  EXPECT_EQ(parse_json_file((temp / "back/config.json").string()).dump(),
            json("config.json").dump());
}

TEST_P(GoldenFamily, ConfigWrittenFromTheModelAlone) {
  const ReadConfig want = read("config.json");
  const Family& family = find_family(json("config.json")["model_type"].get<std::string>());
  const Json config = export_config(family, want.spec, {});
  const ReadConfig got = read_config(family, config, "exported");
  EXPECT_EQ(spec::diff(got.spec, want.spec), std::vector<std::string>{});
  EXPECT_TRUE(got.spec == want.spec);
  EXPECT_EQ(got.unknown_keys, std::vector<std::string>{});
}

TEST_P(GoldenFamily, ParametersHoldTheTensors) {
  const Checkpoint checkpoint = open_checkpoint(folder());
  const TensorSource source = TensorSource::open(folder());
  std::map<std::string, at::Tensor> parameters;
  for (const auto& tensor : spec::tensors(checkpoint.spec)) {
    parameters[tensor.name] = at::full(tensor.shape, -7.0, at::TensorOptions().dtype(c10::kDouble));
  }
  const auto bindings = layout(checkpoint.spec, *checkpoint.family);
  const NativeReader native(source, bindings);
  const LoadReport report = load_parameters(checkpoint, parameters);
  EXPECT_TRUE(report.missing.empty());
  for (const auto& tensor : spec::tensors(checkpoint.spec)) {
    for (const auto& segment : tensor.segments) {
      const auto rows = parameters[tensor.name].narrow(0, segment.begin, segment.rows);
      EXPECT_TRUE(at::equal(rows, native.read(segment.disk_name).to(c10::kDouble)))
          << segment.disk_name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenFamily,
                         ::testing::Values("llama_gqa", "llama_llama3_bias_tied", "qwen3_qknorm",
                                           "mistral_sliding", "qwen3_5_text", "qwen3_next_dense",
                                           "step3p5_dense"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace headway::io
