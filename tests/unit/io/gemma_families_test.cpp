// gemma3_text, gemma4_text and the text part of gemma4: what configs mean, every error, published
// sizes to the parameter, and folders as other programs write them.
// Not for: numbers (tests/golden).
#include <fstream>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/io/convert.h"
#include "headway/spec/cost.h"
#include "headway/spec/kv_sharing.h"

#include "tests/support/io_files.h"
#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using ::testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;
namespace fs = std::filesystem;

Json gemma3_config() {
  Json config = plain_config("gemma3_text");
  config.update({{"query_pre_attn_scalar", 24}, {"sliding_window", 4}, {"num_hidden_layers", 7}});
  return config;
}

/// Two layer types, five layers, nothing of the rest.
Json gemma4_config() {
  return {{"model_type", "gemma4_text"},
          {"hidden_size", 16},
          {"vocab_size", 32},
          {"num_hidden_layers", 5},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 4},
          {"global_head_dim", 8},
          {"intermediate_size", 24},
          {"sliding_window", 6},
          {"hidden_size_per_layer_input", 0},
          {"layer_types",
           {"sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
            "full_attention"}},
          {"rms_norm_eps", 1e-5}};
}

TEST(Gemma3, DefaultsOfTheReference) {
  const spec::ModelSpec model = read_spec(gemma3_config());
  EXPECT_FALSE(attention_of_layer(model, 5).window.has_value());  // every sixth is full
  EXPECT_EQ(attention_of_layer(model, 6).window, 4);
  EXPECT_EQ(attention_of_layer(model, 5).rope->base, 5000.0);
  EXPECT_EQ(attention_of_layer(model, 0).rope->base, 1e4);
  EXPECT_DOUBLE_EQ(attention_of_layer(model, 0).scale, 1 / std::sqrt(24.0));
  EXPECT_EQ(model.embedding.scale, 4.0);
  EXPECT_EQ(model.embedding.scale_rounding, spec::ScaleRounding::kWeightDtype);
  EXPECT_EQ(model.embedding.padding_id, 0);
  EXPECT_EQ(model.head.final_norm->weight, spec::NormWeight::kZeroCentered);
  Json config = gemma3_config();
  config.erase("tie_word_embeddings");
  EXPECT_TRUE(read_spec(config).head.tied);
}

TEST(Gemma3, WrongKeysAreNamed) {
  const auto error_with = [](const char* key, const Json& value) {
    Json config = gemma3_config();
    config[key] = value;
    return config_error(config);
  };
  EXPECT_THAT(error_with("hidden_activation", "silu"),
              HasSubstr("hidden_activation = \"silu\": allowed gelu_pytorch_tanh"));
  EXPECT_THAT(error_with("sliding_window", 0), HasSubstr("sliding_window"));
  EXPECT_THAT(error_with("layer_types", {"full_attention"}), HasSubstr("layer_types"));
  EXPECT_THAT(error_with("query_pre_attn_scalar", -1), HasSubstr("query_pre_attn_scalar"));
  Json both = gemma3_config();
  both["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  EXPECT_EQ(attention_of_layer(read_spec(both), 5).rope->kind, spec::RopeKind::kLinear);
  EXPECT_EQ(attention_of_layer(read_spec(both), 0).rope->kind, spec::RopeKind::kDefault);
  both["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}}}};
  EXPECT_THAT(config_error(both), HasSubstr("rope_scaling"));
}

TEST(Gemma4, SharedLayersTakeTheLastOwnLayerOfTheirType) {
  Json config = gemma4_config();
  config["num_kv_shared_layers"] = 2;
  config["use_double_wide_mlp"] = true;
  const spec::ModelSpec model = read_spec(config);
  EXPECT_EQ(spec::kv_source_of(model.layers[3]), 2);
  EXPECT_EQ(spec::kv_source_of(model.layers[4]), 1);
  EXPECT_EQ(spec::dense_of(model.layers[2])->intermediate_size, 24);
  EXPECT_EQ(spec::dense_of(model.layers[3])->intermediate_size, 48);
  config["num_kv_shared_layers"] = 4;
  EXPECT_THAT(config_error(config), HasSubstr("num_kv_shared_layers"));
  config["num_kv_shared_layers"] = 5;
  EXPECT_THAT(config_error(config), HasSubstr("num_kv_shared_layers"));
}

TEST(Gemma4, GlobalHeadsCountOnlyWithOneProjection) {
  Json config = gemma4_config();
  config["num_global_key_value_heads"] = 1;
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).num_kv_heads, 2);
  config["attention_k_eq_v"] = true;
  const spec::ModelSpec model = read_spec(config);
  EXPECT_EQ(attention_of_layer(model, 1).num_kv_heads, 1);
  EXPECT_TRUE(attention_of_layer(model, 1).shared_key_value);
  EXPECT_EQ(attention_of_layer(model, 0).num_kv_heads, 2);
  EXPECT_FALSE(attention_of_layer(model, 0).shared_key_value);
}

TEST(Gemma4, LastLayerIsAlwaysFull) {
  Json config = gemma4_config();
  config["layer_types"][4] = "sliding_attention";
  const spec::ModelSpec model = read_spec(config);
  EXPECT_FALSE(attention_of_layer(model, 4).window.has_value());
  EXPECT_EQ(attention_of_layer(model, 4).head_dim, 8);
}

TEST(Gemma4, AbsentPerLayerSizeIsTheReferences) {
  Json config = gemma4_config();
  config.erase("hidden_size_per_layer_input");
  const spec::ModelSpec model = read_spec(config);
  ASSERT_TRUE(model.per_layer_embedding.has_value());
  EXPECT_EQ(model.per_layer_embedding->size, 256);
  EXPECT_EQ(model.per_layer_embedding->vocab_size, 262144);
}

TEST(Gemma4, WrongKeysAreNamed) {
  const auto error_with = [](const char* key, const Json& value) {
    Json config = gemma4_config();
    config[key] = value;
    return config_error(config);
  };
  EXPECT_THAT(error_with("attention_bias", true),
              HasSubstr("attention_bias = true: allowed false"));
  EXPECT_THAT(error_with("hidden_activation", "gelu"), HasSubstr("hidden_activation"));
  EXPECT_THAT(error_with("use_bidirectional_attention", "some"),
              HasSubstr("use_bidirectional_attention"));
  EXPECT_THAT(error_with("enable_moe_block", true), HasSubstr("num_experts = missing"));
  EXPECT_THAT(error_with("num_key_value_heads", 3), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(error_with("sliding_window", nullptr), HasSubstr("sliding_window"));
  EXPECT_THAT(error_with("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
              HasSubstr("rope_parameters.sliding_attention"));
  EXPECT_THAT(error_with("per_layer_config", {{"1", {{"head_dim", 12}}}}),
              HasSubstr("per_layer_config"));
  EXPECT_THAT(error_with("per_layer_config", {{"9", {{"head_dim", 12}}}}), HasSubstr("0..4"));
  EXPECT_THAT(error_with("per_layer_config", {{"1", {{"window", 12}}}}),
              HasSubstr("head_dim | num_key_value_heads"));
  Json config = gemma4_config();
  config["use_bidirectional_attention"] = "all";
  EXPECT_THAT(message_of<UnsupportedError>([&] { read_spec(config); }),
              HasSubstr("use_bidirectional_attention = \"all\""));
  config = gemma4_config();
  config["use_bidirectional_attention"] = "vision";
  EXPECT_TRUE(attention_of_layer(read_spec(config), 0).bidirectional_spans);
  EXPECT_FALSE(attention_of_layer(read_spec(config), 1).bidirectional_spans);
}

/// What gemma4.md §2 and §7 say of the published models.
struct Published {
  const char* name;
  Json config;
  int64_t parameters;
  int64_t full_bytes_per_token;
  int64_t sliding_bytes;
};

std::vector<std::string> every(int64_t period, int64_t layers) {
  std::vector<std::string> types;
  for (int64_t i = 1; i <= layers; ++i) {
    types.emplace_back(i % period == 0 ? "full_attention" : "sliding_attention");
  }
  return types;
}

Json published(int64_t hidden, int64_t layers, int64_t width, int64_t heads, int64_t kv_heads) {
  return {{"model_type", "gemma4_text"},
          {"vocab_size", 262144},
          {"hidden_size", hidden},
          {"num_hidden_layers", layers},
          {"intermediate_size", width},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv_heads},
          {"head_dim", 256},
          {"global_head_dim", 512},
          {"sliding_window", 1024},
          {"final_logit_softcapping", 30.0},
          {"hidden_size_per_layer_input", 0},
          {"vocab_size_per_layer_input", 262144}};
}

std::vector<Published> published_models() {
  Json e2b = published(1536, 35, 6144, 8, 1), e4b = published(2560, 42, 10240, 8, 2);
  e2b.update({{"layer_types", every(5, 35)},
              {"use_double_wide_mlp", true},
              {"num_kv_shared_layers", 20},
              {"hidden_size_per_layer_input", 256},
              {"sliding_window", 512}});
  e4b.update({{"num_kv_shared_layers", 18},
              {"hidden_size_per_layer_input", 256},
              {"sliding_window", 512}});
  Json b12 = published(3840, 48, 15360, 16, 8), b31 = published(5376, 60, 21504, 32, 16);
  Json b26 = published(2816, 30, 2112, 16, 8);
  b12.update({{"attention_k_eq_v", true}, {"num_global_key_value_heads", 1}});
  b31.update({{"attention_k_eq_v", true}, {"num_global_key_value_heads", 4}});
  b26.update({{"attention_k_eq_v", true},
              {"num_global_key_value_heads", 2},
              {"enable_moe_block", true},
              {"num_experts", 128},
              {"top_k_experts", 8},
              {"moe_intermediate_size", 704}});
  constexpr int64_t kMiB = 1 << 20;
  return {{"E2B", e2b, 4628569379, 6144, 6 * kMiB},
          {"E4B", e4b, 7463013418, 16384, 20 * kMiB},
          {"12B", b12, 11907350320, 16384, 320 * kMiB},
          {"26B-A4B", b26, 25233141790, 20480, 200 * kMiB},
          {"31B", b31, 30697345340, 81920, 800 * kMiB}};
}

TEST(Gemma4, PublishedSizesToTheParameterFromConfigsAlone) {
  for (const Published& model : published_models()) {
    SCOPED_TRACE(model.name);
    const TempFolder temp;
    std::ofstream(temp / "config.json") << model.config.dump();
    const spec::ModelSpec spec = open_checkpoint(temp.path()).spec;
    const spec::ModelCost costs = spec::cost(spec, {.context = 8192, .element_bytes = 2});
    EXPECT_EQ(costs.total.parameters, model.parameters);
    EXPECT_EQ(costs.total.state_bytes_per_token, model.full_bytes_per_token);
    EXPECT_EQ(costs.total.state_bytes_fixed, model.sliding_bytes);
  }
  EXPECT_EQ(spec::cost(read_spec(published_models()[3].config)).total.active_parameters,
            25233141790 - 22837985280 * 120 / 128);
}

/// The golden checkpoint with everything, for folders that other programs write.
class Gemma4Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    golden_ = fs::path(HEADWAY_TESTS_DIR) / "golden/hf/gemma4_all";
    config_ = parse_json_file((golden_ / "config.json").string());
    tensors_.clear();
    const TensorSource source = TensorSource::open(golden_);
    for (const auto& [name, info] : source.tensors()) tensors_[name] = source.load(name);
  }

  void write(const fs::path& folder) const {
    fs::create_directories(folder);
    std::ofstream(folder / "config.json") << config_.dump();
    write_safetensors(folder / "model.safetensors", tensors_);
  }

  /// Every tensor below another prefix.
  void move_to(const std::string& prefix) {
    std::map<std::string, at::Tensor> moved;
    for (const auto& [name, tensor] : tensors_) {
      moved[prefix + name.substr(std::string("model.").size())] = tensor;
    }
    tensors_ = std::move(moved);
  }

  void expect_same_native(const fs::path& folder) const {
    const TempFolder temp;
    convert(golden_, temp / "want", {.to = "headway"});
    convert(folder, temp / "got", {.to = "headway", .verify = true});
    EXPECT_EQ(testing_support::read_bytes(temp / "got/model.safetensors"),
              testing_support::read_bytes(temp / "want/model.safetensors"));
  }

  fs::path golden_;
  Json config_;
  std::map<std::string, at::Tensor> tensors_;
};

TEST_F(Gemma4Folder, CompositeGivesItsTextPartAndIsNotWritten) {
  const TempFolder temp;
  move_to("model.language_model.");
  tensors_["model.vision_tower.patch.weight"] = at::zeros({2, 2});
  Json text = config_;
  config_ = {{"model_type", "gemma4"}, {"text_config", text}, {"vision_config", Json::object()}};
  write(temp / "in");
  expect_same_native(temp / "in");
  EXPECT_THAT(
      message_of<UnsupportedError>([&] { convert(temp / "in", temp / "out", {.to = "gemma4"}); }),
      HasSubstr("allowed --to gemma4_text"));
  convert(temp / "in", temp / "text", {.to = "gemma4_text", .verify = true});
  EXPECT_EQ(testing_support::read_bytes(temp / "text/model.safetensors"),
            testing_support::read_bytes(golden_ / "model.safetensors"));
}

TEST_F(Gemma4Folder, OtherPrefixesAreTheSameModel) {
  for (const std::string prefix : {"language_model.model.", "language_model."}) {
    SCOPED_TRACE(prefix);
    SetUp();
    const TempFolder temp;
    move_to(prefix);
    write(temp / "in");
    expect_same_native(temp / "in");
  }
}

TEST_F(Gemma4Folder, UnusedKeysOfSharedLayersAreLeftOut) {
  const TempFolder temp;
  for (const char* part : {"k_proj", "v_proj", "k_norm"}) {
    tensors_["model.layers.5.self_attn." + std::string(part) + ".weight"] = at::ones({4, 4});
  }
  write(temp / "in");
  expect_same_native(temp / "in");
  // Layer 2 makes keys and values of one projection: values of its own would be lost.
  tensors_["model.layers.2.self_attn.v_proj.weight"] = at::ones({16, 32});
  write(temp / "bad");
  EXPECT_THAT(message_of<CheckpointError>([&] { convert(temp / "bad", temp / "o", {}); }),
              HasSubstr("model.layers.2.self_attn.v_proj.weight"));
}

TEST_F(Gemma4Folder, SingleExpertsAreTheStacks) {
  const TempFolder temp;
  for (int layer = 0; layer < 6; ++layer) {
    const std::string experts = "model.layers." + std::to_string(layer) + ".experts.";
    const at::Tensor up = tensors_.at(experts + "gate_up_proj");
    const at::Tensor down = tensors_.at(experts + "down_proj");
    for (int64_t e = 0; e < up.size(0); ++e) {
      const std::string one = experts + std::to_string(e) + ".";
      tensors_[one + "gate_proj.weight"] = up[e].narrow(0, 0, up.size(1) / 2).contiguous();
      tensors_[one + "up_proj.weight"] =
          up[e].narrow(0, up.size(1) / 2, up.size(1) / 2).contiguous();
      tensors_[one + "down_proj.weight"] = down[e].contiguous();
    }
    tensors_.erase(experts + "gate_up_proj");
    tensors_.erase(experts + "down_proj");
  }
  write(temp / "in");
  expect_same_native(temp / "in");
}

TEST(GemmaExport, OtherFamiliesNameWhatTheyCannotHold) {
  Json config = gemma4_config();
  config.update({{"num_kv_shared_layers", 2}, {"hidden_size_per_layer_input", 4}});
  const auto refused = [&](const char* family) {
    return message_of<UnsupportedError>(
        [&] { export_config(find_family(family), read_spec(config), {}); });
  };
  for (const char* family : {"llama", "qwen3", "step3p5", "gemma3_text"}) {
    EXPECT_THAT(refused(family), HasSubstr("keys and values of another layer")) << family;
    EXPECT_THAT(refused(family), HasSubstr("per-layer embedding")) << family;
  }
  const spec::ModelSpec llama = read_spec(plain_config("llama"));
  EXPECT_THAT(
      message_of<UnsupportedError>([&] { export_config(find_family("gemma4_text"), llama, {}); }),
      HasSubstr("layer_scalar"));
}

}  // namespace
}  // namespace headway::io
