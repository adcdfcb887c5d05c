// See kv_sharing.h. Not for: tensors.
#include "headway/spec/kv_sharing.h"

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

/// Whether queries of `reader` can attend to keys and values of `source`.
bool fits(const AttentionSpec& reader, const AttentionSpec& source) {
  const bool sees_enough = !source.window || (reader.window && *reader.window <= *source.window);
  return reader.num_heads % source.num_kv_heads == 0 &&
         reader.num_kv_heads == source.num_kv_heads && reader.head_dim == source.head_dim &&
         reader.v_head_dim == source.v_head_dim && reader.rope == source.rope && sees_enough;
}

/// The source that share_last_layers takes: also of equal window.
bool is_of_one_kind(const AttentionSpec& reader, const AttentionSpec& source) {
  return fits(reader, source) && reader.window == source.window && reader.mask == source.mask;
}

std::string path_of(size_t layer, const char* field) {
  return index_path("model.layers", layer) + ".mixer.attention." + field;
}

void check_reader(const ModelSpec& spec, size_t layer, const AttentionSpec& reader,
                  Problems& problems) {
  const std::string path = path_of(layer, "kv_source");
  const int64_t number = *reader.kv_source;
  const auto refuse = [&](const std::string& allowed) {
    problems.add_value(path, std::to_string(number), allowed);
  };
  if (number < 0 || number >= static_cast<int64_t>(layer)) {
    return refuse(fmt::format("an earlier layer than {}", layer));
  }
  const AttentionSpec* source = attention_of(spec.layers[static_cast<size_t>(number)]);
  if (source == nullptr || source->kv_source) {
    return refuse("a layer with keys and values of its own");
  }
  if (!fits(reader, *source)) {
    refuse(
        "a layer with the same key/value heads, head widths and rotary positions, and at least "
        "this window");
  }
  if (reader.k_norm || reader.v_norm || reader.shared_key_value) {
    problems.add(path,
                 "a layer that reads the keys and values of another has no k_norm, v_norm or "
                 "shared_key_value of its own");
  }
}

}  // namespace

std::optional<int64_t> kv_source_of(const LayerSpec& layer) {
  const AttentionSpec* attention = attention_of(layer);
  return attention == nullptr ? std::nullopt : attention->kv_source;
}

std::vector<int64_t> kv_reader_counts(const ModelSpec& spec) {
  std::vector<int64_t> counts(spec.layers.size(), 0);
  for (const LayerSpec& layer : spec.layers) {
    if (const auto source = kv_source_of(layer)) ++counts.at(static_cast<size_t>(*source));
  }
  return counts;
}

void read_kv_of(LayerSpec& layer, int64_t source) {
  auto* attention = std::get_if<AttentionSpec>(&layer.mixer);
  if (attention == nullptr) {
    throw ConfigError(
        fmt::format("[model] block {} = no attention, allowed attention in a layer that reads the "
                    "keys and values of layer {}",
                    layer.block, source));
  }
  attention->kv_source = source;
  attention->k_norm.reset();
  attention->v_norm.reset();
  attention->shared_key_value = false;
}

void share_last_layers(ModelSpec& spec, int64_t count) {
  const auto layers = static_cast<int64_t>(spec.layers.size());
  if (count == 0) return;
  if (count >= layers) {
    throw ConfigError(fmt::format(
        "model.num_kv_shared_layers = {}, allowed less than the number of layers (= {})", count,
        layers));
  }
  const int64_t first = layers - count;
  for (int64_t i = first; i < layers; ++i) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    const AttentionSpec* reader = attention_of(layer);
    std::optional<int64_t> source;
    for (int64_t j = first - 1; j >= 0 && !source && reader != nullptr; --j) {
      const AttentionSpec* candidate = attention_of(spec.layers[static_cast<size_t>(j)]);
      if (candidate != nullptr && is_of_one_kind(*reader, *candidate)) source = j;
    }
    if (!source) {
      throw ConfigError(fmt::format(
          "model.num_kv_shared_layers = {}: layer {} (block {}) finds no layer before {} with the "
          "same key/value heads, rotary positions and window; allowed fewer shared layers",
          count, i, layer.block, first));
    }
    read_kv_of(layer, *source);
  }
}

void check_kv_sharing(const ModelSpec& spec, Problems& problems) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec* attention = attention_of(spec.layers[i]);
    if (attention != nullptr && attention->kv_source) check_reader(spec, i, *attention, problems);
  }
  for (size_t i = 0; spec.mtp && i < spec.mtp->layers.size(); ++i) {
    const LayerSpec& layer = spec.mtp->layers[i];
    const std::string path = index_path("model.mtp.layers", i);
    if (kv_source_of(layer))
      problems.add(path, "reads keys and values of the stack; allowed its own");
    if (layer.per_layer_input) {
      problems.add(path, "has a per_layer_input; allowed in layers of the stack");
    }
  }
}

}  // namespace headway::spec
