// Values recorded from Megatron-LM's own modules through the probe: outputs, biases, every gradient
// and rotary tables, in float64 and float32.
// Not for: modules that this build refuses (their errors are at the end).
#include "headway/engine/probe.h"

#include <set>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/safetensors_file.h"

#include "tests/golden/megatron/probe_golden.h"

namespace headway::engine {
namespace {

/// Where an expert's places are filled up with tokens that it does not weigh, which ones is
/// arbitrary upstream: only their number counts.
void expect_same_choices(const std::map<std::string, at::Tensor>& got, const at::Tensor& want) {
  const at::Tensor& map = got.at("routing_map");
  EXPECT_TRUE(at::equal(map.sum(0), want.sum(0)));
  const at::Tensor weighs = got.at("out") > 0;
  EXPECT_TRUE(at::equal(map.logical_and(weighs), want.logical_and(weighs)));
  EXPECT_TRUE(at::equal(weighs.logical_and(map), weighs));
}

void compare(const std::map<std::string, at::Tensor>& got, const Case& given, double tolerance) {
  std::set<std::string> gradients;
  size_t compared = 0;
  for (const auto& [name, want] : io::load_safetensors(path_of(given.file))) {
    const bool layer = (name.starts_with("aux.layer") || name.starts_with("aux.mtp")) &&
                       !name.ends_with("attention_out");
    const bool rope = given.module == "rope" && !name.ends_with(".t") &&
                      !name.ends_with("position_ids") && !name.ends_with("cu_seqlens");
    const bool result = is_result(name) && name != "out_fp32" && !name.starts_with("aux.");
    if (!layer && !rope && !result) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    if (name == "routing_map") {
      expect_same_choices(got, want);
    } else {
      expect_close(name, got.at(name), want, tolerance);
    }
    ++compared;
    if (name.starts_with("grad")) gradients.insert(name);
  }
  EXPECT_GT(compared, 2u);
  for (const auto& [name, tensor] : got) {
    if (name.starts_with("grad")) {
      EXPECT_TRUE(gradients.contains(name)) << name;
    }
  }
}

class MegatronGolden : public testing::TestWithParam<Case> {};

TEST_P(MegatronGolden, Float64) { compare(probe(request_of(GetParam())), GetParam(), 1e-10); }

TEST_P(MegatronGolden, Float32) {
  ProbeRequest request = request_of(GetParam());
  request.dtype = at::kFloat;
  const auto got = probe(request);
  for (const auto& [name, tensor] : got) {
    EXPECT_EQ(tensor.scalar_type(), name == "routing_map" ? at::kBool : at::kFloat) << name;
  }
  compare(got, GetParam(), 2e-5);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* name : {"arbitrary_mask",     "gqa_rope_half_bias",
                           "gqa_rope_nobias",    "head_gate_gqa",
                           "head_gate_mha_bias", "head_gate_qknorm_window",
                           "head_gate_zero",     "layer_scaling",
                           "mha_interleaved",    "mqa_norope",
                           "output_gate_gqa",    "output_gate_mha_bias",
                           "output_gate_qknorm", "padding_mask",
                           "qk_l2_norm",         "qknorm_layernorm",
                           "qknorm_rms",         "qkvbias_only",
                           "sink_learnable",     "sink_off_by_one",
                           "softmax_scale",      "window_3_2",
                           "window_5_0",         "window_skip_full",
                           "window_skip_win",    "yarn"}) {
    all.push_back({"self_attention", std::string("attn_") + name});
  }
  for (const char* name : {"rotary_base_per_layer", "scalar_base", "base_per_layer_partial_gate",
                           "no_rope_freq", "mtp"}) {
    all.push_back({"gpt_model", std::string("gpt_") + name});
  }
  for (const char* name : {"gdn_basic", "gdn_conv_bias", "gdn_two_chunks"}) {
    all.push_back({"gated_delta_net", name});
  }
  for (const char* name : {"gdn_rule_chunks", "gdn_rule_initial_state"}) {
    all.push_back({"gated_delta_rule", name});
  }
  for (const char* name :
       {"aux_list_padding", "aux_z", "capacity_pad", "capacity_probs", "groups_softmax_pre",
        "seq_aux_sigmoid", "sigmoid_bias_groups", "softmax_post", "softmax_pre", "sqrtsoftplus"}) {
    all.push_back({"router", std::string("router_") + name});
  }
  all.push_back({"moe_layer", "moe_layer_shared_gate"});
  all.push_back({"moe_layer", "moe_layer_sigmoid"});
  for (const char* name : {"hybrid_gdn_dense", "hybrid_gdn_moe", "moe_aux_gpt"}) {
    all.push_back({"gpt_model", name});
  }
  for (const char* name :
       {"noqlora_rope", "qlora_rope_norm", "qlora_yarn", "qlora_yarn_alldim", "rope_scaled"}) {
    all.push_back({"mla", std::string("mla_") + name});
  }
  all.push_back({"gpt_model", "gpt_mla_dsa"});
  all.push_back({"rope", "rope_tables"});
  all.push_back({"rope", "rope_apply"});
  all.push_back({"rope", "rope_packed_cp"});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, MegatronGolden, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.file; });

/// Without rotary_pos_emb the table comes from the `rope` metadata, to the same numbers.
TEST(MegatronProbe, RopeMetadataGivesTheTable) {
  for (const char* file : {"attn_gqa_rope_half_bias", "attn_mha_interleaved", "attn_yarn"}) {
    const Case given{"self_attention", file};
    ProbeRequest request = request_of(given);
    ASSERT_EQ(request.tensors.erase("rotary_pos_emb"), 1u);
    compare(probe(request), given, 1e-10);
  }
}

TEST(MegatronProbe, RefusesWhatItCannotRun) {
  using testing::HasSubstr;
  ProbeRequest request = request_of({"self_attention", "attn_padding_mask"});
  request.metadata["mask"] = "sliding";
  EXPECT_THAT(error_of<ConfigError>(request),
              HasSubstr("mask = sliding, allowed padding | causal"));
  request.metadata["mask"] = "arbitrary";
  request.tensors.erase("attention_mask");
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("attention_mask: missing"));
  request.tensors["attention_mask"] = at::zeros({3, 1, 1, 14}, at::kBool);
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("[3, heads, 15, 15] or 1 in any place"));
  request = request_of({"self_attention", "attn_qknorm_rms"});
  request.module = "mla";
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("multi_latent_attention = false"));
  request.module = "attention";
  EXPECT_THAT(error_of<ConfigError>(request),
              HasSubstr("self_attention | cross_attention | gpt_model"));
  request = request_of({"self_attention", "attn_qknorm_rms"});
  request.tensors["param.nonsense"] = at::zeros({1});
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("param.nonsense"));
  request = request_of({"self_attention", "attn_qknorm_rms"});
  request.tensors.erase("param.linear_proj.weight");
  EXPECT_THAT(error_of<CheckpointError>(request), HasSubstr("param.linear_proj.weight: missing"));
}

TEST(MegatronProbe, ConcreteNormNeedsItsSwitch) {
  ProbeRequest request = request_of({"self_attention", "attn_qknorm_rms"});
  Json config = Json::parse(request.metadata.at("config"));
  config["qk_layernorm"] = false;
  request.config = config;
  EXPECT_THAT(error_of<ConfigError>(request), testing::HasSubstr("qk_layernorm"));
}

TEST(MegatronProbe, PackedSequencesAreSeparateSequences) {
  ProbeRequest request = request_of({"self_attention", "attn_gqa_rope_nobias"});
  request.tensors.erase("cotangent");
  const at::Tensor hidden = request.tensors.at("hidden_states");  // [S,2,D]
  const at::Tensor separate = probe(request).at("out");
  const int64_t length = hidden.size(0);
  request.tensors["hidden_states"] =
      at::cat({hidden.select(1, 0), hidden.select(1, 1)}).unsqueeze(1).contiguous();
  request.tensors["cu_seqlens"] = at::tensor({int64_t{0}, length, 2 * length}, at::kInt);
  const at::Tensor packed = probe(request).at("out").squeeze(1);
  EXPECT_LE((packed.narrow(0, 0, length) - separate.select(1, 0)).abs().max().item<double>(),
            1e-12);
  EXPECT_LE((packed.narrow(0, length, length) - separate.select(1, 1)).abs().max().item<double>(),
            1e-12);
}

TEST(MegatronProbe, PackedSequencesOfAModelAreSeparateSequences) {
  ProbeRequest request = request_of({"gpt_model", "gpt_base_per_layer_partial_gate"});
  request.tensors.erase("cotangent");
  request.tensors.erase("position_ids");
  const at::Tensor ids = request.tensors.at("input_ids");  // [2,S]
  const at::Tensor separate = probe(request).at("out");
  const int64_t length = ids.size(1);
  request.tensors["input_ids"] = ids.reshape({1, 2 * length});
  request.tensors["cu_seqlens"] = at::tensor({int64_t{0}, length, 2 * length}, at::kInt);
  const at::Tensor packed = probe(request).at("out").view(separate.sizes());
  EXPECT_LE((packed - separate).abs().max().item<double>(), 1e-11);
}

TEST(MegatronProbe, LabelsGiveTheLossOfEveryToken) {
  ProbeRequest request = request_of({"gpt_model", "gpt_scalar_base"});
  request.tensors.erase("cotangent");
  const at::Tensor logits = probe(request).at("out");
  const at::Tensor labels = at::arange(logits.numel() / logits.size(2), at::kLong)
                                .remainder(logits.size(2))
                                .view({logits.size(0), logits.size(1)});
  request.tensors["labels"] = labels;
  request.tensors["cotangent"] = at::full(labels.sizes(), 0.5, at::kDouble);
  const auto got = probe(request);
  for (int64_t b = 0; b < labels.size(0); ++b) {
    for (int64_t s = 0; s < labels.size(1); ++s) {
      const at::Tensor row = logits[b][s];
      const double want =
          (at::logsumexp(row, 0) - row[labels[b][s].item<int64_t>()]).item<double>();
      EXPECT_NEAR(got.at("out")[b][s].item<double>(), want, 1e-12);
    }
  }
  EXPECT_TRUE(got.contains("grad.decoder.final_layernorm.weight"));
  request.tensors["labels"] = labels - 1;
  EXPECT_THAT(error_of<ShapeError>(request), testing::HasSubstr("labels: allowed int64"));
}

/// A window replaces the mask of every layer there, so it may look ahead; here it does not.
TEST(MegatronProbe, AWindowOfAModelLooksAheadAsUpstream) {
  ProbeRequest request = request_of({"gpt_model", "gpt_scalar_base"});
  request.tensors.erase("cotangent");
  Json config = Json::parse(request.metadata.at("config"));
  const auto with = [&](const Json& window) {
    config["window_size"] = window;
    request.config = config;
    return probe(request).at("out");
  };
  const at::Tensor causal = with({3, 0}), ahead = with({3, 2}), open = with({-1, -1});
  EXPECT_GT((causal - ahead).abs().max().item<double>(), 1e-6);
  config["window_size"] = nullptr;
  request.config = config;
  request.metadata["mask"] = "no_mask";
  EXPECT_LE((probe(request).at("out") - open).abs().max().item<double>(), 1e-12);
}

TEST(MegatronProbe, ABiasOfTheScoresGetsItsGradient) {
  ProbeRequest request = request_of({"self_attention", "attn_gqa_rope_nobias"});
  const int64_t length = request.tensors.at("hidden_states").size(0);
  const auto plain = probe(request);
  request.tensors["attention_bias"] = at::zeros({1, 1, length, length}, at::kDouble);
  const auto got = probe(request);
  EXPECT_LE((got.at("out") - plain.at("out")).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(got.at("grad_in.attention_bias").sizes(), at::IntArrayRef({1, 1, length, length}));
  // Softmax does not change when a constant is added to a row of scores.
  EXPECT_LE(got.at("grad_in.attention_bias").sum(-1).abs().max().item<double>(), 1e-11);
}

}  // namespace
}  // namespace headway::engine
