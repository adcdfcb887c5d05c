// Layers that read the keys and values of an earlier layer instead of computing their own: which
// layer each reads, and what must agree between the two.
// Not for: tensors (nn/shared_kv.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/problems.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Layer whose keys and values `layer` reads; nothing for its own.
std::optional<int64_t> kv_source_of(const LayerSpec& layer);

/// For every layer, how many others read its keys and values.
std::vector<int64_t> kv_reader_counts(const ModelSpec& spec);

/// Makes a layer a reader: it owns no key or value projection and no norm of them.
void read_kv_of(LayerSpec& layer, int64_t source);

/// Makes the last `count` layers readers, each of the last of the others whose keys it can read.
/// Errors: ConfigError naming a layer without such a source, or a count that leaves no layer.
void share_last_layers(ModelSpec& spec, int64_t count);

/// Sources are earlier layers with keys and values of their own, of the reader's heads and rotary
/// positions, that keep at least the reader's window; readers own nothing of keys and values.
/// Layers of multi-token prediction neither read nor take part in a per-layer embedding.
void check_kv_sharing(const ModelSpec& spec, Problems& problems);

}  // namespace headway::spec
