// What recompute and delayed weight gradients cost in time and save in memory, against the plain
// step of the same model in the same run.
#include <cmath>
#include <memory>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/nn/transformer.h"
#include "headway/ops/tensor_memory.h"

#include "cli/bench/harness.h"

namespace headway::cli::bench {
namespace {

constexpr int64_t kTokens = 2048;
constexpr int64_t kVocabulary = 1024;

spec::ModelSpec gated_spec() {
  spec::ModelSpec model;
  model.hidden_size = 256;
  model.max_positions = kTokens;
  model.embedding.vocab_size = kVocabulary;
  model.head.final_norm = spec::NormSpec{};
  for (int i = 0; i < 8; ++i) {
    spec::AttentionSpec attention;
    attention.num_heads = 8;
    attention.num_kv_heads = 2;
    attention.head_dim = attention.v_head_dim = 32;
    attention.scale = 1.0 / std::sqrt(32.0);
    attention.rope = spec::RopeSpec{};
    attention.gate.kind = spec::GateKind::kHeadWise;
    spec::DenseMlpSpec mlp;
    mlp.intermediate_size = 688;
    spec::LayerSpec layer;
    layer.mixer = attention;
    layer.mlp = mlp;
    layer.pre_mixer_norm = layer.pre_mlp_norm = spec::NormSpec{};
    model.layers.push_back(layer);
  }
  return model;
}

/// A model with its tokens; one call is forward and backward.
class Step {
 public:
  Step(const nn::RecomputePlan& plan, bool delay)
      : model_(std::make_shared<nn::Transformer>(gated_spec())),
        ids_(at::randint(kVocabulary, {kTokens}, at::kLong)),
        labels_(at::randint(kVocabulary, {kTokens}, at::kLong)) {
    model_->parameters().initialise(1);
    model_->set_recompute(plan);
    model_->set_delay_wgrad(delay);
  }

  void operator()() const {
    const auto sequences = ops::equal_sequences(1, kTokens);
    model_->loss(model_->forward(ids_, sequences), labels_).loss.backward();
    model_->backward_dw();
    for (const at::Tensor& tensor : model_->parameters().tensors()) tensor.mutable_grad().reset();
  }

  double peak_mib() const {
    ops::TensorMemory memory;
    (*this)();
    memory.start();
    (*this)();
    return static_cast<double>(memory.peak_bytes()) / (1 << 20);
  }

 private:
  std::shared_ptr<nn::Transformer> model_;
  at::Tensor ids_;
  at::Tensor labels_;
};

}  // namespace

std::vector<Case> recompute_cases() {
  nn::RecomputePlan core, norms, mlp, parts, layers, pairs;
  core.core_attention = true;
  norms.norms = true;
  mlp.mlp = true;
  parts.core_attention = parts.norms = parts.mlp = true;
  layers.chunk_layers = 1;
  pairs.chunk_layers = 2;
  layers.first_layers = pairs.first_layers = 8;
  const Step plain({}, false);
  const double all = plain.peak_mib();
  std::vector<Case> cases;
  const auto add = [&](const char* name, const nn::RecomputePlan& plan, bool delay) {
    const Step step(plan, delay);
    Case work;
    work.name = fmt::format("{}: {:.1f} of {:.1f} MiB", name, step.peak_mib(), all);
    work.ours = step;
    work.baseline_name = "plain step";
    work.baseline = plain;
    work.tokens = kTokens;
    cases.push_back(std::move(work));
  };
  add("selective core_attn", core, false);
  add("selective layernorm", norms, false);
  add("selective mlp", mlp, false);
  add("selective core_attn, layernorm, mlp", parts, false);
  add("full, uniform 1", layers, false);
  add("full, uniform 2", pairs, false);
  add("delay_wgrad", {}, true);
  return cases;
}

}  // namespace headway::cli::bench
