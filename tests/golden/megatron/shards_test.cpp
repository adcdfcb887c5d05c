// Tensor-parallel runs recorded from Megatron-LM: our cuts give its ranks' tensors, its ranks'
// tensors give the whole attention, and every rank computes its part of the whole result.
// Not for: communication (there is none here).
#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/base/json.h"
#include "headway/engine/probe.h"
#include "headway/io/megatron_shards.h"
#include "headway/io/safetensors_file.h"

namespace headway::engine {
namespace {

using io::AttentionTensors;

struct Recorded {
  std::map<std::string, std::string> metadata;
  std::map<std::string, at::Tensor> tensors;
  Json config;
  io::QkvHeads heads;
  int64_t ranks = 0;

  /// Tensors whose names begin with `prefix`, without it.
  AttentionTensors below(const std::string& prefix) const {
    AttentionTensors found;
    for (const auto& [name, tensor] : tensors) {
      if (name.starts_with(prefix)) found[name.substr(prefix.size())] = tensor;
    }
    return found;
  }

  std::vector<AttentionTensors> of_ranks(const std::string& kind) const {
    std::vector<AttentionTensors> shards;
    for (int64_t t = 0; t < ranks; ++t) {
      shards.push_back(below("rank" + std::to_string(t) + "." + kind));
    }
    return shards;
  }
};

Recorded read(const std::string& file) {
  const auto path =
      std::filesystem::path(HEADWAY_TESTS_DIR) / "golden" / "megatron" / (file + ".safetensors");
  Recorded r;
  r.metadata = io::SafetensorsFile(path).header().metadata;
  for (const auto& [name, tensor] : io::load_safetensors(path)) r.tensors[name] = tensor;
  r.config = Json::parse(r.metadata.at("config"));
  r.heads.num_heads = r.config["num_attention_heads"].get<int64_t>();
  r.heads.num_kv_heads = r.config["num_query_groups"].get<int64_t>();
  r.heads.head_dim = r.config["kv_channels"].get<int64_t>();
  if (r.config.value("head_wise_attn_gate", false)) r.heads.gate = spec::GateKind::kHeadWise;
  if (r.config.value("attention_output_gate", false)) {
    r.heads.gate = spec::GateKind::kElementWise;
  }
  r.ranks = std::stoll(r.metadata.at("tensor_parallel_size"));
  return r;
}

std::map<std::string, at::Tensor> run(const Recorded& r, const Json& config,
                                      const AttentionTensors& parameters) {
  ProbeRequest request;
  request.module = "self_attention";
  request.metadata = {{"mask", r.metadata.at("mask")}};
  request.config = config;
  for (const char* name : {"hidden_states", "cotangent", "rotary_pos_emb"}) {
    request.tensors[name] = r.tensors.at(name);
  }
  for (const auto& [name, tensor] : parameters) request.tensors["param." + name] = tensor;
  return probe(request);
}

void expect_close(const std::string& name, const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes()) << name;
  const double scale = std::max(1e-3, want.abs().max().item<double>());
  EXPECT_LE((got - want).abs().max().item<double>(), 1e-12 * scale) << name;
}

class MegatronRanks : public testing::TestWithParam<const char*> {};

TEST_P(MegatronRanks, CutsAreTheRecordedOnes) {
  const Recorded r = read(GetParam());
  const AttentionTensors whole = r.below("param.");
  const auto shards = r.of_ranks("param.");
  ASSERT_GT(r.ranks, 1);
  for (int64_t t = 0; t < r.ranks; ++t) {
    const AttentionTensors cut = io::attention_shard(whole, r.heads, {r.ranks, t});
    ASSERT_EQ(cut.size(), shards[t].size());
    for (const auto& [name, tensor] : shards[t]) {
      EXPECT_TRUE(at::equal(cut.at(name), tensor)) << name << " of rank " << t;
    }
  }
  const AttentionTensors joined = io::attention_whole(shards, r.heads);
  ASSERT_EQ(joined.size(), whole.size());
  for (const auto& [name, tensor] : whole) EXPECT_TRUE(at::equal(joined.at(name), tensor)) << name;
}

TEST_P(MegatronRanks, JoinedShardsComputeTheWholeResult) {
  const Recorded r = read(GetParam());
  const auto got = run(r, r.config, io::attention_whole(r.of_ranks("param."), r.heads));
  expect_close("out", got.at("out"), r.tensors.at("out"));
  expect_close("grad_in", got.at("grad_in"), r.tensors.at("grad_in"));
  for (const auto& [name, tensor] : r.below("grad.")) {
    expect_close(name, got.at("grad." + name), tensor);
  }
}

/// Gradients of what is cut join like the tensors; those of the shared norms add up.
TEST_P(MegatronRanks, GradientsOfRanksJoin) {
  const Recorded r = read(GetParam());
  auto shards = r.of_ranks("grad.");
  AttentionTensors sums;
  for (AttentionTensors& shard : shards) {
    for (const char* name : {"q_layernorm.weight", "k_layernorm.weight"}) {
      const auto found = shard.extract(name);
      if (!found) continue;
      sums[name] = sums.contains(name) ? sums[name] + found.mapped() : found.mapped();
    }
  }
  AttentionTensors joined = io::attention_whole(shards, r.heads);
  joined.merge(sums);
  const AttentionTensors want = r.below("grad.");
  ASSERT_EQ(joined.size(), want.size());
  for (const auto& [name, tensor] : want) expect_close(name, joined.at(name), tensor);
}

/// What rank `t` holds as a matrix of its own: its query heads and gates, and the group they read,
/// which with fewer groups than ranks comes out of the gathered projections (§1.6).
at::Tensor own_rows(const Recorded& r, const at::Tensor& whole, int64_t t) {
  const int64_t local = r.heads.num_heads / r.ranks;
  const int64_t groups = std::max<int64_t>(1, r.heads.num_kv_heads / r.ranks);
  const int64_t first_group = t * r.heads.num_kv_heads / r.ranks;
  std::vector<at::Tensor> rows;
  for (const io::QkvRowSegment& segment : io::qkv_row_segments(r.heads)) {
    const bool keys = segment.part == io::QkvPart::kKey || segment.part == io::QkvPart::kValue;
    const int64_t first = keys ? first_group : t * local;
    if (segment.head < first || segment.head >= first + (keys ? groups : local)) continue;
    rows.push_back(whole.narrow(0, segment.begin, segment.rows));
  }
  return at::cat(rows);
}

TEST_P(MegatronRanks, PartsOfRanksAddUpToTheWhole) {
  const Recorded r = read(GetParam());
  const auto shards = r.of_ranks("param.");
  const AttentionTensors whole = io::attention_whole(shards, r.heads);
  Json config = r.config;
  config["num_attention_heads"] = r.heads.num_heads / r.ranks;
  config["num_query_groups"] = std::max<int64_t>(1, r.heads.num_kv_heads / r.ranks);
  at::Tensor out = at::zeros_like(r.tensors.at("out"));
  at::Tensor grad_in = at::zeros_like(r.tensors.at("grad_in"));
  for (int64_t t = 0; t < r.ranks; ++t) {
    AttentionTensors parameters = shards[t];
    for (const char* name : {"linear_qkv.weight", "linear_qkv.bias"}) {
      if (!parameters.contains(name)) continue;
      const at::Tensor own = own_rows(r, whole.at(name), t);
      // With whole groups a rank's tensor already is that matrix.
      if (r.heads.num_kv_heads >= r.ranks) {
        EXPECT_TRUE(at::equal(own, parameters[name])) << name;
      }
      parameters[name] = own;
    }
    const auto part = run(r, config, parameters);
    out += part.at("out");
    grad_in += part.at("grad_in");
    const auto recorded = r.of_ranks("grad.")[t];
    expect_close("linear_proj.weight", part.at("grad.linear_proj.weight"),
                 recorded.at("linear_proj.weight"));
    if (recorded.contains("core_attention.softmax_offset")) {
      expect_close("sinks", part.at("grad.core_attention.softmax_offset"),
                   recorded.at("core_attention.softmax_offset"));
    }
  }
  expect_close("out", out, r.tensors.at("out"));
  expect_close("grad_in", grad_in, r.tensors.at("grad_in"));
}

INSTANTIATE_TEST_SUITE_P(All, MegatronRanks,
                         testing::Values("tp2_head_gate_gqa", "tp2_output_gate_sp", "tp2_sink",
                                         "tp4_g2_output_gate", "tp4_g2_plain"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace headway::engine
