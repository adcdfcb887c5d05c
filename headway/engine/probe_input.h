// What a probe file holds, asked for by name, and the modules that read it.
// Not for: files (cli reads and writes them).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include <ATen/core/Tensor.h>

#include "headway/engine/probe.h"
#include "headway/io/megatron_layout.h"
#include "headway/nn/mixer.h"
#include "headway/nn/parameters.h"
#include "headway/spec/megatron.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::engine {

using ProbeOutput = std::map<std::string, at::Tensor>;

class ProbeInput {
 public:
  explicit ProbeInput(const ProbeRequest& request);

  at::ScalarType dtype() const { return dtype_; }
  bool has(const std::string& name) const { return request_.tensors.contains(name); }
  /// A tensor in the arithmetic's dtype if it is floating. CheckpointError when it is missing.
  at::Tensor tensor(const std::string& name) const;
  /// The gradient of `result` to go back from; undefined when the file has none. Errors:
  /// ShapeError.
  at::Tensor cotangent(const at::Tensor& result) const;
  /// Metadata text; "" when absent.
  std::string text(const std::string& key) const;
  /// --config, else the metadata's config.
  Json config() const;
  /// The same, an empty mapping without one. ConfigError when it is no mapping.
  Json config_or_empty() const;
  /// Megatron arguments: config with the attributes and model arguments that stand beside it.
  /// ConfigError when two of them differ.
  Json arguments() const;
  /// From 1; 1 when absent.
  int64_t layer_number() const;

  /// Fills `parameters` below `scope` from param.* tensors, whose names lack `prefix`;
  /// those in `used` are read elsewhere.
  /// Errors: CheckpointError for missing or surplus ones; ShapeError.
  void load(nn::Parameters& parameters, const spec::ModelSpec& spec, const std::string& scope,
            const std::string& prefix, std::set<std::string> used = {}) const;
  /// Adds grad.* of every parameter below `scope` that has a gradient.
  void add_gradients(ProbeOutput& out, const nn::Parameters& parameters,
                     const spec::ModelSpec& spec, const std::string& scope,
                     const std::string& prefix) const;
  /// UnsupportedError when one of `names` is among the tensors.
  void refuse(const std::vector<std::string>& names, const std::string& why) const;
  /// CheckpointError when a param.* tensor is not among `used`.
  void check_surplus(const std::set<std::string>& used) const;
  /// Metadata that holds an integer in [least, most]; none when absent. ConfigError otherwise.
  std::optional<int64_t> integer(const std::string& key, int64_t least, int64_t most) const;

 private:
  /// The file's tensors of a parameter, without `prefix`: experts under the names that the file
  /// uses, a norm that upstream fuses with the projection behind it under its name there.
  std::vector<io::MegatronPart> parts_of(const spec::TensorSpec& tensor,
                                         const spec::ModelSpec& spec,
                                         const std::string& prefix) const;
  const ProbeRequest& request_;
  at::ScalarType dtype_;
};

ProbeOutput probe_attention(const ProbeInput& input);
ProbeOutput probe_cross_attention(const ProbeInput& input);
ProbeOutput probe_dsa(const ProbeInput& input);
ProbeOutput probe_gpt(const ProbeInput& input);
ProbeOutput probe_mla(const ProbeInput& input);
ProbeOutput probe_qk_clip(const ProbeInput& input);
ProbeOutput probe_rope(const ProbeInput& input);
ProbeOutput probe_static_cache(const ProbeInput& input);
ProbeOutput probe_gated_delta_net(const ProbeInput& input);

/// B sequences of S tokens each; packed ones are one of B = 1.
struct ProbeBatch {
  int64_t count;
  int64_t length;
};

/// Mask and window of a layer: the file's `mask`, which a window of the config replaces.
void set_probe_rule(const ProbeInput& input, const spec::MegatronConfig& config,
                    int64_t layer_number, spec::AttentionSpec& attention);
/// UnsupportedError when the file's `mask` lets queries see later keys.
void require_causal(const ProbeInput& input);
/// One sequence a column of the batch, or the boundaries that cu_seqlens gives.
ops::Sequences probe_sequences(const ProbeInput& input, const ProbeBatch& batch);
/// attention_mask (hidden in addition to the rule), attention_bias (a leaf that gets its gradient)
/// and position_ids [3,B,S].
nn::ForwardContext probe_context(const ProbeInput& input, const ProbeBatch& batch);
ProbeOutput probe_gated_delta_rule(const ProbeInput& input);
ProbeOutput probe_causal_conv1d(const ProbeInput& input);
ProbeOutput probe_gated_rms_norm(const ProbeInput& input);
ProbeOutput probe_router(const ProbeInput& input);
ProbeOutput probe_moe_layer(const ProbeInput& input);

/// The `rope` metadata: a rotary spec, and a divisor of positions kept apart from it as upstream.
struct ProbeRope {
  spec::RopeSpec rope;
  double interpolation = 1.0;
};
ProbeRope parse_probe_rope(const Json& json, const std::string& path);

/// Angles [N, pairs] of positions divided by `interpolation`.
at::Tensor rope_angles(const at::Tensor& positions_N, double interpolation,
                       const spec::RopeFrequencies& frequencies, at::ScalarType dtype);
/// [N,P] -> [N,1,1,2P], every angle twice.
at::Tensor rope_table(const at::Tensor& angles_NP, bool in_pairs);

/// Where an entry of a rotary probe file stands: `e3.` of its tensors, config[3] of its arguments.
struct ProbeEntryName {
  std::string prefix;
  std::string path;
};
/// Adds the results of an entry whose op is thd, cp_slice or mrope; false for another op.
bool add_packed_rope_entry(ProbeOutput& out, const ProbeInput& input, const Json& json,
                           const ProbeEntryName& name);

/// Angles [B·M, pairs] of a table [M,B,1,rd] that holds every angle twice.
at::Tensor angles_of(const at::Tensor& table, bool interleaved);

}  // namespace headway::engine
