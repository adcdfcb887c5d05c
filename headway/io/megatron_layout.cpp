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
constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kMixerOut = "mixer.out.";  // linear layers call it otherwise

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
  if (!parameter.starts_with(kLayers)) return renamed(parameter, kModelNames);
  const size_t dot = parameter.find('.', kLayers.size());
  if (dot == std::string::npos) return renamed(parameter, kLayerNames);
  const std::string_view rest = std::string_view(parameter).substr(dot + 1);
  const std::string before = "decoder." + parameter.substr(0, dot + 1);
  if (form.linear && rest.starts_with(kMixerOut)) {
    return before + "self_attention.out_proj." + std::string(rest.substr(kMixerOut.size()));
  }
  return before + renamed(rest, kLayerNames);
}

std::vector<MegatronPart> megatron_parts(const spec::TensorSpec& tensor, const MegatronForm& form) {
  const std::string name = megatron_name(tensor.name, form);
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string::npos) return {{name, 0, tensor.shape.front()}};
  const std::string before = name.substr(0, at + kExperts.size());
  const std::string after = name.substr(at + kExperts.size());
  const int64_t rows = tensor.shape.front() / tensor.experts;
  std::vector<MegatronPart> parts;
  for (int64_t e = 0; e < tensor.experts; ++e) {
    const std::string number = std::to_string(e);
    parts.push_back({form.grouped_experts ? before + after + number
                                          : before + "local_experts." + number + "." + after,
                     e * rows, rows});
  }
  return parts;
}

std::string megatron_fused_name(const std::string& parameter, const MegatronForm& form) {
  const size_t dot = parameter.find('.', kLayers.size());
  if (!parameter.starts_with(kLayers) || dot == std::string::npos) return {};
  const std::string rest = parameter.substr(dot + 1);
  const size_t end = rest.find('.');
  const std::string norm = rest.substr(0, end);
  if (end == std::string::npos) return {};
  std::string projection;
  if (norm == "pre_mixer_norm") {
    projection = form.linear ? "self_attention.in_proj" : "self_attention.linear_qkv";
  } else if (norm == "pre_mlp_norm") {
    projection = "mlp.linear_fc1";
  } else {
    return {};
  }
  return "decoder." + parameter.substr(0, dot + 1) + projection + ".layer_norm_" +
         rest.substr(end + 1);
}

int64_t interleaved_layer(const std::string& parameter) {
  if (!parameter.starts_with(kLayers)) return -1;
  int64_t layer = -1;
  const char* end = parameter.data() + parameter.size();
  const auto read = std::from_chars(parameter.data() + kLayers.size(), end, layer);
  const std::string_view rest(read.ptr, static_cast<size_t>(end - read.ptr));
  return read.ec == std::errc() && rest.starts_with(".mixer.qkv.") ? layer : -1;
}

}  // namespace headway::io
