// Index arithmetic of linear_qkv and the table of names.
// Not for: files.
#include "headway/io/megatron_layout.h"

#include <array>
#include <charconv>
#include <string_view>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

struct NamePair {
  std::string_view ours;
  std::string_view megatron;
};

/// Parts of names; the first that matches counts, `.weight` and `.bias` follow unchanged.
constexpr auto kModelNames = std::to_array<NamePair>({
    {"embedding.", "embedding.word_embeddings."},
    {"final_norm.", "decoder.final_layernorm."},
    {"head.", "output_layer."},
});
constexpr auto kLayerNames = std::to_array<NamePair>({
    {"pre_mixer_norm.", "input_layernorm."},
    {"pre_mlp_norm.", "pre_mlp_layernorm."},
    {"mixer.qkv.", "self_attention.linear_qkv."},
    {"mixer.out.", "self_attention.linear_proj."},
    {"mixer.q_norm.", "self_attention.q_layernorm."},
    {"mixer.k_norm.", "self_attention.k_layernorm."},
    {"mixer.in.", "self_attention.in_proj."},
    {"mixer.conv.", "self_attention.conv1d."},
    {"mixer.dt_bias", "self_attention.dt_bias"},
    {"mixer.A_log", "self_attention.A_log"},
    {"mixer.norm.", "self_attention.out_norm."},
    {"mixer.down.", "self_attention.linear_qkv_down_proj."},
    {"mixer.q_up.", "self_attention.linear_q_up_proj."},
    {"mixer.kv_norm.", "self_attention.kv_layernorm."},
    {"mixer.kv_up.", "self_attention.linear_kv_up_proj."},
    {"mixer.indexer.q.", "self_attention.core_attention.indexer.linear_wq_b."},
    {"mixer.indexer.k.", "self_attention.core_attention.indexer.linear_wk."},
    {"mixer.indexer.k_norm.", "self_attention.core_attention.indexer.k_norm."},
    {"mixer.indexer.weights.", "self_attention.core_attention.indexer.linear_weights_proj."},
    {"mixer.sinks", "self_attention.core_attention.softmax_offset"},
    {"mlp.up.", "mlp.linear_fc1."},
    {"mlp.down.", "mlp.linear_fc2."},
    {"mlp.router.", "mlp.router."},
    {"mlp.experts.up.", "mlp.experts.linear_fc1."},
    {"mlp.experts.down.", "mlp.experts.linear_fc2."},
    {"mlp.shared.up.", "mlp.shared_experts.linear_fc1."},
    {"mlp.shared.down.", "mlp.shared_experts.linear_fc2."},
    {"mlp.shared.gate.weight", "mlp.shared_experts.gate_weight"},
    {"mlp.latent_down.", "mlp.fc1_latent_proj."},
    {"mlp.latent_up.", "mlp.fc2_latent_proj."},
});
/// Of a depth of multi-token prediction, besides its layer.
constexpr auto kMtpNames = std::to_array<NamePair>({
    {"embedding_norm.", "enorm."},
    {"hidden_norm.", "hnorm."},
    {"proj.", "eh_proj."},
    {"final_norm.", "final_layernorm."},
});
constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kMixerOut = "mixer.out.";  // linear layers call it otherwise
constexpr std::string_view kLatentQueryNorm = "mixer.q_norm.";
constexpr std::string_view kLatentNorm = "mixer.kv_norm.";
constexpr std::string_view kLatentDown = "linear_qkv_down_proj";
constexpr std::string_view kMtpLayers = "mtp.layers.";
constexpr std::string_view kMtpBlock = "block.";

/// "layers.3.rest" below `scope`: the number, and the rest; -1 for another name.
struct Numbered {
  int64_t number = -1;
  std::string_view rest;
};

Numbered numbered(std::string_view name, std::string_view scope) {
  if (!name.starts_with(scope)) return {};
  name.remove_prefix(scope.size());
  Numbered result;
  const auto read = std::from_chars(name.data(), name.data() + name.size(), result.number);
  const auto digits = static_cast<size_t>(read.ptr - name.data());
  if (read.ec != std::errc() || name.substr(digits, 1) != ".") return {};
  result.rest = name.substr(digits + 1);
  return result;
}

/// A layer's parameter: Megatron's scope of the layer, and our name inside; both empty for others.
struct LayerPlace {
  std::string scope;
  std::string_view rest;
};

LayerPlace layer_place(std::string_view parameter) {
  if (const Numbered layer = numbered(parameter, kLayers); layer.number >= 0) {
    return {"decoder.layers." + std::to_string(layer.number) + ".", layer.rest};
  }
  const Numbered depth = numbered(parameter, kMtpLayers);
  if (depth.number < 0 || !depth.rest.starts_with(kMtpBlock)) return {};
  return {"mtp.layers." + std::to_string(depth.number) + ".mtp_model_layer.",
          depth.rest.substr(kMtpBlock.size())};
}

template <size_t N>
std::string renamed(std::string_view name, const std::array<NamePair, N>& table) {
  for (const NamePair& pair : table) {
    if (name.starts_with(pair.ours)) {
      return std::string(pair.megatron) + std::string(name.substr(pair.ours.size()));
    }
  }
  throw InternalError("[megatron_layout] parameter = " + std::string(name) +
                      ", allowed those of a dense GPT");
}

at::Tensor index_of(const std::vector<int64_t>& rows, const at::Tensor& like) {
  return at::tensor(rows, at::kLong).to(like.device());
}

void check_rows(const at::Tensor& tensor, size_t rows) {
  if (tensor.dim() >= 1 && tensor.size(0) == static_cast<int64_t>(rows)) return;
  throw ShapeError("[megatron_layout] rows of linear_qkv = " +
                   std::to_string(tensor.dim() >= 1 ? tensor.size(0) : 0) + ", allowed " +
                   std::to_string(rows));
}

}  // namespace

QkvHeads qkv_heads(const spec::AttentionSpec& attention) {
  return {attention.num_heads, attention.num_kv_heads, attention.head_dim, attention.gate.kind};
}

std::vector<int64_t> megatron_qkv_rows(const QkvHeads& heads) {
  const int64_t dim = heads.head_dim;
  const int64_t per_group = heads.num_heads / heads.num_kv_heads;
  const bool channels = heads.gate == spec::GateKind::kElementWise;
  const int64_t block = ((channels ? 2 : 1) * per_group + 2) * dim;
  std::vector<int64_t> rows;
  const auto append = [&rows](int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) rows.push_back(begin + i);
  };
  const auto append_groups = [&](int64_t offset, int64_t count) {
    for (int64_t g = 0; g < heads.num_kv_heads; ++g) append(g * block + offset, count);
  };
  const int64_t key = block - 2 * dim;
  append_groups(0, per_group * dim);
  append_groups(key, dim);
  append_groups(key + dim, dim);
  if (channels) append_groups(per_group * dim, per_group * dim);
  if (heads.gate == spec::GateKind::kHeadWise) append(heads.num_kv_heads * block, heads.num_heads);
  return rows;
}

at::Tensor qkv_from_megatron(const at::Tensor& megatron, const QkvHeads& heads) {
  const std::vector<int64_t> rows = megatron_qkv_rows(heads);
  check_rows(megatron, rows.size());
  return megatron.index_select(0, index_of(rows, megatron));
}

at::Tensor qkv_to_megatron(const at::Tensor& ours, const QkvHeads& heads) {
  const std::vector<int64_t> rows = megatron_qkv_rows(heads);
  check_rows(ours, rows.size());
  std::vector<int64_t> inverse(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) inverse[rows[i]] = static_cast<int64_t>(i);
  return ours.index_select(0, index_of(inverse, ours));
}

std::string megatron_name(const std::string& parameter, const MegatronForm& form) {
  const LayerPlace place = layer_place(parameter);
  if (place.scope.empty()) {
    const Numbered depth = numbered(parameter, kMtpLayers);
    if (depth.number < 0) return renamed(parameter, kModelNames);
    return "mtp.layers." + std::to_string(depth.number) + "." + renamed(depth.rest, kMtpNames);
  }
  if (form.linear && place.rest.starts_with(kMixerOut)) {
    return place.scope + "self_attention.out_proj." +
           std::string(place.rest.substr(kMixerOut.size()));
  }
  return place.scope + renamed(place.rest, kLayerNames);
}

namespace {

/// The projections to the latents, each a tensor of its own.
std::vector<MegatronPart> latent_parts(const spec::TensorSpec& tensor, const std::string& fused,
                                       size_t at) {
  std::vector<MegatronPart> parts;
  for (const spec::RowSegment& segment : tensor.segments) {
    std::string name = fused;
    name.replace(at, kLatentDown.size(), "linear_" + segment.name + "_proj");
    parts.push_back({name, segment.begin, segment.rows});
  }
  return parts;
}

}  // namespace

std::vector<MegatronPart> megatron_parts(const spec::TensorSpec& tensor, const MegatronForm& form) {
  const std::string name = megatron_name(tensor.name, form);
  const size_t latent = name.find(kLatentDown);
  if (latent != std::string::npos && !form.grouped) return latent_parts(tensor, name, latent);
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string::npos) return {{name, 0, tensor.shape.front()}};
  const std::string before = name.substr(0, at + kExperts.size());
  const std::string after = name.substr(at + kExperts.size());
  const int64_t rows = tensor.shape.front() / tensor.experts;
  std::vector<MegatronPart> parts;
  for (int64_t e = 0; e < tensor.experts; ++e) {
    const std::string number = std::to_string(e);
    parts.push_back(
        {form.grouped ? before + after + number : before + "local_experts." + number + "." + after,
         e * rows, rows});
  }
  return parts;
}

std::string megatron_fused_name(const std::string& parameter, const MegatronForm& form) {
  const LayerPlace place = layer_place(parameter);
  const size_t end = place.rest.find('.');
  if (end == std::string_view::npos) return {};
  const std::string_view norm = place.rest.substr(0, end);
  std::string projection;
  if (norm == "pre_mixer_norm") {
    projection = form.linear ? "self_attention.in_proj" : "self_attention.linear_qkv";
  } else if (norm == "pre_mlp_norm") {
    projection = "mlp.linear_fc1";
  } else if (place.rest.starts_with(kLatentQueryNorm)) {
    projection = "self_attention.linear_q_up_proj";
  } else if (place.rest.starts_with(kLatentNorm)) {
    projection = "self_attention.linear_kv_up_proj";
  } else {
    return {};
  }
  return place.scope + projection + ".layer_norm_" +
         std::string(place.rest.substr(place.rest.rfind('.') + 1));
}

const spec::AttentionSpec* interleaved_attention(const spec::ModelSpec& spec,
                                                 const std::string& parameter) {
  for (int64_t index = 0; index < spec::num_blocks(spec); ++index) {
    if (!parameter.starts_with(spec::block_scope(spec, index) + "mixer.qkv.")) continue;
    return spec::attention_of(spec::block_at(spec, index));
  }
  return nullptr;
}

}  // namespace headway::io
