// Counting over the tensor inventory and the attention rules.
// Not for: any knowledge of tensor names inside a layer.
#include "headway/spec/cost.h"

#include <algorithm>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/spec/gated_delta_net.h"
#include "headway/spec/latent_attention.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::spec {
namespace {

int64_t add(int64_t a, int64_t b) { return checked_add<ConfigError>(a, b, "cost"); }
int64_t multiply(int64_t a, int64_t b) { return checked_mul<ConfigError>(a, b, "cost"); }

// Parameters, and two FLOPs for every weight of a matrix that is multiplied with each token.
Cost count(const std::vector<TensorSpec>& tensors) {
  Cost cost;
  for (const TensorSpec& tensor : tensors) {
    const int64_t size = checked_product<ConfigError>(tensor.shape, tensor.name);
    const int64_t active = multiply(size / tensor.experts, tensor.used_experts);
    cost.parameters = add(cost.parameters, size);
    cost.active_parameters = add(cost.active_parameters, active);
    if (tensor.shape.size() == 2) cost.matmul_flops += 2.0 * static_cast<double>(active);
  }
  return cost;
}

void add_mixer(const AttentionSpec& attention, const CostOptions& options, Cost& cost) {
  const double per_key = 2.0 * static_cast<double>(attention.num_heads) *
                         static_cast<double>(attention.head_dim + attention.v_head_dim);
  double visible = mean_visible(options.context, attention.window);
  if (attention.mask == MaskKind::kNone) {
    std::optional<int64_t> ahead;  // the query itself included, as in a window
    if (attention.window_ahead) ahead = *attention.window_ahead + 1;
    visible += mean_visible(options.context, ahead) - 1.0;
  }
  cost.attention_flops = per_key * visible;
  const int64_t seen = options.context + 1;
  cost.decode_attention_flops =
      per_key * static_cast<double>(std::min(seen, attention.window.value_or(seen)));
  if (attention.kv_source) return;  // its keys and values are another layer's
  const int64_t token_bytes =
      multiply(multiply(attention.num_kv_heads, add(attention.head_dim, attention.v_head_dim)),
               options.element_bytes);
  if (attention.window) {
    cost.state_bytes_fixed = multiply(token_bytes, std::min(*attention.window, options.context));
  } else {
    cost.state_bytes_per_token = token_bytes;
  }
}

// Decay, correction and read of the state: 7 FLOPs an element of it; 2 a tap of the convolution.
void add_mixer(const GatedDeltaNetSpec& mixer, const CostOptions& options, Cost& cost) {
  const DeltaWidths widths(mixer);
  const int64_t state = multiply(widths.values, mixer.key_head_dim);
  cost.attention_flops = 7.0 * static_cast<double>(state) +
                         2.0 * static_cast<double>(multiply(widths.conv, mixer.conv_size));
  cost.decode_attention_flops = cost.attention_flops;
  const int64_t wide = std::max<int64_t>(options.element_bytes, sizeof(float));
  const int64_t inputs =
      multiply(multiply(widths.conv, mixer.conv_size - 1), options.element_bytes);
  cost.state_bytes_fixed = add(multiply(state, wide), inputs);
}

// Expanded heads over whole sequences, absorbed ones over chosen keys and for one more token; the
// indexer compares every visible key.
void add_mixer(const LatentAttentionSpec& mixer, const CostOptions& options, Cost& cost) {
  const LatentWidths widths(mixer);
  const double heads = 2.0 * static_cast<double>(mixer.num_heads);
  const double expanded = heads * static_cast<double>(widths.head + mixer.v_head_dim);
  const double absorbed = heads * static_cast<double>(widths.cached + mixer.kv_lora_rank);
  const double seen = mean_visible(options.context, std::nullopt);
  const auto all = static_cast<double>(options.context + 1);
  cost.attention_flops = expanded * seen;
  cost.decode_attention_flops = absorbed * all;
  if (mixer.indexer) {
    const IndexerSpec& indexer = *mixer.indexer;
    const double compared =
        2.0 * static_cast<double>(multiply(indexer.num_heads, indexer.head_dim));
    const bool chooses = options.context > indexer.top_k;
    if (chooses) {
      cost.attention_flops =
          absorbed * mean_visible(options.context, indexer.top_k) + compared * seen;
    }
    cost.decode_attention_flops =
        absorbed * std::min(all, static_cast<double>(indexer.top_k)) + compared * all;
  }
  cost.state_bytes_per_token =
      multiply(add(widths.cached, widths.index_key), options.element_bytes);
}

// Tensors outside the stack whose module name starts with one of `prefixes`.
std::vector<TensorSpec> outside(const std::vector<TensorSpec>& all,
                                const std::vector<std::string>& prefixes) {
  std::vector<TensorSpec> found;
  for (const TensorSpec& tensor : all) {
    for (const std::string& prefix : prefixes) {
      if (tensor.layer < 0 && tensor.name.starts_with(prefix)) found.push_back(tensor);
    }
  }
  return found;
}

void add_mixer(const LayerSpec& layer, const CostOptions& options, Cost& cost) {
  std::visit([&](const auto& mixer) { add_mixer(mixer, options, cost); }, layer.mixer);
}

Cost mtp_cost(const ModelSpec& spec, int64_t depth, const CostOptions& options, double head_flops) {
  const MtpSpec& mtp = *spec.mtp;
  const int64_t set = depth % mtp.weight_sets();
  std::vector<TensorSpec> held;
  for (TensorSpec& tensor : tensors(spec)) {
    const bool is_head = tensor.name.ends_with("head.weight");
    if (tensor.layer == static_cast<int64_t>(spec.layers.size()) + set && !is_head) {
      held.push_back(std::move(tensor));
    }
  }
  Cost cost = count(held);
  cost.matmul_flops += head_flops;
  if (mtp.own_head) {
    const int64_t rows = multiply(spec.embedding.vocab_size, spec.hidden_size);
    cost.parameters = add(cost.parameters, rows);
    cost.active_parameters = add(cost.active_parameters, rows);
  }
  if (depth >= mtp.weight_sets()) cost.parameters = cost.active_parameters = 0;
  add_mixer(mtp.layers[static_cast<size_t>(depth)], options, cost);
  return cost;
}

}  // namespace

int64_t Cost::state_bytes(int64_t context) const {
  return add(multiply(state_bytes_per_token, context), state_bytes_fixed);
}

Cost& Cost::operator+=(const Cost& other) {
  parameters = add(parameters, other.parameters);
  active_parameters = add(active_parameters, other.active_parameters);
  matmul_flops += other.matmul_flops;
  attention_flops += other.attention_flops;
  decode_attention_flops += other.decode_attention_flops;
  state_bytes_per_token = add(state_bytes_per_token, other.state_bytes_per_token);
  state_bytes_fixed = add(state_bytes_fixed, other.state_bytes_fixed);
  return *this;
}

double mean_visible(int64_t context, const std::optional<int64_t>& window) {
  const double n = static_cast<double>(context);
  if (context <= 0) return 0.0;
  if (!window || *window >= context) return (n + 1.0) / 2.0;
  const double w = static_cast<double>(*window);
  return (w * (w + 1.0) / 2.0 + (n - w) * w) / n;
}

ModelCost cost(const ModelSpec& spec, const CostOptions& given) {
  CostOptions options = given;
  if (options.context <= 0) options.context = std::max<int64_t>(spec.max_positions, 1);
  if (options.context > config::kMaxTokens) {
    throw ConfigError("[cost] context = " + std::to_string(options.context) + ", allowed at most " +
                      std::to_string(config::kMaxTokens));
  }
  ModelCost result;
  result.context = options.context;
  std::vector<TensorSpec> outer;
  for (TensorSpec& tensor : tensors(spec)) {
    if (tensor.layer < 0) outer.push_back(std::move(tensor));
  }
  result.embedding = count(outside(outer, {"embedding.", "per_layer.table."}));
  result.embedding.matmul_flops = 0;  // look-ups
  result.embedding += count(outside(outer, {"per_layer.projection.", "per_layer.norm."}));
  result.head = count(outside(outer, {"final_norm.", "head."}));
  result.head.matmul_flops =
      2.0 * static_cast<double>(spec.hidden_size) * static_cast<double>(spec.embedding.vocab_size);
  result.decoder = result.embedding;
  result.decoder += result.head;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    Cost layer = count(layer_tensors(spec, static_cast<int64_t>(i)));
    add_mixer(spec.layers[i], options, layer);
    result.decoder += layer;
    result.layers.push_back(layer);
  }
  result.total = result.decoder;
  for (int64_t depth = 0; spec.mtp && depth < spec.mtp->depths(); ++depth) {
    result.mtp.push_back(mtp_cost(spec, depth, options, result.head.matmul_flops));
    result.total += result.mtp.back();
  }
  return result;
}

}  // namespace headway::spec
