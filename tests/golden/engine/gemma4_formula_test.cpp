// Gemma 4 against numbers of an independent script in float64 whose weights follow a formula:
// per-layer embeddings with shared keys, experts with one projection for keys and values, and all
// of it at once. Source: spec gemma4.md §1.13. Not for: checkpoints (hf_model_test.cpp).
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/io/hf/family.h"
#include "headway/io/tensor_layout.h"
#include "headway/nn/transformer.h"
#include "headway/spec/kv_sharing.h"

namespace headway::engine {
namespace {

struct Gradient {
  const char* name;
  int64_t element;
  double value;
};

struct Expected {
  const char* name;
  Json changes;  // of the common config
  int64_t tensors;
  int64_t values;
  std::vector<double> rms;  // of the stream after every layer
  double loss;
  std::vector<double> last_logits;
  std::vector<Gradient> gradients;
};

Json common_config() {
  return {
      {"model_type", "gemma4_text"},
      {"vocab_size", 11},
      {"hidden_size", 8},
      {"num_hidden_layers", 4},
      {"layer_types",
       {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}},
      {"num_attention_heads", 2},
      {"num_key_value_heads", 2},
      {"head_dim", 4},
      {"global_head_dim", 8},
      {"sliding_window", 3},
      {"intermediate_size", 6},
      {"final_logit_softcapping", 5.0},
      {"rms_norm_eps", 1e-6},
      {"hidden_size_per_layer_input", 0},
      {"rope_parameters",
       {{"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}},
        {"full_attention",
         {{"rope_type", "proportional"}, {"rope_theta", 1e6}, {"partial_rotary_factor", 0.5}}}}}};
}

/// Names on disk in the order that counts the formula's t.
std::vector<std::string> ordered_names(const spec::ModelSpec& spec) {
  std::vector<std::string> names = {"embed_tokens.weight"};
  const auto add = [&names](const std::string& prefix, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) names.push_back(prefix + part);
  };
  const bool has_table = spec.per_layer_embedding.has_value();
  if (has_table) {
    add("", {"embed_tokens_per_layer.weight", "per_layer_model_projection.weight",
             "per_layer_projection_norm.weight"});
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    const spec::AttentionSpec& attention = *spec::attention_of(spec.layers[i]);
    add(layer, {"input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.q_norm.weight"});
    if (!attention.kv_source) {
      add(layer, {"self_attn.k_proj.weight"});
      if (!attention.shared_key_value) add(layer, {"self_attn.v_proj.weight"});
      add(layer, {"self_attn.k_norm.weight"});
    }
    add(layer, {"self_attn.o_proj.weight", "post_attention_layernorm.weight",
                "pre_feedforward_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
                "mlp.down_proj.weight"});
    if (spec::moe_of(spec.layers[i]) != nullptr) {
      add(layer,
          {"router.proj.weight", "router.scale", "router.per_expert_scale", "experts.gate_up_proj",
           "experts.down_proj", "post_feedforward_layernorm_1.weight",
           "pre_feedforward_layernorm_2.weight", "post_feedforward_layernorm_2.weight"});
    }
    add(layer, {"post_feedforward_layernorm.weight"});
    if (has_table) {
      add(layer, {"per_layer_input_gate.weight", "per_layer_projection.weight",
                  "post_per_layer_input_norm.weight"});
    }
    add(layer, {"layer_scalar"});
  }
  names.emplace_back("norm.weight");
  return names;
}

at::Tensor formula(const std::string& name, int64_t t, const io::Shape& shape) {
  at::Tensor values = at::empty(shape, at::kDouble);
  if (name.ends_with("layer_scalar")) {
    const int layer = name[name.find("layers.") + 7] - '0';
    return values.fill_(0.9 + 0.05 * layer);
  }
  double* out = values.data_ptr<double>();
  for (int64_t j = 0; j < values.numel(); ++j) {
    const double f = std::sin(0.7 * static_cast<double>(j + 1) + 1.3 * static_cast<double>(t));
    out[j] = shape.size() > 1 ? 0.4 * f : 1.0 + 0.1 * f;
  }
  return values;
}

class Gemma4Formula : public testing::TestWithParam<Expected> {
 protected:
  void SetUp() override {
    Json config = common_config();
    config.update(GetParam().changes);
    const io::Family& family = io::find_family("gemma4_text");
    spec::ModelSpec spec = io::read_config(family, config, "config.json").spec;
    spec.embedding.scale_rounding = spec::ScaleRounding::kExact;
    if (spec.per_layer_embedding) {
      spec.per_layer_embedding->scale_rounding = spec::ScaleRounding::kExact;
    }
    spec.rope_precision = spec::RopePrecision::kModelDtype;
    const auto names = ordered_names(spec);
    EXPECT_EQ(static_cast<int64_t>(names.size()), GetParam().tensors);
    model_ = std::make_unique<nn::Transformer>(spec, at::kDouble);
    bindings_ = io::layout(spec, family);
    int64_t values = 0;
    const at::NoGradGuard no_grad;
    for (const io::Binding& binding : bindings_) {
      const std::string name = binding.disk.front().name.substr(std::string("model.").size());
      const auto place = std::ranges::find(names, name);
      ASSERT_NE(place, names.end()) << name;
      const at::Tensor disk = formula(name, place - names.begin(), binding.disk.front().shape);
      values += disk.numel();
      std::vector<io::Shape> shapes;
      for (const auto& native : binding.native) shapes.push_back(native.shape);
      const auto natives = binding.transform->to_native({disk}, shapes);
      for (size_t i = 0; i < natives.size(); ++i) rows(binding.native[i], false).copy_(natives[i]);
    }
    EXPECT_EQ(values, GetParam().values);
  }

  at::Tensor rows(const io::NativeTensor& native, bool gradient) const {
    const at::Tensor& parameter = model_->parameters().get(native.parameter);
    const at::Tensor whole = gradient ? parameter.grad() : parameter.detach();
    return whole.narrow(0, native.begin, native.shape.front());
  }

  double gradient(const std::string& name, int64_t element) const {
    for (const io::Binding& binding : bindings_) {
      if (binding.disk.front().name != "model." + name) continue;
      std::vector<at::Tensor> natives;
      for (const auto& native : binding.native) natives.push_back(rows(native, true));
      return binding.transform->to_disk(natives)[0].flatten()[element].item<double>();
    }
    ADD_FAILURE() << name;
    return 0;
  }

  std::unique_ptr<nn::Transformer> model_;
  std::vector<io::Binding> bindings_;
};

TEST_P(Gemma4Formula, StreamLogitsLossAndGradients) {
  const Expected& want = GetParam();
  const at::Tensor ids = at::tensor({3, 1, 4, 1, 5, 9}, at::kLong);
  const at::Tensor labels = at::tensor({1, 4, 1, 5, 9, -100}, at::kLong);
  std::vector<at::Tensor> hidden;
  nn::ForwardOptions options;
  options.hidden = &hidden;
  const at::Tensor h = model_->forward(ids, ops::equal_sequences(1, 6), options);
  constexpr double kTolerance = 2e-9;
  for (size_t i = 0; i < want.rms.size(); ++i) {
    EXPECT_NEAR(hidden[i].square().mean().sqrt().item<double>(), want.rms[i], kTolerance) << i;
  }
  const at::Tensor logits = model_->logits(h)[5];
  for (size_t v = 0; v < want.last_logits.size(); ++v) {
    EXPECT_NEAR(logits[static_cast<int64_t>(v)].item<double>(), want.last_logits[v], kTolerance);
  }
  const at::Tensor loss = model_->loss(h, labels).loss;
  EXPECT_NEAR(loss.item<double>(), want.loss, kTolerance);
  loss.backward();
  for (const Gradient& one : want.gradients) {
    EXPECT_NEAR(gradient(one.name, one.element), one.value, 1e-9) << one.name;
  }
}

std::vector<Expected> cases() {
  const Json table = {{"hidden_size_per_layer_input", 3},
                      {"vocab_size_per_layer_input", 11},
                      {"num_kv_shared_layers", 2},
                      {"use_double_wide_mlp", true}};
  const Json experts = {{"attention_k_eq_v", true}, {"num_global_key_value_heads", 1},
                        {"enable_moe_block", true}, {"num_experts", 3},
                        {"top_k_experts", 2},       {"moe_intermediate_size", 5}};
  Json all = table;
  all.update(experts);
  // Element 8 of an [11,8] matrix is [1,0]; of the table [11,12] it is 12.
  return {{"table",
           table,
           67,
           2735,
           {1.642485688, 2.240043946, 2.069897040, 2.854906768},
           3.026919146469,
           {.602994694, .627055327, .371165483, -.053584477, -.453717736, -.648457978, -.554284014,
            -.211059420, .228835877, .563977434, .645916523},
           {{"embed_tokens.weight", 8, -.0585178061},
            {"embed_tokens_per_layer.weight", 12, -.0277821247},
            {"per_layer_model_projection.weight", 0, .1064119391},
            {"per_layer_projection_norm.weight", 0, .0199676685},
            {"layers.0.self_attn.k_proj.weight", 0, .0227018917},
            {"layers.0.self_attn.v_proj.weight", 0, .0181529068},
            {"layers.1.self_attn.k_proj.weight", 0, -.0337274091},
            {"layers.1.self_attn.v_proj.weight", 0, -.0755814715},
            {"layers.1.self_attn.k_norm.weight", 0, .0084596752},
            {"layers.2.self_attn.q_proj.weight", 0, -.0066362585},
            {"layers.3.mlp.down_proj.weight", 0, -.0658267442},
            {"layers.2.per_layer_input_gate.weight", 0, .0092281256}}},
          {"experts",
           experts,
           88,
           3680,
           {1.583739704, 1.976850982, 3.005731014, 3.538202200},
           2.975642370792,
           {-.007528879, -1.022056617, -1.547956779, -1.406876848, -.638766733, .448412236,
            1.308531560, 1.573191714, 1.164441363, .211410236, -.849759154},
           {{"embed_tokens.weight", 8, .4146060352},
            {"layers.1.self_attn.k_proj.weight", 0, -.0149603671},
            {"layers.1.self_attn.k_norm.weight", 0, -.0029302292},
            {"layers.0.router.proj.weight", 0, -.0023051832},
            {"layers.0.router.scale", 0, -.0008707008},
            {"layers.0.router.per_expert_scale", 0, .0064576476},
            {"layers.0.experts.gate_up_proj", 0, .0018262729},
            {"layers.0.experts.down_proj", 0, -.0025843564},
            {"layers.2.mlp.gate_proj.weight", 0, .0007548015},
            {"layers.2.post_feedforward_layernorm_1.weight", 0, -.0063397517}}},
          {"all",
           all,
           98,
           4219,
           {1.894842028, 1.976253204, 2.436232081, 3.669471291},
           3.087361001640,
           {.388123542, .077624268, -.268233023, -.492493040, -.496276395, -.277951073, .066328239,
            .380391344, .522928060, .431900465, .146718844},
           {}}};
}

INSTANTIATE_TEST_SUITE_P(Cases, Gemma4Formula, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace headway::engine
