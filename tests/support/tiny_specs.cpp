// Small models for tests. Not for: anything measured.
#include "tests/support/tiny_specs.h"

#include <algorithm>
#include <cmath>

#include "headway/spec/kv_sharing.h"

namespace headway::test {
namespace {

spec::AttentionSpec attention(int64_t heads, int64_t kv_heads, int64_t dim) {
  spec::AttentionSpec a;
  a.num_heads = heads;
  a.num_kv_heads = kv_heads;
  a.head_dim = dim;
  a.v_head_dim = dim;
  a.scale = 1.0 / std::sqrt(static_cast<double>(dim));
  a.rope = spec::RopeSpec{};
  return a;
}

spec::ModelSpec model(int64_t hidden, int64_t vocab) {
  spec::ModelSpec m;
  m.hidden_size = hidden;
  m.max_positions = 512;
  m.embedding.vocab_size = vocab;
  m.head.final_norm = spec::NormSpec{};
  m.init.std = 0.2;
  m.init.scale_residual = false;
  return m;
}

spec::DenseMlpSpec gated_mlp(int64_t width) {
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = width;
  return mlp;
}

spec::LayerSpec pre_norm_layer(std::string block, spec::AttentionSpec mixer, spec::DenseMlpSpec mlp,
                               spec::NormSpec norm) {
  spec::LayerSpec layer;
  layer.block = std::move(block);
  layer.mixer = mixer;
  layer.mlp = mlp;
  layer.pre_mixer_norm = norm;
  layer.pre_mlp_norm = norm;
  return layer;
}

}  // namespace

spec::ModelSpec tiny_llama(int64_t layers) {
  spec::ModelSpec m = model(16, 23);
  for (int64_t i = 0; i < layers; ++i) {
    m.layers.push_back(pre_norm_layer("full", attention(4, 2, 6), gated_mlp(20), spec::NormSpec{}));
  }
  return m;
}

spec::ModelSpec tiny_step() {
  spec::ModelSpec m = model(16, 29);
  spec::NormSpec norm;
  norm.weight = spec::NormWeight::kZeroCentered;
  for (int i = 0; i < 4; ++i) {
    const bool full = i % 4 == 0;
    spec::AttentionSpec a = attention(full ? 4 : 6, 2, 8);
    a.gate.kind = spec::GateKind::kHeadWise;
    a.q_norm = a.k_norm = norm;
    if (full) {
      a.rope->kind = spec::RopeKind::kLlama3;
      a.rope->base = 5e4;
      a.rope->fraction = 0.5;
      a.rope->factor = 2.0;
      a.rope->high_freq_factor = 32.0;
      a.rope->original_max_positions = 512;
    } else {
      a.window = 5;
    }
    m.layers.push_back(pre_norm_layer(full ? "full" : "sliding", a, gated_mlp(24), norm));
  }
  std::get<spec::DenseMlpSpec>(m.layers[2].mlp).limit = 0.05;
  m.head.final_norm = norm;
  m.rope_per_layer = true;
  m.embedding.padding_id = 1;
  return m;
}

spec::ModelSpec tiny_gemma() {
  spec::ModelSpec m = model(12, 31);
  m.embedding.scale = std::sqrt(12.0);
  m.head.tied = true;
  m.head.softcap = 4.0;
  for (int i = 0; i < 3; ++i) {
    spec::AttentionSpec a = attention(4, i == 1 ? 1 : 2, 8);
    a.scale = 1.0;
    a.logit_softcap = 3.0;
    a.q_norm = a.k_norm = spec::NormSpec{};
    if (i == 1) {
      a.rope->kind = spec::RopeKind::kProportional;
      a.rope->fraction = 0.5;
    } else {
      a.window = 3;
    }
    spec::DenseMlpSpec mlp = gated_mlp(16);
    mlp.activation = spec::Activation::kGeluTanh;
    spec::LayerSpec layer = pre_norm_layer(i == 1 ? "global" : "local", a, mlp, spec::NormSpec{});
    layer.post_mixer_norm = layer.post_mlp_norm = spec::NormSpec{};
    layer.layer_scalar = true;
    m.layers.push_back(layer);
  }
  return m;
}

spec::ModelSpec tiny_odd() {
  spec::ModelSpec m = model(14, 19);
  spec::NormSpec norm;
  norm.kind = spec::NormKind::kLayer;
  norm.bias = true;
  m.head.final_norm = norm;
  for (int i = 0; i < 3; ++i) {
    spec::AttentionSpec a = attention(3, 3, 6);
    a.v_head_dim = 5;
    a.gate.kind = spec::GateKind::kElementWise;
    a.gate_bias = i == 0;
    a.qkv_bias = i != 2;
    a.output_bias = true;
    a.sinks = i == 0 ? spec::SinkKind::kOffByOne : spec::SinkKind::kLearnable;
    a.rope->layout = spec::RopeLayout::kInterleaved;
    if (i == 1) a.rope.reset();
    if (i == 2) a.dropout = 0.2;
    spec::DenseMlpSpec mlp;
    mlp.intermediate_size = 18;
    mlp.gated = false;
    mlp.activation = spec::Activation::kGelu;
    mlp.bias = true;
    m.layers.push_back(pre_norm_layer("odd", a, mlp, norm));
  }
  return m;
}

spec::ModelSpec tiny_moe() {
  spec::ModelSpec m = model(16, 27);
  spec::MoeSpec softmax;
  softmax.num_experts = 5;
  softmax.top_k = 2;
  softmax.intermediate_size = 12;
  softmax.shared.emplace();
  softmax.shared->intermediate_size = 10;
  softmax.shared->gate = true;
  spec::MoeSpec sigmoid = softmax;
  sigmoid.num_experts = 8;
  sigmoid.top_k = 3;
  sigmoid.limit = 0.3;
  sigmoid.shared->gate = false;
  sigmoid.shared->limit = 0.2;
  sigmoid.router.score = spec::RouterScore::kSigmoid;
  sigmoid.router.num_groups = 4;
  sigmoid.router.kept_groups = 2;
  sigmoid.router.best_of_group = 2;
  sigmoid.router.expert_bias = true;
  sigmoid.router.scale = 2.5;
  spec::MoeSpec latent;
  latent.num_experts = 4;
  latent.top_k = 2;
  latent.intermediate_size = 6;
  latent.activation = spec::Activation::kGelu;
  latent.gated = false;
  latent.bias = true;
  latent.latent_size = 7;
  latent.router.score = spec::RouterScore::kSqrtSoftplus;
  latent.router.normalize = false;
  latent.router.bias = true;
  for (const auto& mlp : {spec::MlpSpec(softmax), spec::MlpSpec(gated_mlp(20)),
                          spec::MlpSpec(sigmoid), spec::MlpSpec(latent)}) {
    m.layers.push_back(pre_norm_layer("layer", attention(4, 2, 6), gated_mlp(1), spec::NormSpec{}));
    m.layers.back().mlp = mlp;
  }
  auto& across = std::get<spec::AttentionSpec>(m.layers[3].mixer);
  across.q_norm = across.k_norm = spec::NormSpec{};
  across.qk_norm_across_heads = true;
  return m;
}

spec::ModelSpec tiny_hybrid() {
  spec::ModelSpec m = model(14, 21);
  spec::NormSpec norm;
  norm.weight = spec::NormWeight::kZeroCentered;
  m.head.final_norm = norm;
  for (int i = 0; i < 4; ++i) {
    spec::AttentionSpec full = attention(4, 2, 8);
    full.gate.kind = spec::GateKind::kElementWise;
    full.rope->fraction = 0.5;
    m.layers.push_back(pre_norm_layer("full", full, gated_mlp(12), norm));
    if (i == 2) continue;
    spec::GatedDeltaNetSpec linear;
    linear.num_key_heads = i == 3 ? 3 : 2;
    linear.num_value_heads = i == 0 ? 4 : linear.num_key_heads;
    linear.key_head_dim = 4;
    linear.value_head_dim = i == 1 ? 7 : 4;
    linear.conv_size = i == 1 ? 3 : 4;
    linear.conv_bias = i == 1;
    linear.negative_eigenvalues = i == 1;
    if (i == 1) linear.gate = spec::DeltaGate::kSigmoid;
    if (i == 3) {
      linear.conv_activation = spec::Activation::kGelu;
      linear.gate = spec::DeltaGate::kGelu;
      linear.decay_rank = 3;
      linear.gate_rank = 5;
      linear.norm.weight = spec::NormWeight::kZeroCentered;
    }
    m.layers.back().block = "linear";
    m.layers.back().mixer = linear;
  }
  return m;
}

spec::ModelSpec tiny_mtp() {
  spec::ModelSpec m = tiny_step();
  spec::MtpSpec& mtp = m.mtp.emplace();
  const spec::LayerSpec* windowed = &m.layers.front();
  for (const spec::LayerSpec& layer : m.layers) {
    if (std::get<spec::AttentionSpec>(layer.mixer).window) windowed = &layer;
  }
  mtp.layers = {*windowed, m.layers.front()};
  mtp.embedding_norm = mtp.hidden_norm = mtp.final_norm = m.head.final_norm;
  mtp.own_head = true;
  mtp.loss_scale = 0.3;
  return m;
}

namespace {

spec::LatentAttentionSpec latent_attention(std::optional<int64_t> q_rank) {
  spec::LatentAttentionSpec mixer;
  mixer.num_heads = 3;
  mixer.q_lora_rank = q_rank;
  mixer.kv_lora_rank = 8;
  mixer.nope_head_dim = 6;
  mixer.rope_head_dim = 4;
  mixer.v_head_dim = 5;
  mixer.rope->layout = spec::RopeLayout::kInterleaved;
  return mixer;
}

}  // namespace

spec::ModelSpec tiny_latent() {
  spec::ModelSpec m = tiny_llama(3);
  m.layers[0].mixer = latent_attention(std::nullopt);
  spec::LatentAttentionSpec yarn = latent_attention(10);
  yarn.rope->kind = spec::RopeKind::kYarn;
  yarn.rope->factor = 4.0;
  yarn.rope->original_max_positions = 64;
  yarn.rope->mscale = 1.0;
  yarn.rope->mscale_all_dim = 0.7;
  yarn.latent_bias = yarn.output_bias = true;
  m.layers[1].mixer = yarn;
  spec::LatentAttentionSpec bare = latent_attention(7);
  bare.latent_norm.reset();
  bare.rope.reset();
  m.layers[2].mixer = bare;
  m.layers[2].mlp = tiny_moe().layers[2].mlp;
  return m;
}

spec::ModelSpec tiny_sparse() {
  spec::ModelSpec m = tiny_llama(4);
  spec::LatentAttentionSpec chooses = latent_attention(10), shares = latent_attention(10);
  chooses.indexer = spec::IndexerSpec{.num_heads = 2, .head_dim = 8, .top_k = 5};
  chooses.indexer->relu = false;  // exact zeros tie, and which is taken depends on the keys held
  shares.shared_choice = true;
  m.layers[0].mixer = chooses;
  m.layers[1].mixer = shares;
  m.layers[2].mixer = latent_attention(std::nullopt);
  chooses.q_lora_rank.reset();
  chooses.indexer->rope_layout = spec::RopeLayout::kInterleaved;
  m.layers[3].mixer = chooses;
  return m;
}

spec::ModelSpec tiny_gemma4() {
  spec::ModelSpec m = tiny_gemma();
  const spec::NormSpec learned{.weight = spec::NormWeight::kFp32};
  const spec::NormSpec fixed{.weight = spec::NormWeight::kNone};
  m.head.final_norm = learned;
  const std::vector<spec::LayerSpec> kinds = {m.layers[0], m.layers[1]};  // local, global
  m.layers.clear();
  for (int i = 0; i < 6; ++i) {
    spec::LayerSpec layer = kinds[static_cast<size_t>(i == 1 || i == 4 ? 1 : 0)];
    auto& attention = std::get<spec::AttentionSpec>(layer.mixer);
    attention.q_norm = attention.k_norm = learned;
    attention.v_norm = fixed;
    attention.shared_key_value = i == 1;
    if (i == 2) attention.k_norm.reset();
    if (i != 3) layer.per_layer_input.emplace();
    if (i == 2) layer.per_layer_input->norm = learned;
    if (i == 5) attention.window = 2;
    if (i >= 3) spec::read_kv_of(layer, i == 4 ? 1 : 2);
    m.layers.push_back(layer);
  }
  m.per_layer_embedding = spec::PerLayerEmbeddingSpec{.vocab_size = m.embedding.vocab_size,
                                                      .size = 3,
                                                      .scale = 1.7,
                                                      .context_scale = 0.3,
                                                      .mix_scale = 0.7,
                                                      .norm = learned};
  return m;
}

spec::ModelSpec tiny_branches() {
  spec::ModelSpec m = model(16, 27);
  spec::MoeSpec moe;
  moe.num_experts = 4;
  moe.top_k = 2;
  moe.intermediate_size = 6;
  moe.activation = spec::Activation::kGeluTanh;
  spec::MoeSpec own_input = moe;
  own_input.router.input_norm = spec::NormSpec{.weight = spec::NormWeight::kNone};
  own_input.router.input_scale = 0.5;
  own_input.router.input_weight = true;
  own_input.router.expert_scale = true;
  const spec::NormSpec norm{};
  const std::vector<spec::HybridMlpSpec> mlps = {{gated_mlp(10), own_input, norm, norm, norm, norm},
                                                 {gated_mlp(10), moe, {}, {}, {}, {}},
                                                 {gated_mlp(12), own_input, {}, norm, norm, {}}};
  for (size_t i = 0; i < mlps.size(); ++i) {
    m.layers.push_back(pre_norm_layer("layer", attention(4, 2, 6), gated_mlp(1), norm));
    m.layers.back().mlp = mlps[i];
    if (i == 0) m.layers.back().pre_mlp_norm.reset();
  }
  spec::read_kv_of(m.layers[2], 0);
  return m;
}

std::vector<NamedSpec> tiny_specs() {
  return {{"llama", tiny_llama()},   {"step", tiny_step()},     {"gemma", tiny_gemma()},
          {"odd", tiny_odd()},       {"moe", tiny_moe()},       {"hybrid", tiny_hybrid()},
          {"latent", tiny_latent()}, {"gemma4", tiny_gemma4()}, {"branches", tiny_branches()}};
}

std::vector<NamedSpec> tiny_attention_specs() {
  std::vector<NamedSpec> specs = tiny_specs();
  std::erase_if(specs, [](const NamedSpec& named) {
    return std::ranges::any_of(named.spec.layers, [](const spec::LayerSpec& layer) {
      return spec::attention_of(layer) == nullptr;
    });
  });
  return specs;
}

std::vector<NamedSpec> tiny_paged_specs() {
  std::vector<NamedSpec> specs = tiny_attention_specs();
  specs.push_back({"latent", tiny_latent()});
  specs.push_back({"sparse", tiny_sparse()});
  return specs;
}

void set_attention_scale(spec::LayerSpec& layer, double scale) {
  if (auto* attention = std::get_if<spec::AttentionSpec>(&layer.mixer)) attention->scale = scale;
  if (auto* latent = std::get_if<spec::LatentAttentionSpec>(&layer.mixer)) latent->scale = scale;
}

}  // namespace headway::test
