// What a cross-attention layer is, and its parameters: queries from one stream, keys and values
// from another (an encoder's output).
// Not for: ModelSpec, which describes decoders; models with an encoder are put together by library
// users (examples/encoder_decoder). Legend: D hidden, C width of the context, H heads, K head dim,
// V value head dim.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/spec/model_spec.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::spec {

/// Every query head has its own key and value head; no window, no gate, no query or key norm.
struct CrossAttentionSpec {
  int64_t hidden_size = 0;       // D of queries and output
  int64_t context_size = 0;      // C of the states attended to
  int64_t num_heads = 0;         // H
  int64_t head_dim = 0;          // K
  int64_t v_head_dim = 0;        // V
  std::optional<RopeSpec> rope;  // turns queries and keys by positions of their own
  double scale = 0.0;            // multiplies q·k
  std::optional<double> logit_softcap;
  SinkKind sinks = SinkKind::kNone;
  bool qkv_bias = false;
  bool output_bias = false;
  bool operator==(const CrossAttentionSpec&) const = default;
};

/// The cross-attention beside a self-attention of equal sizes.
/// Errors: ConfigError "Group query attention is not currently supported in cross attention"
/// (G != H), and one that names the stage for gates and q/k norms ("self-attention only") and
/// windows.
CrossAttentionSpec cross_attention(const AttentionSpec& self, int64_t hidden_size,
                                   int64_t context_size);

/// Throws ConfigError listing every size, scale, soft cap or rotated width that is not allowed.
void validate(const CrossAttentionSpec& spec);

/// q.{weight,bias} (q), kv.{weight,bias} (k | v, plain row order), out.{weight,bias}, sinks, each
/// with `prefix` before its name, drawn as `init` says; `num_layers` scales residual outputs.
/// Errors: ConfigError. Test: tests/unit/spec/cross_attention_test.cpp
std::vector<TensorSpec> cross_attention_tensors(const CrossAttentionSpec& spec,
                                                const InitSpec& init, int64_t num_layers,
                                                const std::string& prefix);

}  // namespace headway::spec
