// What a model costs before it is built: parameters, FLOPs and cached state, per layer and in
// total. Not for: measured speed or memory of a machine (bench/), or optimizer state.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::spec {

struct CostOptions {
  int64_t context = 0;        // tokens of a sequence; 0 = the model's max_positions
  int64_t element_bytes = 2;  // of one cached number: 2 in bfloat16, 4 in float32
};

/// Cost of one layer, or of a sum of parts.
/// Units: FLOPs of the forward pass for one token, a multiply-add counted as two; a training step
/// costs three times as much. State in bytes for one sequence.
struct Cost {
  int64_t parameters = 0;
  int64_t active_parameters = 0;  // that one token uses: all of them without experts
  double matmul_flops = 0;        // projections and head; independent of the context
  double attention_flops =
      0;  // scores and values, mean over the positions of a sequence of `context`
  double decode_attention_flops = 0;  // the same for one more token after `context` tokens
  int64_t state_bytes_per_token = 0;  // cache that grows with the context
  int64_t state_bytes_fixed = 0;      // cache that does not: window rings
  double forward_flops() const { return matmul_flops + attention_flops; }
  double decode_flops() const { return matmul_flops + decode_attention_flops; }
  /// per_token·context + fixed.
  int64_t state_bytes(int64_t context) const;
  Cost& operator+=(const Cost& other);
  bool operator==(const Cost&) const = default;
};

struct ModelCost {
  int64_t context = 0;  // that was counted with
  Cost embedding;       // look-ups: no FLOPs but those of the per-layer embedding's projection
  std::vector<Cost> layers;
  Cost head;  // final norm and logits; a tied head owns no parameters
  /// Depths of multi-token prediction, each with its logits; weights count at the first that has
  /// them.
  std::vector<Cost> mtp;
  Cost decoder;  // embedding, layers and head: what plain decoding runs
  Cost total;    // decoder and mtp: what training runs
};

/// Mean number of keys a query sees over a causal sequence of `context` tokens: sum_t min(t,
/// window) / context.
double mean_visible(int64_t context, const std::optional<int64_t>& window);

/// Cost of every part. Parameters are those of tensors(spec), so they agree with the built model.
///   matmul_flops    = 2 · Σ weights of projections (+ 2·V·D for the head, tied or not)
///   attention_flops = 2 · H · (K + V) · mean_visible
///   state           = G · (K + V) · element_bytes a token, or times min(window, context) once;
///                     none where keys and values are read from another layer
/// Errors: ConfigError when a count does not fit 64 bits or the context is beyond 2^40.
/// Source: Kaplan et al. 2020, table 1, with windows. Test: tests/unit/spec/cost_test.cpp
ModelCost cost(const ModelSpec& spec, const CostOptions& options = {});

}  // namespace headway::spec
