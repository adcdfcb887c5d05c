// What the Gemma families share: layers of two types with rotary positions of their own, embeddings
// scaled by sqrt(hidden), four norms a layer, and reasons found by writing and reading back.
// Not for: what sets gemma3 and gemma4 apart.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "headway/io/hf/family.h"

namespace headway::io::gemma {

inline const std::string kFull = "full_attention";
inline const std::string kSliding = "sliding_attention";

/// `layer_types`, or every `period`-th layer full where the key is absent.
std::vector<std::string> read_layer_types(ConfigReader& config, size_t layers, int64_t period);

/// `sliding_window`, a problem where a layer needs it and there is none; `otherwise` when absent.
std::optional<int64_t> read_window(ConfigReader& config, const std::vector<std::string>& types,
                                   std::optional<int64_t> otherwise);

/// hidden_size, vocab_size, max_position_embeddings, the embedding with its scale and padding row,
/// soft cap, tying, initialisation: all around the layers but the final norm.
spec::ModelSpec read_frame(ConfigReader& config, std::optional<int64_t> vocab_size);

/// hidden_activation, which must be one of the tanh forms of GELU.
spec::Activation read_hidden_activation(ConfigReader& config);

/// Keys that read_frame and read_hidden_activation read.
Json write_frame(const spec::ModelSpec& spec);

/// First layer with a window and first without; null where there is none.
struct FirstOfType {
  const spec::AttentionSpec* sliding = nullptr;
  const spec::AttentionSpec* full = nullptr;
  const spec::AttentionSpec& any() const { return sliding != nullptr ? *sliding : *full; }
};
FirstOfType first_of_type(const spec::ModelSpec& spec);

/// The attention of every layer; UnsupportedError naming the layer that has another mixer.
std::vector<const spec::AttentionSpec*> attentions_of(const spec::ModelSpec& spec);

/// What is lost when a model is written as a family and read again: one line a field, with layers.
std::vector<std::string> losses(const spec::ModelSpec& spec, spec::ModelSpec (*read)(ConfigReader&),
                                Json (*write)(const spec::ModelSpec&));

}  // namespace headway::io::gemma
