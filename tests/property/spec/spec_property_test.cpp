// Random stacks: the inventory tiles, costs add up, JSON keeps everything, layers repeat as the
// pattern says. Not for: numbers (tests/unit/spec).
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/config/load.h"
#include "headway/config/stack.h"
#include "headway/spec/cost.h"
#include "headway/spec/describe.h"
#include "headway/spec/from_config.h"
#include "headway/spec/spec_json.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::spec {
namespace {

using rc::gen::arbitrary;
using rc::gen::element;
using rc::gen::inRange;

config::RopeConfig arbitrary_rope() {
  config::RopeConfig rope;
  rope.kind = *element(RopeKind::kDefault, RopeKind::kLinear, RopeKind::kLlama3, RopeKind::kYarn,
                       RopeKind::kProportional);
  rope.base = *element(1e4, 5e5, 123.0);
  rope.fraction = *element(1.0, 0.5, 0.25);
  if (rope.kind != RopeKind::kDefault) rope.factor = *element(1.0, 4.0, 0.5);
  if (rope.kind != RopeKind::kYarn)
    rope.layout = *element(RopeLayout::kHalf, RopeLayout::kInterleaved);
  return rope;
}

config::AttentionConfig arbitrary_attention() {
  config::AttentionConfig attention;
  const int64_t group = *inRange<int64_t>(1, 5);
  const int64_t kv_heads = *inRange<int64_t>(1, 5);
  attention.num_heads = group * kv_heads;
  attention.num_kv_heads = kv_heads;
  attention.head_dim = 8 * *inRange<int64_t>(1, 5);
  if (*arbitrary<bool>()) attention.v_head_dim = *inRange<int64_t>(1, 40);
  attention.gate.kind = *element(GateKind::kNone, GateKind::kHeadWise, GateKind::kElementWise);
  if (attention.gate.kind != GateKind::kNone) {
    attention.gate.init = *element(GateInit::kNormal, GateInit::kZero, GateInit::kConstant);
  }
  if (*arbitrary<bool>()) attention.window = *inRange<int64_t>(1, 100);
  attention.rope = *arbitrary<bool>() ? std::optional(arbitrary_rope()) : std::nullopt;
  attention.sinks = *element(SinkKind::kNone, SinkKind::kOffByOne, SinkKind::kLearnable);
  attention.qk_norm = *arbitrary<bool>();
  attention.qkv_bias = *arbitrary<bool>();
  attention.output_bias = *arbitrary<bool>();
  return attention;
}

config::BlockConfig arbitrary_block() {
  config::BlockConfig block;
  block.attention = arbitrary_attention();
  config::MlpConfig& mlp = block.mlp.emplace();
  mlp.intermediate_size = *inRange<int64_t>(1, 100);
  mlp.gated = *arbitrary<bool>();
  mlp.bias = *arbitrary<bool>();
  if (mlp.gated && *arbitrary<bool>()) mlp.limit = 7.0;
  block.norms.placement = *element(config::NormPlacement::kPre, config::NormPlacement::kSandwich);
  if (*arbitrary<bool>())
    block.norms.weight = *element(NormWeight::kZeroCentered, NormWeight::kNone);
  block.layer_scalar = *arbitrary<bool>();
  return block;
}

config::ModelConfig arbitrary_model() {
  config::ModelConfig model;
  model.hidden_size = *inRange<int64_t>(1, 80);
  model.tie_embeddings = *arbitrary<bool>();
  const int blocks = *inRange(1, 4);
  for (int i = 0; i < blocks; ++i) {
    const std::string name(1, static_cast<char>('a' + i));
    model.blocks[name] = arbitrary_block();
    for (int copy = *inRange(1, 4); copy > 0; --copy) model.pattern.push_back(name);
  }
  model.num_layers = *inRange<int64_t>(1, 13);
  return model;
}

RC_GTEST_PROP(SpecProperty, LayersFollowThePattern, ()) {
  const config::ModelConfig model = arbitrary_model();
  const ModelSpec spec = resolve(model, 256);
  RC_ASSERT(static_cast<int64_t>(spec.layers.size()) == *model.num_layers);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    RC_ASSERT(spec.layers[i].block == model.pattern[i % model.pattern.size()]);
  }
}

RC_GTEST_PROP(SpecProperty, InventoryTilesAndNamesAreUnique, ()) {
  const ModelSpec spec = resolve(arbitrary_model(), 256);
  std::set<std::string> names;
  std::set<std::string> disk;
  for (const TensorSpec& tensor : tensors(spec)) {
    RC_ASSERT(names.insert(tensor.name).second);
    RC_ASSERT(!tensor.segments.empty());
    int64_t next = 0;
    int64_t numel = 0;
    for (const RowSegment& segment : tensor.segments) {
      RC_ASSERT(segment.begin == next);
      RC_ASSERT(segment.rows > 0);
      RC_ASSERT(disk.insert(segment.disk_name).second);
      RC_ASSERT(!segment.decay || tensor.shape.size() == 2);
      next += segment.rows;
      int64_t part = 1;
      for (const int64_t size : tensor.segment_shape(segment)) part *= size;
      numel += part;
    }
    RC_ASSERT(next == tensor.shape[0]);
    RC_ASSERT(numel == tensor.numel());
  }
}

RC_GTEST_PROP(SpecProperty, CostsAddUp, ()) {
  const ModelSpec spec = resolve(arbitrary_model(), 256);
  CostOptions options;
  options.context = *inRange<int64_t>(1, 300);
  const ModelCost costs = cost(spec, options);
  int64_t parameters = 0;
  for (const TensorSpec& tensor : tensors(spec)) parameters += tensor.numel();
  RC_ASSERT(costs.total.parameters == parameters);
  Cost sum = costs.embedding;
  sum += costs.head;
  for (const Cost& layer : costs.layers) sum += layer;
  RC_ASSERT(sum == costs.total);
  RC_ASSERT(costs.total.attention_flops <= costs.total.decode_attention_flops);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = *attention_of(spec.layers[i]);
    const int64_t seen = std::min(options.context, attention.window.value_or(options.context));
    RC_ASSERT(costs.layers[i].state_bytes(options.context) ==
              seen * attention.num_kv_heads * (attention.head_dim + attention.v_head_dim) * 2);
  }
}

RC_GTEST_PROP(SpecProperty, JsonRoundTripAndDiff, ()) {
  const ModelSpec spec = resolve(arbitrary_model(), 256);
  const ModelSpec again = spec_from_json(parse_json(to_json(spec).dump(), "spec"), "spec");
  RC_ASSERT(again == spec);
  RC_ASSERT(diff(spec, again).empty());
  const ModelSpec other = resolve(arbitrary_model(), 256);
  RC_ASSERT(diff(spec, other).empty() == (spec == other));
}

RC_GTEST_PROP(SpecProperty, ConfigRoundTripGivesTheSameModel, ()) {
  config::RunConfig run;
  run.model = arbitrary_model();
  for (auto& [name, block] : run.model.blocks) {
    const bool used = std::find(run.model.pattern.begin(), run.model.pattern.end(), name) !=
                      run.model.pattern.end();
    RC_ASSERT(used);
  }
  config::LoadOptions look;
  look.needs_training = false;
  const config::RunConfig again = config::parse_run(config::to_yaml(run), "run.yaml", {}, look);
  RC_ASSERT(again == run);
  RC_ASSERT(resolve(again.model, 256) == resolve(run.model, 256));
}

RC_GTEST_PROP(SpecProperty, EqualLayersShareAKind, ()) {
  const ModelSpec spec = resolve(arbitrary_model(), 256);
  const auto kinds = layer_kinds(spec);
  for (size_t i = 0; i < kinds.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      RC_ASSERT((kinds[i] == kinds[j]) == (spec.layers[i] == spec.layers[j]));
  }
}

}  // namespace
}  // namespace headway::spec
