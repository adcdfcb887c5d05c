// Families with mixtures of experts: keys, layouts on disk, and what they cannot hold.
#include <functional>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/io/hf/moe_family.h"
#include "headway/io/safetensors_writer.h"
#include "headway/io/shards.h"
#include "headway/io/tensor_layout.h"

#include "tests/support/io_files.h"
#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::TempFolder;

Json golden(const std::string& name) {
  return parse_json_file(std::string(HEADWAY_TESTS_DIR) + "/golden/hf/" + name + "/config.json");
}

std::vector<bool> sparse(const Json& config) {
  std::vector<bool> layers;
  for (const auto& layer : read_spec(config).layers) {
    layers.push_back(spec::moe_of(layer) != nullptr);
  }
  return layers;
}

TEST(Qwen3Moe, StepAndListChooseTheLayers) {
  Json config = golden("qwen3_moe_mixed");
  EXPECT_THAT(sparse(config), ElementsAre(false, true, false, false, false, true));
  config["mlp_only_layers"] = Json::array();
  EXPECT_THAT(sparse(config), ElementsAre(false, true, false, true, false, true));
  config["decoder_sparse_step"] = 3;
  EXPECT_THAT(sparse(config), ElementsAre(false, false, true, false, false, true));
  config["num_local_experts"] = 0;
  EXPECT_THAT(sparse(config), testing::Each(false));
}

TEST(Qwen3Moe, NormalisationIsAKey) {
  Json config = golden("qwen3_moe_mixed");
  EXPECT_TRUE(first_moe(read_spec(config))->router.normalize);
  config.erase("norm_topk_prob");
  EXPECT_FALSE(first_moe(read_spec(config))->router.normalize);
}

TEST(MiniMaxM2, RotaryDimensionsAreAFraction) {
  Json config = golden("minimax_m2");
  config.erase("rope_parameters");
  config["rope_theta"] = 5e4;
  config["rotary_dim"] = 4;
  const spec::ModelSpec spec = read_spec(config);
  const auto& attention = std::get<spec::AttentionSpec>(spec.layers[0].mixer);
  EXPECT_NEAR(attention.rope->fraction, 4.0 / 12.0, 1e-15);
  EXPECT_EQ(attention.rope->base, 5e4);
  EXPECT_TRUE(attention.qk_norm_across_heads);
}

TEST(MoeFamilies, OthersSayThatTheyHaveNoExperts) {
  const spec::ModelSpec spec = read_spec(golden("qwen3_moe_mixed"));
  for (const char* family : {"llama", "qwen3", "mistral"}) {
    EXPECT_THAT(reasons_against(find_family(family), spec),
                ElementsAre("layers 1, 5: a mixture of experts"));
  }
  EXPECT_THAT(reasons_against(qwen3_moe_family(), spec), IsEmpty());
}

TEST(MoeFamilies, EveryFeatureOfAMixtureIsSeen) {
  using Change = std::function<void(spec::MoeSpec&)>;
  const std::vector<Change> changes = {
      [](auto& m) { m.router.score = spec::RouterScore::kSqrtSoftplus; },
      [](auto& m) { m.router.bias = true; },
      [](auto& m) { m.router.num_groups = 2; },
      [](auto& m) { m.bias = true; },
      [](auto& m) {
        m.capacity = spec::CapacitySpec{1.0, {}};
      },
      [](auto& m) { m.latent_size = 4; },
      [](auto& m) { m.weight_input = true; },
      [](auto& m) { m.gated = false; },
      [](auto& m) { m.activation = spec::Activation::kRelu; },
      [](auto& m) { m.intermediate_size += 1; },
      [](auto& m) { m.router.expert_bias = !m.router.expert_bias; },
      [](auto& m) {
        if (m.shared) {
          m.shared->gate = true;
        } else {
          m.shared = spec::SharedExpertSpec{8, false, {}};
        }
      },
  };
  for (const char* name : {"qwen3_moe_mixed", "minimax_m2", "step3p5_moe"}) {
    const spec::ModelSpec sound = read_spec(golden(name));
    const Family& family = find_family(golden(name)["model_type"].get<std::string>());
    EXPECT_THAT(reasons_against(family, sound), IsEmpty());
    size_t last = sound.layers.size();
    while (spec::moe_of(sound.layers[last - 1]) == nullptr) --last;
    for (size_t i = 0; i < changes.size(); ++i) {
      spec::ModelSpec spec = sound;
      changes[i](std::get<spec::MoeSpec>(spec.layers[last - 1].mlp));
      EXPECT_FALSE(reasons_against(family, spec).empty()) << name << " change " << i;
    }
    spec::ModelSpec trained = sound;
    auto& router = std::get<spec::MoeSpec>(trained.layers[last - 1].mlp).router;
    router.losses = {{spec::BalanceKind::kBatch, 0.1}};
    router.z_loss = 0.1;
    EXPECT_THAT(reasons_against(family, trained), IsEmpty()) << name;
  }
}

/// Native tensors of a model, every one with other values.
std::map<std::string, at::Tensor> natives_of(const spec::ModelSpec& spec) {
  std::map<std::string, at::Tensor> tensors;
  double next = 0;
  for (const spec::TensorSpec& tensor : spec::tensors(spec)) {
    for (const spec::RowSegment& segment : tensor.segments) {
      const auto shape = tensor.segment_shape(segment);
      tensors[segment.disk_name] = at::full(shape, next += 0.5);
    }
  }
  return tensors;
}

/// Writes `tensors` as a rule set lays them out, reads them back through the family's own rules.
void expect_read_back(const std::string& name, const std::vector<Rule>& layout_rules) {
  static std::vector<Rule> chosen;
  chosen = layout_rules;
  const Json config = golden(name);
  const spec::ModelSpec spec = read_spec(config);
  const Family& family = find_family(config["model_type"].get<std::string>());
  Family writer = family;
  writer.rules = [](const spec::ModelSpec&) { return chosen; };
  const auto tensors = natives_of(spec);
  const auto bindings = layout(spec, writer);
  const TempFolder temp;
  std::filesystem::create_directory(temp / "m");
  const DiskTable table = disk_table(
      bindings, [](const std::string&) { return Dtype::kF32; },
      [&](const std::string& tensor) { return tensors.at(tensor); });
  write_shards(temp / "m", table.infos, table.provider);
  const TensorSource source = TensorSource::open(temp / "m");
  const auto read = layout(spec, family, &source);
  const Account held = account(read, spec, family, source, {});
  const NativeReader reader(source, held.present);
  for (const auto& [tensor, want] : tensors) {
    EXPECT_TRUE(at::equal(reader.read(tensor), want)) << tensor;
  }
}

TEST(MoeFamilies, FusedStacksAreRead) {
  auto rules = fused_expert_rules("model.layers.{}.mlp.experts");
  for (Rule& rule : rules) std::get<MapRule>(rule).alternative = false;
  expect_read_back("qwen3_moe_mixed", rules);
}

TEST(MoeFamilies, StepReadsSingleExperts) {
  const std::vector<Rule> own = step3p5_family().rules(read_spec(golden("step3p5_moe")));
  std::vector<Rule> rules = own;
  for (Rule& rule : rules) {
    auto* map = std::get_if<MapRule>(&rule);
    if (map != nullptr && map->disk[0].find("moe.experts.{}") != std::string::npos) {
      map->alternative = false;
    }
  }
  expect_read_back("step3p5_moe", rules);
  expect_read_back("step3p5_moe", own);
}

TEST(MoeFamilies, StacksHaveOneTensorPerKind) {
  const spec::ModelSpec spec = read_spec(golden("step3p5_moe"));
  size_t stacks = 0;
  for (const Binding& binding : layout(spec, step3p5_family())) {
    if (binding.transform != &kStack) continue;
    EXPECT_EQ(binding.native.size(), 6u);
    EXPECT_EQ(binding.disk.front().shape.size(), 3u);
    ++stacks;
  }
  EXPECT_EQ(stacks, 9u);
}

}  // namespace
}  // namespace headway::io
