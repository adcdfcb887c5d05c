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

bool has_other_layout_of(const fs::path& folder) {
  const Checkpoint checkpoint = open_checkpoint(folder);
  const TensorSource source = TensorSource::open(folder);
  for (const Binding& binding : layout(checkpoint.spec, *checkpoint.family)) {
    for (const DiskTensor& disk : binding.disk) {
      if (!source.contains(disk.name) || source.info(disk.name).shape != disk.shape) return true;
    }
  }
  return false;
}

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
  const auto bindings = layout(checkpoint.spec, *checkpoint.family, &source);
  size_t tensors = 0;
  for (const Binding& binding : bindings) tensors += binding.disk.size();
  EXPECT_EQ(tensors, source.tensors().size());
  const Account held = account(bindings, checkpoint.spec, *checkpoint.family, source, {});
  EXPECT_EQ(held.present.size(), bindings.size());
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
  if (has_other_layout_of(folder()))
    GTEST_SKIP() << "the case has another layout than its family writes";
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
  const LoadReport report = load_parameters(checkpoint, parameters);
  EXPECT_TRUE(report.missing.empty());
  for (const Binding& binding : layout(checkpoint.spec, *checkpoint.family, &source)) {
    std::vector<at::Tensor> rows;
    for (const NativeTensor& native : binding.native) {
      rows.push_back(parameters[native.parameter].narrow(0, native.begin, native.shape[0]));
    }
    const auto disk = binding.transform->to_disk(rows);
    ASSERT_EQ(disk.size(), binding.disk.size());
    for (size_t i = 0; i < disk.size(); ++i) {
      const std::string& name = binding.disk[i].name;
      EXPECT_TRUE(at::equal(disk[i], source.load(name).to(c10::kDouble))) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenFamily,
                         ::testing::Values("llama_gqa", "llama_llama3_bias_tied", "qwen3_qknorm",
                                           "mistral_sliding", "qwen3_5_text", "qwen3_5_moe_text",
                                           "qwen3_5_moe_text_fused", "qwen3_next_dense",
                                           "qwen3_next_moe", "olmo_hybrid_nope", "olmo_hybrid_rope",
                                           "step3p5_dense", "step3p5_moe", "qwen3_moe_mixed",
                                           "minimax_m2", "deepseek_v3", "deepseek_v32_dense",
                                           "deepseek_v32_sparse", "glm_moe_dsa", "kimi_linear",
                                           "gpt_oss_sinks_yarn", "gemma3_mix", "gemma4_dense_keqv",
                                           "gemma4_ple_kvshare", "gemma4_moe", "gemma4_all"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace headway::io
