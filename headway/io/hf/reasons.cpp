// See reasons.h. Not for: features of single families.
#include "headway/io/hf/reasons.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"

namespace headway::io {
namespace {

constexpr size_t kMaxLayersNamed = 8;

void attention_reasons(size_t layer, const spec::AttentionSpec& attention, Reasons& reasons) {
  const auto add_if = [&](bool condition, const std::string& feature) {
    if (condition) reasons.add_layer(layer, feature);
  };
  add_if(attention.v_head_dim != attention.head_dim,
         "value heads of another width than query heads");
  add_if(!is_default_scale(attention.scale, attention.head_dim),
         "an attention scale other than head_dim^-0.5");
  add_if(attention.logit_softcap.has_value(), "a soft cap on attention logits");
  add_if(attention.sinks != spec::SinkKind::kNone,
         fmt::format("attention sinks ({})", enum_name(attention.sinks)));
  add_if(attention.gate_bias, "a bias on the output gate");
  add_if(attention.mask != spec::MaskKind::kCausal, "attention to later tokens");
  add_if(attention.q_norm.has_value() != attention.k_norm.has_value(),
         "only one of q_norm and k_norm");
  if (!attention.rope) return;
  add_if(attention.rope->layout != spec::RopeLayout::kHalf, "interleaved rotary pairs");
  add_if(attention.rope->sections.has_value(), "multimodal rotary sections");
}

void norm_reasons(const spec::ModelSpec& spec, spec::NormWeight flavour, Reasons& reasons) {
  const double eps = spec.head.final_norm ? spec.head.final_norm->eps : 0.0;
  const auto check = [&](const std::optional<spec::NormSpec>& norm, const std::string& name,
                         std::optional<size_t> layer) {
    std::string feature;
    if (!norm) {
      feature = "no " + name;
    } else if (norm->kind != spec::NormKind::kRms || norm->bias) {
      feature = "a LayerNorm as " + name;
    } else if (norm->weight != flavour) {
      feature = fmt::format("a {} norm as {} (the family's are {})", enum_name(norm->weight), name,
                            enum_name(flavour));
    } else if (norm->eps != eps) {
      feature = fmt::format("eps {} of {} (the final norm's is {})", format_double(norm->eps), name,
                            format_double(eps));
    }
    if (feature.empty()) return;
    layer ? reasons.add_layer(*layer, feature) : reasons.add(feature);
  };
  check(spec.head.final_norm, "final norm", std::nullopt);
  if (spec.mtp) {
    check(spec.mtp->embedding_norm, "norm of the embedding in multi-token prediction", {});
    check(spec.mtp->hidden_norm, "norm of the hidden state in multi-token prediction", {});
    check(spec.mtp->final_norm, "final norm of multi-token prediction", {});
  }
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
    check(layer.pre_mixer_norm, "norm before the mixer", i);
    check(layer.pre_mlp_norm, "norm before the MLP", i);
    const spec::AttentionSpec* attention = spec::attention_of(layer);
    if (attention == nullptr) continue;
    if (attention->q_norm) check(attention->q_norm, "q_norm", i);
    if (attention->k_norm) check(attention->k_norm, "k_norm", i);
  }
}

}  // namespace

std::vector<std::string> Reasons::lines() const {
  std::vector<std::string> lines;
  for (const auto& [feature, layers] : layers_) {
    if (layers.empty()) {
      lines.push_back(feature);
      continue;
    }
    std::vector<std::string> numbers;
    for (size_t i = 0; i < layers.size() && i < kMaxLayersNamed; ++i) {
      numbers.push_back(std::to_string(layers[i]));
    }
    if (layers.size() > kMaxLayersNamed) numbers.push_back("…");
    lines.push_back(fmt::format("{} {}: {}", layers.size() == 1 ? "layer" : "layers",
                                join(numbers, ", "), feature));
  }
  return lines;
}

size_t block_count(const spec::ModelSpec& spec) {
  return static_cast<size_t>(spec::num_blocks(spec));
}

double default_scale(int64_t head_dim) { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }

bool is_default_scale(double scale, int64_t head_dim) {
  constexpr double kRounding = 1e-12;
  return std::abs(scale / default_scale(head_dim) - 1.0) < kRounding;
}

void common_reasons(const spec::ModelSpec& spec, spec::NormWeight norm, Reasons& reasons) {
  reasons.add_if(spec.embedding.scale != 1.0, "an embedding scale");
  reasons.add_if(spec.head.softcap.has_value(), "a soft cap on the final logits");
  norm_reasons(spec, norm, reasons);
  if (spec.mtp && spec.mtp->shared_weights && spec.mtp->depths() > 1) {
    reasons.add("weights that depths of multi-token prediction share");
  }
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
    if (layer.post_mixer_norm || layer.post_mlp_norm) {
      reasons.add_layer(i, "norms after the mixer or the MLP");
    }
    if (layer.layer_scalar) reasons.add_layer(i, "a layer scalar");
    if (const auto* attention = spec::attention_of(layer))
      attention_reasons(i, *attention, reasons);
    const spec::DenseMlpSpec* dense = spec::dense_of(layer);
    const spec::MoeSpec* moe = spec::moe_of(layer);
    if ((dense != nullptr && !dense->gated) || (moe != nullptr && !moe->gated)) {
      reasons.add_layer(i, "an MLP without gate");
    }
  }
}

}  // namespace headway::io
