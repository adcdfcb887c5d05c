// Published models from their config.json alone: parameters and tensors on disk equal what their
// publishers count, to the last one. Not for: values.
#include <gtest/gtest.h>

#include "headway/io/tensor_layout.h"

namespace headway::io {
namespace {

struct Published {
  const char* name;
  Json config;
  int64_t parameters;
  size_t tensors;
};

Json plain(const char* type, std::vector<int64_t> sizes, bool tied) {
  return {{"model_type", type},
          {"hidden_size", sizes[0]},
          {"intermediate_size", sizes[1]},
          {"num_hidden_layers", sizes[2]},
          {"num_attention_heads", sizes[3]},
          {"num_key_value_heads", sizes[4]},
          {"head_dim", sizes[5]},
          {"vocab_size", sizes[6]},
          {"tie_word_embeddings", tied}};
}

Json with(Json config, const Json& more) {
  config.update(more);
  return config;
}

Json gpt_oss(int64_t layers, int64_t experts) {
  Json config = plain("gpt_oss", {2880, 2880, layers, 64, 8, 64, 201088}, false);
  config["num_local_experts"] = experts;
  config["num_experts_per_tok"] = 4;
  config["quantization_config"] = {{"quant_method", "mxfp4"}};
  return config;
}

Json qwen3_moe(std::vector<int64_t> sizes, int64_t width) {
  return with(plain("qwen3_moe", std::move(sizes), false), {{"num_experts", 128},
                                                            {"num_experts_per_tok", 8},
                                                            {"moe_intermediate_size", width},
                                                            {"norm_topk_prob", true},
                                                            {"mlp_only_layers", Json::array()}});
}

Json step() {
  Json types = Json::array(), bases = Json::array(), fractions = Json::array();
  std::string sparse;
  for (int i = 0; i < 48; ++i) {
    types.push_back(i % 4 == 0 ? "full_attention" : "sliding_attention");
    bases.push_back(i % 4 == 0 ? 5e6 : 1e4);
    fractions.push_back(i % 4 == 0 ? 0.5 : 1.0);
    if (i >= 3 && i < 45) sparse += (sparse.empty() ? "" : ",") + std::to_string(i);
  }
  return {{"model_type", "step3p5"},
          {"vocab_size", 128896},
          {"hidden_size", 4096},
          {"intermediate_size", 11264},
          {"num_hidden_layers", 45},
          {"num_nextn_predict_layers", 3},
          {"num_attention_heads", 64},
          {"num_attention_groups", 8},
          {"head_dim", 128},
          {"attention_other_setting",
           {{"attention_type", "sliding_attention"},
            {"num_attention_heads", 96},
            {"num_attention_groups", 8},
            {"head_dim", 128}}},
          {"layer_types", types},
          {"sliding_window", 512},
          {"rope_theta", bases},
          {"partial_rotary_factors", fractions},
          {"moe_layers_enum", sparse},
          {"moe_num_experts", 288},
          {"moe_top_k", 8},
          {"moe_intermediate_size", 1280},
          {"share_expert_dim", 1280},
          {"moe_router_scaling_factor", 3.0}};
}

std::vector<Published> published() {
  return {
      {"Llama31_8B", plain("llama", {4096, 14336, 32, 32, 8, 128, 128256}, false), 8030261248, 291},
      {"Llama32_1B", plain("llama", {2048, 8192, 16, 32, 8, 64, 128256}, true), 1235814400, 146},
      {"Qwen3_06B", plain("qwen3", {1024, 3072, 28, 16, 8, 128, 151936}, true), 596049920, 310},
      {"Qwen3_8B", plain("qwen3", {4096, 12288, 36, 32, 8, 128, 151936}, false), 8190735360, 399},
      {"Qwen25_05B", plain("qwen2", {896, 4864, 24, 14, 2, 64, 151936}, true), 494032768, 290},
      {"Mistral_7B", plain("mistral", {4096, 14336, 32, 32, 8, 128, 32768}, false), 7248023552,
       291},
      {"Qwen3_30B_A3B", qwen3_moe({2048, 6144, 48, 32, 4, 128, 151936}, 768), 30532122624, 18867},
      {"Qwen3_235B_A22B", qwen3_moe({4096, 12288, 94, 64, 4, 128, 151936}, 1536), 235093634560,
       36945},
      {"GptOss_20B", gpt_oss(24, 32), 20914757184, 411},
      {"GptOss_120B", gpt_oss(36, 128), 116829156672, 615},
      {"Step35_Flash", step(), 199384301376, 804}};
}

TEST(PublishedSizes, ParametersAndTensors) {
  for (const Published& model : published()) {
    SCOPED_TRACE(model.name);
    const Family& family = find_family(model.config["model_type"].get<std::string>());
    const spec::ModelSpec spec = read_config(family, model.config, "config.json").spec;
    int64_t parameters = 0;
    for (const spec::TensorSpec& tensor : spec::tensors(spec)) parameters += tensor.numel();
    EXPECT_EQ(parameters, model.parameters);
    size_t tensors = 0;
    for (const Binding& binding : layout(spec, family)) tensors += binding.disk.size();
    EXPECT_EQ(tensors, model.tensors);
  }
}

/// The table its publisher prints: 45 layers and three that predict further tokens.
std::map<std::string, Shape> step_table() {
  constexpr int64_t kHidden = 4096, kVocab = 128896, kDense = 11264, kExperts = 288, kExpert = 1280;
  std::map<std::string, Shape> table = {{"model.embed_tokens.weight", {kVocab, kHidden}},
                                        {"lm_head.weight", {kVocab, kHidden}},
                                        {"model.norm.weight", {kHidden}}};
  for (int i = 0; i < 48; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const int64_t heads = i % 4 == 0 ? 64 : 96;
    const auto add = [&](const std::string& name, Shape shape) { table[layer + name] = shape; };
    const auto mlp = [&](const std::string& name, int64_t width) {
      add(name + ".gate_proj.weight", {width, kHidden});
      add(name + ".up_proj.weight", {width, kHidden});
      add(name + ".down_proj.weight", {kHidden, width});
    };
    add("input_layernorm.weight", {kHidden});
    add("post_attention_layernorm.weight", {kHidden});
    add("self_attn.q_proj.weight", {heads * 128, kHidden});
    add("self_attn.k_proj.weight", {1024, kHidden});
    add("self_attn.v_proj.weight", {1024, kHidden});
    add("self_attn.o_proj.weight", {kHidden, heads * 128});
    add("self_attn.g_proj.weight", {heads, kHidden});
    add("self_attn.q_norm.weight", {128});
    add("self_attn.k_norm.weight", {128});
    if (i >= 45) {
      add("enorm.weight", {kHidden});
      add("hnorm.weight", {kHidden});
      add("eh_proj.weight", {kHidden, 2 * kHidden});
      add("transformer.shared_head.norm.weight", {kHidden});
      add("transformer.shared_head.output.weight", {kVocab, kHidden});
    }
    if (i < 3 || i >= 45) {
      mlp("mlp", kDense);
      continue;
    }
    add("moe.gate.weight", {kExperts, kHidden});
    add("moe.router_bias", {kExperts});
    add("moe.gate_proj.weight", {kExperts, kExpert, kHidden});
    add("moe.up_proj.weight", {kExperts, kExpert, kHidden});
    add("moe.down_proj.weight", {kExperts, kHidden, kExpert});
    mlp("share_expert", kExpert);
  }
  return table;
}

TEST(PublishedSizes, StepsTensorsByNameAndShape) {
  const Family& family = find_family("step3p5");
  std::map<std::string, Shape> got;
  for (const Binding& binding : layout(read_config(family, step(), "config.json").spec, family)) {
    for (const DiskTensor& tensor : binding.disk) got[tensor.name] = tensor.shape;
  }
  EXPECT_EQ(got, step_table());
}

}  // namespace
}  // namespace headway::io
