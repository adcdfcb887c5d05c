// Walks the layers that have attention logits. Not for: the arithmetic of clipping.
#include "headway/engine/logit_watch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"

namespace headway::engine {
namespace {

/// Calls body(block number, attention) for every block with softmax attention of either kind.
template <class Body>
void for_each_attention(const nn::Transformer& model, Body body) {
  for (int64_t i = 0; i < spec::num_blocks(model.spec()); ++i) {
    std::visit(
        [&](const auto& mixer) {
          if constexpr (requires { mixer.max_logit(); }) body(i, mixer);
        },
        model.block_at(i).mixer());
  }
}

bool norms_heads(const spec::AttentionSpec& spec) { return spec.q_norm || spec.k_norm; }
bool norms_heads(const spec::LatentAttentionSpec&) { return false; }

/// Whether the rows of its keys are also another layer's, or its values.
bool shares_keys(const spec::AttentionSpec& spec) {
  return spec.kv_source.has_value() || spec.shared_key_value;
}
bool shares_keys(const spec::LatentAttentionSpec&) { return false; }

bool chooses_keys(const spec::AttentionSpec&) { return false; }
bool chooses_keys(const spec::LatentAttentionSpec& spec) {
  return spec.indexer.has_value() || spec.shared_choice;
}

}  // namespace

LogitWatch::LogitWatch(const config::TrainConfig& train, const nn::Transformer& model)
    : on_(train.qk_clip.has_value() || train.log_max_attention_logit) {
  if (!on_) return;
  for_each_attention(model, [](size_t layer, const auto& attention) {
    if (!chooses_keys(attention.spec())) return;
    throw UnsupportedError("[train] log_max_attention_logit or qk_clip = set: layer " +
                           std::to_string(layer) +
                           " attends to chosen keys; allowed attention over all keys");
  });
  if (!train.qk_clip) return;
  clip_ = nn::QkClip{train.qk_clip->threshold, train.qk_clip->alpha};
  bool normed = false;
  for_each_attention(model, [&](int64_t layer, const auto& attention) {
    if (shares_keys(attention.spec())) {
      throw UnsupportedError(fmt::format(
          "[train] qk_clip = set: the key rows of layer {} also belong to another layer "
          "or to its values; allowed layers with keys of their own",
          layer));
    }
    normed = normed || norms_heads(attention.spec());
  });
  if (normed) {
    log(LogLevel::kWarning,
        "[train] qk_clip = set with layers that normalise queries and keys: clipping their weights "
        "lowers no logit");
  }
}

void LogitWatch::begin(const nn::Transformer& model) const {
  if (!on_) return;
  for_each_attention(model, [](int64_t, const auto& attention) {
    attention.max_logit().reset();
    attention.max_logit().observe(true);
  });
}

void LogitWatch::end(const nn::Transformer& model) const {
  if (!on_) return;
  for_each_attention(model,
                     [](int64_t, const auto& attention) { attention.max_logit().observe(false); });
}

std::optional<double> LogitWatch::max_logit(const nn::Transformer& model) const {
  if (!on_) return std::nullopt;
  double largest = 0.0;
  for_each_attention(model, [&](int64_t layer, const auto& attention) {
    const at::Tensor& value = attention.max_logit().value();
    if (!value.defined()) return;
    const double logit = value.max().item<double>();
    if (std::isnan(logit) || logit == std::numeric_limits<double>::infinity()) {
      throw NonFiniteError(
          fmt::format("[train] attention logit = {}, allowed a finite number; first in layer {}",
                      std::isnan(logit) ? "nan" : "inf", layer));
    }
    largest = std::max(largest, logit);
  });
  return largest;
}

void LogitWatch::clip(const nn::Transformer& model, Optimizer& optimizer) const {
  if (!on_) return;
  for_each_attention(model, [&](int64_t layer, const auto& attention) {
    if (!clip_) return attention.max_logit().reset();
    const std::string prefix = spec::block_scope(model.spec(), layer) + "mixer.";
    for (const auto& [name, factors] : nn::clip_qk(attention, model.parameters(), prefix, clip_)) {
      optimizer.scale_rows(name, factors);
    }
  });
}

}  // namespace headway::engine
