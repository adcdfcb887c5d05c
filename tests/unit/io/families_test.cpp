// llama, qwen3, mistral: what their configs mean, and every error of reading them.
// Not for: step3p5 (step3p5_test.cpp), tensors (convert_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using ::testing::HasSubstr;
using testing_support::message_of;

struct Bad {
  const char* key;
  Json value;
  const char* text;
};

void expect_errors(const std::string& family, const std::vector<Bad>& cases) {
  for (const Bad& bad : cases) {
    Json config = config_of(family);
    config[bad.key] = bad.value;
    EXPECT_THAT(config_error(config), HasSubstr(bad.text)) << family << " " << bad.key;
    EXPECT_THAT(config_error(config), HasSubstr(bad.key)) << family;
    EXPECT_THAT(config_error(config), HasSubstr("config.json")) << family;
  }
}

const std::vector<std::string> kPlainFamilies = {"llama", "qwen3", "mistral"};

TEST(Families, WrongTypesAndRangesNameTheKey) {
  for (const std::string family : {"llama", "qwen3", "mistral", "step3p5"}) {
    expect_errors(family, {{"hidden_size", "16", "an integer in 1.."},
                           {"hidden_size", 16.5, "an integer"},
                           {"hidden_size", 0, "an integer in 1.."},
                           {"hidden_size", -4, "an integer"},
                           {"hidden_size", 1e30, "an integer"},
                           {"hidden_size", true, "an integer"},
                           {"vocab_size", Json::array(), "an integer"},
                           {"num_hidden_layers", 1'000'000'000, "an integer in 1..10000"},
                           {"num_attention_heads", 0, "an integer"},
                           {"num_attention_heads", 18446744073709551615u, "an integer"},
                           {"head_dim", "8", "an integer"},
                           {"intermediate_size", Json::object(), "an integer"},
                           {"rms_norm_eps", -1.0, "a number >= 0"},
                           {"rms_norm_eps", "1e-5", "a number"},
                           {"tie_word_embeddings", 1, "true | false"},
                           {"pad_token_id", 32, "an integer in -32..31"},
                           {"max_position_embeddings", 0, "an integer"},
                           {"initializer_range", -0.1, "a number"}});
  }
}

TEST(Families, MissingShapesAreErrors) {
  for (const std::string family : {"llama", "qwen3", "mistral", "step3p5"}) {
    for (const char* key : {"hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
                            "intermediate_size"}) {
      Json config = config_of(family);
      config.erase(key);
      EXPECT_THAT(config_error(config), HasSubstr(std::string(key) + " = missing")) << family;
    }
  }
}

TEST(Families, EveryProblemAtOnce) {
  Json config = plain_config("llama");
  config["hidden_size"] = "x";
  config["hidden_act"] = "mish";
  config["rms_norm_eps"] = false;
  const std::string message = config_error(config);
  for (const char* key : {"hidden_size", "hidden_act", "rms_norm_eps"}) {
    EXPECT_THAT(message, HasSubstr(key));
  }
}

TEST(Families, FallbacksOfTheReference) {
  Json config = plain_config("llama");
  for (const char* key : {"num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta",
                          "tie_word_embeddings", "max_position_embeddings"}) {
    config.erase(key);
  }
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_EQ(attention_of_layer(spec, 0).num_kv_heads, 4);
  EXPECT_EQ(attention_of_layer(spec, 0).head_dim, 4);
  EXPECT_EQ(attention_of_layer(spec, 0).rope->base, 10000.0);
  EXPECT_EQ(spec.head.final_norm->eps, 1e-6);
  EXPECT_FALSE(spec.head.tied);
  EXPECT_EQ(spec.max_positions, 2048);
  EXPECT_EQ(spec.embedding.padding_id, std::nullopt);
}

TEST(Families, ClassDefaultsOfShapesAreNotUsed) {
  for (const auto& [family, key] :
       {std::pair("qwen3", "head_dim"), std::pair("qwen3", "num_key_value_heads"),
        std::pair("mistral", "num_key_value_heads")}) {
    Json config = plain_config(family);
    config.erase(key);
    EXPECT_THAT(config_error(config), HasSubstr(std::string(key) + " = missing"));
    config[key] = nullptr;
    EXPECT_NO_THROW(read_spec(config)) << family << key;
  }
}

TEST(Families, IntegersAndFloatsAreInterchangeable) {
  Json config = plain_config("llama");
  config["hidden_size"] = 16.0;
  config["rope_theta"] = 5000;
  EXPECT_TRUE(read_spec(config) == read_spec(plain_config("llama")));
}

TEST(Families, HeadsMustDivide) {
  Json config = plain_config("llama");
  config["num_key_value_heads"] = 3;
  EXPECT_THAT(config_error(config), HasSubstr("a divisor of num_attention_heads (= 4)"));
  config = plain_config("llama");
  config.erase("head_dim");
  config["num_attention_heads"] = config["num_key_value_heads"] = 3;
  EXPECT_THAT(config_error(config), HasSubstr("head_dim"));
}

TEST(Families, Activations) {
  for (const auto& [name, activation] :
       {std::pair("silu", spec::Activation::kSilu), std::pair("gelu", spec::Activation::kGelu),
        std::pair("gelu_pytorch_tanh", spec::Activation::kGeluTanh),
        std::pair("relu", spec::Activation::kRelu)}) {
    Json config = plain_config("llama");
    config["hidden_act"] = name;
    EXPECT_EQ(std::get<spec::DenseMlpSpec>(read_spec(config).layers[0].mlp).activation, activation);
  }
  expect_errors("llama", {{"hidden_act", "quick_gelu", "silu | gelu_pytorch_tanh"},
                          {"hidden_act", 3, "a string"}});
  expect_errors("step3p5", {{"hidden_act", "gelu", "allowed silu"}});
}

TEST(Families, PaddingIdsCountFromTheEndWhenNegative) {
  Json config = plain_config("llama");
  config["pad_token_id"] = -1;
  EXPECT_EQ(read_spec(config).embedding.padding_id, 31);
}

TEST(Families, LlamaBiases) {
  Json config = plain_config("llama");
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_TRUE(attention_of_layer(spec, 2).qkv_bias && attention_of_layer(spec, 2).output_bias);
  EXPECT_TRUE(std::get<spec::DenseMlpSpec>(spec.layers[2].mlp).bias);
}

TEST(Families, MistralWindow) {
  Json config = plain_config("mistral");
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).window, std::nullopt);
  config["sliding_window"] = 7;
  EXPECT_EQ(attention_of_layer(read_spec(config), 2).window, 7);
  config.erase("sliding_window");
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).window, 4096);
  expect_errors("mistral",
                {{"sliding_window", 0, "an integer"}, {"sliding_window", "x", "an integer"}});
}

TEST(Families, Qwen3Windows) {
  Json config = plain_config("qwen3");
  config["sliding_window"] = 7;
  EXPECT_EQ(attention_of_layer(read_spec(config), 2).window, std::nullopt);  // inactive
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 1;
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).window, std::nullopt);
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).window, 7);
  config["layer_types"] = {"sliding_attention", "full_attention", "full_attention"};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).window, 7);
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).window, std::nullopt);
  EXPECT_TRUE(attention_of_layer(read_spec(config), 0).q_norm.has_value());
}

TEST(Families, Qwen3LayerTypes) {
  expect_errors("qwen3", {{"layer_types", {"full_attention"}, "a list of 3"},
                          {"layer_types", {"full_attention", "full_attention", "mamba"}, "mamba"},
                          {"layer_types", {1, 2, 3}, "a list of strings"},
                          {"layer_types",
                           {"sliding_attention", "full_attention", "full_attention"},
                           "there is no window"},
                          {"max_window_layers", -1, "an integer"}});
}

TEST(Families, UnknownKeysAreKeptApart) {
  Json config = plain_config("llama");
  config["my_key"] = {{"a", 1}};
  config["pretraining_tp"] = 1;
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"extra", 1}};
  const ReadConfig read = read_config(llama_family(), config, "config.json");
  EXPECT_EQ(read.unknown_keys,
            (std::vector<std::string>{"sliding_window", "my_key", "rope_scaling.extra"}));
}

TEST(Families, UnknownFamily) {
  const std::string message = message_of<UnsupportedError>([] { find_family("bert"); });
  EXPECT_THAT(message, HasSubstr("\"bert\", allowed deepseek_v3 | deepseek_v32 | gemma3_text | "));
}

TEST(Rope, KindsAndTheirValues) {
  Json config = plain_config("llama");
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4}};  // legacy name of the kind
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->kind, spec::RopeKind::kLinear);
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->factor, 4.0);
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8.0},     {"beta_fast", nullptr},
                            {"beta_slow", 0},      {"truncate", false}, {"mscale", 0.7}};
  const auto rope = *attention_of_layer(read_spec(config), 0).rope;
  EXPECT_EQ(rope.beta_fast, 32.0);
  EXPECT_EQ(rope.beta_slow, 1.0);
  EXPECT_FALSE(rope.truncate);
  EXPECT_EQ(rope.mscale, 0.7);
  EXPECT_EQ(rope.mscale_all_dim, std::nullopt);
  EXPECT_EQ(rope.original_max_positions, 64.0);  // as the model's own length
  EXPECT_EQ(rope.base, 5000.0);
}

TEST(Rope, YarnFactorFromLengths) {
  Json config = plain_config("llama");
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 16}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->factor, 4.0);
}

TEST(Rope, TopLevelOriginalLengthWins) {
  Json config = plain_config("llama");
  config["original_max_position_embeddings"] = 8;
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 2.0}, {"original_max_position_embeddings", 16}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->original_max_positions, 8.0);
}

TEST(Rope, NestedBaseBeatsTopLevel) {
  Json config = plain_config("llama");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 77.0}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->base, 77.0);
  config["rope_parameters"] = {{"rope_type", "default"}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->base, 5000.0);
}

TEST(Rope, TwoSpellingsMustAgree) {
  Json config = plain_config("llama");
  const Json scaling = {{"rope_type", "linear"}, {"factor", 2.0}};
  config["rope_scaling"] = scaling;
  config["rope_parameters"] = scaling;
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->factor, 2.0);
  config["rope_parameters"]["factor"] = 3.0;
  EXPECT_THAT(config_error(config), AllOf(HasSubstr("rope_scaling"), HasSubstr("rope_parameters")));
  config["rope_scaling"] = Json::object();  // says nothing
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->factor, 3.0);
}

TEST(Rope, Errors) {
  const auto scaling = [](Json value) { return Bad{"rope_scaling", std::move(value), ""}; };
  std::vector<std::pair<Bad, std::string>> cases = {
      {scaling({{"rope_type", "cubic"}}), "default | linear | llama3 | yarn | proportional"},
      {scaling({{"rope_type", "linear"}}), "rope_scaling.factor = missing"},
      {scaling({{"rope_type", "linear"}, {"factor", 0}}), "a number > 0"},
      {scaling({{"rope_type", "linear"}, {"factor", "2"}}), "a number > 0"},
      {scaling({{"rope_type", "llama3"}, {"factor", 8.0}}), "low_freq_factor = missing"},
      {scaling({{"rope_type", "yarn"}}), "rope_scaling.factor = missing"},
      {scaling({{"rope_type", "yarn"}, {"factor", 2.0}, {"truncate", 1}}), "true | false"},
      {scaling({{"rope_type", 3}}), "a string"},
      {scaling({{"full_attention", {{"rope_type", "default"}}}}), "per layer type"},
      {scaling("linear"), "an object"},
      {scaling({{"rope_type", "linear"}, {"factor", 2.0}, {"partial_rotary_factor", 0.5}}),
       "partial_rotary_factor"},
      {Bad{"partial_rotary_factor", 0.5, ""}, "partial_rotary_factor below 1"},
      {Bad{"rope_theta", 0, ""}, "a number > 0"},
      {Bad{"rope_theta", {1.0, 2.0, 3.0}, ""}, "a number > 0"}};
  for (const auto& [bad, text] : cases) {
    for (const std::string& family : kPlainFamilies) {
      Json config = plain_config(family);
      config[bad.key] = bad.value;
      EXPECT_THAT(config_error(config), HasSubstr(text)) << bad.value.dump();
    }
  }
}

TEST(Rope, KindsWithoutAKernelAreUnsupported) {
  for (const char* kind : {"dynamic", "longrope", "su"}) {
    Json config = plain_config("llama");
    config["rope_scaling"] = {{"rope_type", kind}, {"factor", 2.0}};
    EXPECT_THAT(message_of<UnsupportedError>([&] { read_spec(config); }), HasSubstr(kind));
  }
}

TEST(Export, ReasonsNameFeatureAndLayer) {
  Json config = plain_config("mistral");
  config["sliding_window"] = 7;
  const spec::ModelSpec windowed = read_spec(config);
  EXPECT_THAT(llama_family().inexpressible(windowed),
              ::testing::ElementsAre("layers 0, 1, 2: a sliding window"));
  EXPECT_TRUE(mistral_family().inexpressible(windowed).empty());
  EXPECT_THAT(qwen3_family().inexpressible(windowed),
              ::testing::ElementsAre("layers 0, 1, 2: no q/k norm"));
  const std::string message =
      message_of<UnsupportedError>([&] { export_config(llama_family(), windowed, {}); });
  EXPECT_THAT(message, HasSubstr("family llama"));
  EXPECT_THAT(message, HasSubstr("a sliding window"));
}

TEST(Export, EveryFeatureOfASpecIsSeen) {
  using Change = std::function<void(spec::ModelSpec&)>;
  const auto attention = [](const std::function<void(spec::AttentionSpec&)>& change) -> Change {
    return
        [change](spec::ModelSpec& s) { change(std::get<spec::AttentionSpec>(s.layers[1].mixer)); };
  };
  const std::vector<Change> changes = {
      [](auto& s) { s.embedding.scale = 4.0; },
      [](auto& s) { s.head.softcap = 30.0; },
      [](auto& s) { s.head.final_norm.reset(); },
      [](auto& s) { s.layers[1].pre_mixer_norm.reset(); },
      [](auto& s) { s.layers[1].pre_mlp_norm->eps = 1e-3; },
      [](auto& s) { s.layers[1].pre_mlp_norm->kind = spec::NormKind::kLayer; },
      [](auto& s) { s.layers[1].pre_mixer_norm->weight = spec::NormWeight::kFp32; },
      [](auto& s) { s.layers[1].post_mixer_norm = s.head.final_norm; },
      [](auto& s) { s.layers[1].layer_scalar = true; },
      [](auto& s) { std::get<spec::DenseMlpSpec>(s.layers[1].mlp).gated = false; },
      [](auto& s) { std::get<spec::DenseMlpSpec>(s.layers[1].mlp).intermediate_size = 8; },
      [](auto& s) {
        std::get<spec::DenseMlpSpec>(s.layers[1].mlp).activation = spec::Activation::kRelu;
      },
      [](auto& s) { std::get<spec::DenseMlpSpec>(s.layers[1].mlp).bias = true; },
      attention([](auto& a) { a.v_head_dim = 2; }),
      attention([](auto& a) { a.scale = 1.0; }),
      attention([](auto& a) { a.logit_softcap = 50.0; }),
      attention([](auto& a) { a.sinks = spec::SinkKind::kLearnable; }),
      attention([](auto& a) { a.gate.kind = spec::GateKind::kElementWise; }),
      attention([](auto& a) { a.gate_bias = true; }),
      attention([](auto& a) {
        a.q_norm.reset();
        a.k_norm = spec::NormSpec{};
      }),
      attention([](auto& a) { a.rope->layout = spec::RopeLayout::kInterleaved; }),
      attention([](auto& a) {
        a.rope->sections = {1, 1, 0};
      }),
      attention([](auto& a) { a.mask = spec::MaskKind::kNone; }),
      attention([](auto& a) { a.num_kv_heads = 1; }),
      attention([](auto& a) { a.qkv_bias = true; }),
      attention([](auto& a) { a.window = 3; }),
  };
  for (const std::string family : {"llama", "qwen3", "mistral", "step3p5"}) {
    for (size_t i = 0; i < changes.size(); ++i) {
      spec::ModelSpec spec = read_spec(config_of(family));
      EXPECT_TRUE(find_family(family).inexpressible(spec).empty()) << family;
      changes[i](spec);
      const bool has_window_per_layer = family == "qwen3" && i + 1 == changes.size();
      EXPECT_EQ(find_family(family).inexpressible(spec).empty(), has_window_per_layer)
          << family << " change " << i;
    }
  }
}

TEST(Export, OriginalOrderAndUnknownKeysStay) {
  Json original = plain_config("llama");
  original["zz_mine"] = "kept";
  original["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5000.0}};
  original["dtype"] = "bfloat16";
  spec::ModelSpec spec = read_spec(original);
  spec.head.tied = true;
  const Json result =
      export_config(llama_family(), spec, {.original = &original, .dtype = "float32"});
  EXPECT_EQ(result["zz_mine"], "kept");
  EXPECT_EQ(result["tie_word_embeddings"], true);
  EXPECT_EQ(result["dtype"], "float32");
  EXPECT_FALSE(result.contains("torch_dtype"));
  EXPECT_FALSE(result.contains("rope_parameters"));  // written anew as rope_theta
  EXPECT_EQ(result.begin().key(), "model_type");
}

}  // namespace
}  // namespace headway::io
