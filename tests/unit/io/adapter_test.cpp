// Adapters in PEFT's format: merged into a checkpoint, targets by published names, damaged folders.
// Not for: training them (unit/engine/fine_tuning_test.cpp).
#include "headway/io/adapter.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/adapter_targets.h"
#include "headway/io/convert.h"
#include "headway/io/safetensors_writer.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;
namespace fs = std::filesystem;

using Tensors = std::map<std::string, at::Tensor>;

constexpr const char* kQuery = "model.layers.1.self_attn.q_proj";
const std::string kKey = std::string("base_model.model.") + kQuery;

fs::path golden(const std::string& name) {
  return fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / name;
}

/// The golden's queries of layer 1 are [32, 32].
class AdapterFolder {
 public:
  AdapterFolder() {
    config_ = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 8}, {"use_dora", false}};
    tensors_[kKey + ".lora_A.weight"] = at::linspace(-1, 1, 64).view({2, 32});
    tensors_[kKey + ".lora_B.weight"] = at::linspace(0, 1, 64).view({32, 2});
  }
  fs::path write() const {
    fs::create_directories(temp_ / "adapter");
    temp_.write("adapter/adapter_config.json", config_.dump());
    write_safetensors(temp_ / "adapter/adapter_model.safetensors", tensors_);
    return temp_ / "adapter";
  }
  at::Tensor merged_query(MergedType type = MergedType::kAsStored) const {
    const Checkpoint checkpoint = open_checkpoint(golden("llama_gqa"), write());
    return open_tensors(checkpoint, type).load(std::string(kQuery) + ".weight");
  }

  Json config_;
  Tensors tensors_;
  TempFolder temp_;
};

at::Tensor base_query() {
  return load_safetensors(golden("llama_gqa") / "model.safetensors")
      .at(std::string(kQuery) + ".weight");
}

void expect_near(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_LT((got - want).abs().max().item<double>(), 1e-5);
}

TEST(MergeAdapter, AddsTheScaledProduct) {
  AdapterFolder folder;
  const at::Tensor product =
      at::mm(folder.tensors_[kKey + ".lora_B.weight"], folder.tensors_[kKey + ".lora_A.weight"]);
  expect_near(folder.merged_query(), base_query() + 4 * product);
  folder.config_["use_rslora"] = true;
  expect_near(folder.merged_query(), base_query() + 8 / std::sqrt(2.0) * product);
  folder.config_["alpha_pattern"] = {{"layers.1.self_attn.q_proj", 1.0}, {"k_proj", 7}};
  expect_near(folder.merged_query(), base_query() + 1 / std::sqrt(2.0) * product);
}

TEST(MergeAdapter, DoraScalesRowsToTheirMagnitudes) {
  AdapterFolder folder;
  folder.config_["use_dora"] = true;
  const at::Tensor magnitude = at::linspace(1, 2, 32);
  folder.tensors_[kKey + ".lora_magnitude_vector"] = magnitude;
  const at::Tensor rows = base_query() + 4 * at::mm(folder.tensors_[kKey + ".lora_B.weight"],
                                                    folder.tensors_[kKey + ".lora_A.weight"]);
  const at::Tensor want = rows * (magnitude / rows.square().sum(1).sqrt()).unsqueeze(1);
  expect_near(folder.merged_query(), want);
  // The name that older versions of PEFT gave it.
  folder.tensors_.erase(kKey + ".lora_magnitude_vector");
  folder.tensors_[kKey + ".lora_magnitude_vector.weight"] = magnitude;
  expect_near(folder.merged_query(), want);
}

TEST(MergeAdapter, ConvertWritesTheMergedModelInItsFamilysLayout) {
  AdapterFolder folder;
  const auto report = convert(golden("llama_gqa"), folder.temp_ / "out",
                              {.verify = true, .adapter = folder.write()});
  EXPECT_EQ(report.to, "llama");
  const auto got = load_safetensors(folder.temp_ / "out/model.safetensors");
  EXPECT_TRUE(at::equal(got.at(std::string(kQuery) + ".weight"), folder.merged_query()));
  const auto base = load_safetensors(golden("llama_gqa") / "model.safetensors");
  EXPECT_TRUE(at::equal(got.at("model.norm.weight"), base.at("model.norm.weight")));
  EXPECT_EQ(got.size(), base.size());
}

TEST(MergeAdapter, AnAdapterFolderStandsForItsModel) {
  AdapterFolder folder;
  EXPECT_THAT(message_of<CheckpointError>([&] { open_checkpoint(folder.write()); }),
              HasSubstr("base_model_name_or_path = \"\", allowed a folder"));
  folder.config_["base_model_name_or_path"] = golden("llama_gqa").string();
  const Checkpoint checkpoint = open_checkpoint(folder.write());
  EXPECT_EQ(checkpoint.family->name, "llama");
  EXPECT_TRUE(checkpoint.adapter.has_value());
  EXPECT_THROW(open_checkpoint(folder.write(), folder.write()), ConfigError);
}

TEST(MergeAdapter, RefusesWhatItDoesNotApply) {
  const auto refusal = [](auto change) {
    AdapterFolder folder;
    change(folder);
    return message_of<Error>([&] { folder.merged_query(); });
  };
  const auto with = [&](const char* key, const Json& value) {
    return refusal([&](AdapterFolder& f) { f.config_[key] = value; });
  };
  EXPECT_THAT(with("peft_type", "IA3"), HasSubstr("peft_type = \"IA3\", allowed LORA"));
  EXPECT_THAT(with("bias", "all"), HasSubstr("bias = \"all\", allowed none"));
  EXPECT_THAT(with("modules_to_save", Json::array({"lm_head"})), HasSubstr("modules_to_save"));
  EXPECT_THAT(with("init_lora_weights", "pissa"), HasSubstr("init_lora_weights = \"pissa\""));
  EXPECT_THAT(with("r", 0), HasSubstr("r = 0, allowed a number > 0"));
  EXPECT_THAT(with("r", 1e300), HasSubstr("allowed an integer from 1 to"));
  EXPECT_THAT(with("lora_alpha", "many"), HasSubstr("lora_alpha = \"many\""));
  EXPECT_THAT(with("rank_pattern", {{"layers\\.[0-9]", 4}}), HasSubstr("a regular expression"));
  EXPECT_THAT(with("use_dora", true), HasSubstr("no lora_magnitude_vector"));
  EXPECT_THAT(with("r", 3), HasSubstr("allowed [3, 32] of a floating type"));
  EXPECT_THAT(refusal([](AdapterFolder& f) { f.tensors_.erase(kKey + ".lora_B.weight"); }),
              HasSubstr(std::string("module \"") + kQuery + "\" = no lora_B"));
  EXPECT_THAT(refusal([](AdapterFolder& f) { f.tensors_.clear(); }), HasSubstr("tensors = none"));
  EXPECT_THAT(refusal([](AdapterFolder& f) {
                f.tensors_["base_model.model.lm_head.weight"] = at::ones({2});
              }),
              HasSubstr("no part of a low-rank pair"));
  EXPECT_THAT(refusal([](AdapterFolder& f) {
                f.tensors_["base_model.model.model.layers.9.q_proj.lora_A.weight"] = at::ones({2});
              }),
              HasSubstr("no projection of the model"));
}

AdapterTargets targets_of(const char* name, const std::vector<std::string>& targets) {
  config::AdapterConfig config;
  config.targets = targets;
  return find_targets(config, open_checkpoint(golden(name)));
}

TEST(AdapterTargets, NamesEndsAndGlobs) {
  const AdapterTargets ends = targets_of("llama_gqa", {"q_proj", "mlp.down_proj"});
  EXPECT_THAT(ends.targets, ElementsAre("down_proj", "q_proj"));
  EXPECT_EQ(ends.modules.at("model.layers.0.self_attn.q_proj.weight"),
            "model.layers.0.self_attn.q_proj");
  const AdapterTargets some = targets_of("llama_gqa", {"*.layers.1.*"});
  EXPECT_EQ(some.adapter.segments.size(), 7u);
  EXPECT_THAT(some.targets, testing::Contains("model.layers.1.mlp.up_proj"));
  const AdapterTargets one = targets_of("llama_gqa", {"model.layers.2.self_attn.o_proj"});
  EXPECT_THAT(one.targets, ElementsAre("model.layers.2.self_attn.o_proj"));
}

TEST(AdapterTargets, ExpertsRoutersAndHeadsAreNoTargets) {
  const AdapterTargets all = targets_of("qwen3_moe_mixed", {"*"});
  for (const auto& [rows, module] : all.modules) {
    EXPECT_EQ(module.find("experts"), std::string::npos) << module;
    EXPECT_FALSE(module.ends_with("mlp.gate")) << module;
    EXPECT_FALSE(module.ends_with("lm_head")) << module;
  }
  // Experts have projections of the same names: the list must name each module.
  EXPECT_THAT(targets_of("qwen3_moe_mixed", {"up_proj"}).targets,
              testing::Contains("model.layers.0.mlp.up_proj"));
  EXPECT_THAT(
      message_of<ConfigError>([] { targets_of("llama_gqa", {"lm_head"}); }),
      HasSubstr("\"lm_head\" names no projection that can be adapted; allowed * | down_proj"));
}

TEST(AdapterTargets, NamesAreThePublishedOnes) {
  const TempFolder temp;
  convert(golden("step3p5_moe"), temp / "native");
  config::AdapterConfig config;
  config.targets = {"share_expert.up_proj", "g_proj"};
  const AdapterTargets found = find_targets(config, open_checkpoint(temp / "native"));
  EXPECT_EQ(found.modules.at("model.layers.2.mlp.shared_expert.up_proj.weight"),
            "model.layers.2.share_expert.up_proj");
}

}  // namespace
}  // namespace headway::io
