// A model small enough for unit tests, with two kinds of layers, and batches of made-up tokens.
// Not for: production code.
#pragma once

#include <vector>

#include "headway/config/load.h"
#include "headway/data/batch.h"
#include "headway/nn/transformer.h"
#include "headway/spec/from_config.h"

namespace headway::engine {

inline constexpr const char* kTinyModel = R"(
model:
  hidden_size: 16
  vocab_size: 256
  tie_embeddings: true
  blocks:
    global:
      attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8, gate: head_wise}
      mlp: {intermediate_size: 24}
    local:
      attention: {num_heads: 4, num_kv_heads: 2, head_dim: 4, window: 5}
      mlp: {intermediate_size: 24}
  pattern: [global, local]
  num_layers: 2
)";

inline nn::Transformer tiny_model(at::ScalarType dtype) {
  const config::RunConfig run =
      config::parse_run(kTinyModel, "tiny", {}, {.needs_training = false});
  nn::Transformer model(spec::resolve(run.model, 256), dtype);
  model.parameters().initialise(7);
  return model;
}

/// `documents` sequences of `length` tokens; every seventh label is ignored.
inline data::Batch tiny_batch(std::int64_t documents, std::int64_t length, std::int64_t first) {
  data::Batch batch;
  const std::int64_t tokens = documents * length;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(tokens));
  std::vector<std::int64_t> labels(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t place = first + static_cast<std::int64_t>(i);
    ids[i] = (place * 37 + place / 3) % 256;
    labels[i] = place % 7 == 0 ? data::kIgnoredLabel : ((place + 1) * 37 + (place + 1) / 3) % 256;
    batch.label_count += labels[i] == data::kIgnoredLabel ? 0 : 1;
  }
  batch.input_ids = at::tensor(ids, at::kLong);
  batch.labels = at::tensor(labels, at::kLong);
  for (std::int64_t i = 1; i <= documents; ++i) batch.cu_seqlens.push_back(i * length);
  batch.max_len = length;
  return batch;
}

}  // namespace headway::engine
