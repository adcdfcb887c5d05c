// Row factors of QK-Clip for grouped-query and latent projections. Not for: writing weights.
#include "headway/nn/qk_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::nn {
namespace {

void check(const QkClip& clip) {
  if (!(clip.threshold > 0) || !std::isfinite(clip.threshold)) {
    throw ConfigError(fmt::format("[qk_clip] qk_clip_threshold = {}, allowed a finite number > 0",
                                  clip.threshold));
  }
  if (!(clip.alpha >= 0 && clip.alpha <= 1)) {
    throw ConfigError(
        fmt::format("[qk_clip] qk_clip_alpha = {}, allowed a number in [0, 1]", clip.alpha));
  }
}

/// A run of rows of every head, whose factor is η^power.
struct HeadRows {
  int64_t rows;
  double power;
};

at::Tensor per_head(const std::vector<double>& etas, int64_t num_heads,
                    const std::vector<HeadRows>& layout) {
  if (etas.empty() || num_heads % static_cast<int64_t>(etas.size()) != 0) {
    throw ShapeError(fmt::format("[qk_clip] eta has {} values, allowed a divisor of the {} heads",
                                 etas.size(), num_heads));
  }
  const int64_t heads_per_eta = num_heads / static_cast<int64_t>(etas.size());
  std::vector<double> factors;
  for (int64_t head = 0; head < num_heads; ++head) {
    for (const HeadRows& part : layout) {
      factors.insert(factors.end(), static_cast<size_t>(part.rows),
                     std::pow(etas[head / heads_per_eta], part.power));
    }
  }
  return at::tensor(factors, at::kDouble);
}

void check_latent(const LatentHeads& heads) {
  if (heads.absorbed) {
    throw ConfigError(
        "[qk_clip] qk_clip is not supported when cache_mla_latents is enabled and absorption is "
        "active (cache_mla_latents = true)");
  }
}

}  // namespace

std::vector<double> clip_etas(const at::Tensor& max_H, int64_t num_heads, int64_t num_groups,
                              const QkClip& clip) {
  check(clip);
  if (num_groups < 1 || num_heads % num_groups != 0) {
    throw ShapeError(fmt::format("[qk_clip] num_query_groups = {}, allowed a divisor of {} heads",
                                 num_groups, num_heads));
  }
  if (!max_H.defined() || max_H.dim() != 1 || max_H.size(0) != num_heads) {
    throw ShapeError(fmt::format(
        "[qk_clip] current_max_attn_logits has {} elements in {} axes, allowed [{}], one per head",
        max_H.defined() ? max_H.numel() : 0, max_H.defined() ? max_H.dim() : 0, num_heads));
  }
  const at::Tensor values = max_H.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* logits = values.data_ptr<double>();
  const int64_t m = num_heads / num_groups;
  std::vector<double> etas;
  for (int64_t group = 0; group < num_groups; ++group) {
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t head = group * m; head < (group + 1) * m; ++head) {
      const double logit = logits[head];
      if (std::isnan(logit) || logit == std::numeric_limits<double>::infinity()) {
        throw NonFiniteError(fmt::format(
            "[qk_clip] current_max_attn_logits[{}] = {}, allowed a finite number", head, logit));
      }
      largest = std::max(largest, logit);
    }
    // A maximum that is not positive cannot exceed the threshold: τ / M would flip the sign.
    etas.push_back(largest > 0 ? std::min(1.0, clip.threshold / largest) : 1.0);
  }
  return etas;
}

at::Tensor qkv_clip_factors(const spec::TensorSpec& tensor, const spec::AttentionSpec& attention,
                            const std::vector<double>& etas, double alpha) {
  at::Tensor factors = at::ones({tensor.shape.at(0)}, at::kDouble);
  for (const spec::RowSegment& segment : tensor.segments) {
    at::Tensor rows = factors.narrow(0, segment.begin, segment.rows);
    const HeadRows query{attention.head_dim, alpha};
    const HeadRows key{attention.head_dim, 1.0 - alpha};
    if (segment.name == "q") rows.copy_(per_head(etas, attention.num_heads, {query}));
    if (segment.name == "k") rows.copy_(per_head(etas, attention.num_kv_heads, {key}));
  }
  return factors;
}

at::Tensor latent_query_factors(const LatentHeads& heads, const std::vector<double>& etas,
                                double alpha) {
  check_latent(heads);
  return per_head(etas, heads.num_heads, {{heads.nope_dim, alpha}, {heads.pe_dim, 1.0}});
}

at::Tensor latent_key_factors(const LatentHeads& heads, const std::vector<double>& etas,
                              double alpha) {
  check_latent(heads);
  return per_head(etas, heads.num_heads, {{heads.nope_dim, 1.0 - alpha}, {heads.value_dim, 0.0}});
}

namespace {

/// η of every group of heads, from maxima that are forgotten in every case.
std::vector<double> take_etas(MaxLogitTracker& tracker, int64_t num_heads, int64_t num_groups,
                              const std::optional<QkClip>& clip) {
  const at::Tensor max_H = tracker.value();
  tracker.reset();
  if (!clip) throw ConfigError("[qk_clip] qk_clip option needs to be enabled (qk_clip = false)");
  if (!max_H.defined()) {
    throw ShapeError(
        "[qk_clip] current_max_attn_logits is None, allowed a tensor; hint: run a forward with "
        "the tracker observing first");
  }
  return clip_etas(max_H, num_heads, num_groups, *clip);
}

bool changes_nothing(const std::vector<double>& etas) {
  return std::all_of(etas.begin(), etas.end(), [](double eta) { return eta == 1.0; });
}

}  // namespace

std::map<std::string, at::Tensor> clip_qk(const Attention& attention, const Parameters& parameters,
                                          const std::string& prefix,
                                          const std::optional<QkClip>& clip) {
  const spec::AttentionSpec& heads = attention.spec();
  const std::vector<double> etas =
      take_etas(attention.max_logit(), heads.num_heads, heads.num_kv_heads, clip);
  std::map<std::string, at::Tensor> factors;
  if (changes_nothing(etas)) return factors;
  for (const char* part : {"qkv.weight", "qkv.bias"}) {
    const std::string name = prefix + part;
    if (!parameters.contains(name)) continue;
    const spec::TensorSpec& tensor = parameters.spec_of(name);
    const at::Tensor rows = qkv_clip_factors(tensor, heads, etas, clip->alpha);
    if (!rows.eq(1.0).all().item<bool>()) factors[name] = rows;
  }
  return factors;
}

std::map<std::string, at::Tensor> clip_qk(const LatentAttention& attention,
                                          const Parameters& parameters, const std::string& prefix,
                                          const std::optional<QkClip>& clip) {
  const spec::LatentAttentionSpec& spec = attention.spec();
  const std::vector<double> etas =
      take_etas(attention.max_logit(), spec.num_heads, spec.num_heads, clip);
  std::map<std::string, at::Tensor> factors;
  if (changes_nothing(etas)) return factors;
  const LatentHeads heads{spec.num_heads, spec.nope_head_dim, spec.rope_head_dim, spec.v_head_dim};
  const at::Tensor query_rows = latent_query_factors(heads, etas, clip->alpha);
  factors[prefix + "kv_up.weight"] = latent_key_factors(heads, etas, clip->alpha);
  if (spec.q_lora_rank) {
    factors[prefix + "q_up.weight"] = query_rows;
    return factors;
  }
  const spec::TensorSpec& down = parameters.spec_of(prefix + "down.weight");
  at::Tensor rows = at::ones({down.shape.at(0)}, at::kDouble);
  const spec::RowSegment& queries = down.segments.front();
  rows.narrow(0, queries.begin, queries.rows).copy_(query_rows);
  factors[prefix + "down.weight"] = rows;
  return factors;
}

}  // namespace headway::nn
