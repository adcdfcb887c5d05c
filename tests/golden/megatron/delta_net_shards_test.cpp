// Gated DeltaNet on two tensor-parallel ranks, as recorded from Megatron-LM: every row segment is
// split by itself, each rank runs the mixer of its heads, and the ranks' outputs add up.
// Not for: transport between ranks.
#include <filesystem>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/megatron_layout.h"
#include "headway/io/safetensors_file.h"
#include "headway/nn/gated_delta_net.h"
#include "headway/spec/megatron.h"
#include "headway/spec/tensor_inventory.h"

#include "tests/support/temp_folder.h"
#include "tests/support/tensors.h"

namespace headway::nn {
namespace {

constexpr const char* kMixer = "layers.0.mixer.";
constexpr int64_t kRanks = 2;

/// Rank's part of a parameter: its share of every segment, or of the columns.
at::Tensor shard(const at::Tensor& whole, const spec::TensorSpec& tensor, int64_t rank) {
  if (tensor.shard == spec::ShardAxis::kNone) return whole;
  if (tensor.shard == spec::ShardAxis::kColumns) {
    const int64_t columns = whole.size(1) / kRanks;
    return whole.narrow(1, rank * columns, columns);
  }
  std::vector<at::Tensor> parts;
  for (const spec::RowSegment& segment : tensor.segments) {
    const int64_t rows = segment.rows / kRanks;
    parts.push_back(whole.narrow(0, segment.begin + rank * rows, rows));
  }
  return at::cat(parts);
}

class DeltaNetShards : public testing::Test {
 protected:
  DeltaNetShards()
      : recorded_(io::load_safetensors(file())),
        model_(make_model(io::SafetensorsFile(file()).header().metadata.at("config"))) {}

  static std::filesystem::path file() {
    return std::filesystem::path(HEADWAY_TESTS_DIR) / "golden/megatron/tp2_gdn.safetensors";
  }
  static spec::ModelSpec make_model(const std::string& config) {
    Json arguments = Json::parse(config);
    arguments.erase("linear_cp_mode");
    arguments["num_layers"] = 1;
    arguments["vocab_size"] = 1;
    arguments["experimental_attention_variant"] = "gated_delta_net";
    arguments["linear_attention_freq"] = Json::array({1});
    return spec::from_megatron(arguments);
  }

  std::string file_name(const std::string& parameter) const {
    return io::megatron_name(parameter, {.linear = true})
        .substr(std::string("decoder.layers.0.self_attention.").size());
  }
  /// The norm in front of the mixer, which Megatron fuses into in_proj.
  at::Tensor normed() const {
    const at::Tensor x = recorded_.at("hidden_states").transpose(0, 1).flatten(0, 1);
    return x * (x.square().mean(-1, true) + 1e-6).rsqrt() *
           recorded_.at("param.in_proj.layer_norm_weight");
  }

  std::map<std::string, at::Tensor> recorded_;
  spec::ModelSpec model_;
};

TEST_F(DeltaNetShards, SegmentsSplitByThemselvesAndOutputsAddUp) {
  const at::Tensor x_TD = normed();
  const at::Tensor cotangent = recorded_.at("cotangent").transpose(0, 1).flatten(0, 1);
  at::Tensor total;
  for (int64_t rank = 0; rank < kRanks; ++rank) {
    const std::string prefix = "rank" + std::to_string(rank) + ".";
    spec::ModelSpec local = model_;
    auto& mixer = std::get<spec::GatedDeltaNetSpec>(local.layers[0].mixer);
    mixer = spec::delta_shard(mixer, kRanks);
    Parameters parameters(local, at::kDouble, at::kCPU);
    size_t copied = 0;
    for (const spec::TensorSpec& tensor : spec::layer_tensors(model_, 0)) {
      if (!tensor.name.starts_with(kMixer)) continue;
      SCOPED_TRACE(tensor.name);
      const at::Tensor part = shard(recorded_.at("param." + file_name(tensor.name)), tensor, rank);
      EXPECT_TRUE(test::same_bits(part, recorded_.at(prefix + "param." + file_name(tensor.name))));
      const at::NoGradGuard no_grad;
      parameters.get(tensor.name).copy_(part);
      ++copied;
    }
    EXPECT_EQ(copied, 6u);
    const GatedDeltaNet module(mixer, ParameterScope(parameters, kMixer));
    const at::Tensor out = module.forward({x_TD, ops::equal_sequences(2, 14)}).out_TD;
    out.backward(cotangent);
    total = total.defined() ? total + out.detach() : out.detach();
    for (const spec::TensorSpec& tensor : parameters.specs()) {
      if (!tensor.name.starts_with(kMixer)) continue;
      SCOPED_TRACE(tensor.name);
      EXPECT_TRUE(test::close(parameters.get(tensor.name).grad(),
                              recorded_.at(prefix + "grad." + file_name(tensor.name)), 1e-10));
    }
  }
  EXPECT_TRUE(test::close(total, recorded_.at("out").transpose(0, 1).flatten(0, 1), 1e-10));
}

TEST_F(DeltaNetShards, HeadsMustBeDivisible) {
  const auto& mixer = std::get<spec::GatedDeltaNetSpec>(model_.layers[0].mixer);
  const std::string text =
      testing_support::message_of<ConfigError>([&] { spec::delta_shard(mixer, 3); });
  EXPECT_NE(text.find("num_key_heads (= 2)"), std::string::npos) << text;
}

}  // namespace
}  // namespace headway::nn
