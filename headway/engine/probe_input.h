// What a probe file holds, asked for by name, and the modules that read it.
// Not for: files (cli reads and writes them).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include <ATen/core/Tensor.h>

#include "headway/engine/probe.h"
#include "headway/nn/parameters.h"
#include "headway/spec/megatron.h"

namespace headway::engine {

using ProbeOutput = std::map<std::string, at::Tensor>;

class ProbeInput {
 public:
  explicit ProbeInput(const ProbeRequest& request);

  at::ScalarType dtype() const { return dtype_; }
  bool has(const std::string& name) const { return request_.tensors.contains(name); }
  /// A tensor in the arithmetic's dtype if it is floating. CheckpointError when it is missing.
  at::Tensor tensor(const std::string& name) const;
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

 private:
  void check_surplus(const std::set<std::string>& used) const;

  const ProbeRequest& request_;
  at::ScalarType dtype_;
};

ProbeOutput probe_attention(const ProbeInput& input);
ProbeOutput probe_gpt(const ProbeInput& input);
ProbeOutput probe_rope(const ProbeInput& input);
ProbeOutput probe_gated_delta_rule(const ProbeInput& input);
ProbeOutput probe_causal_conv1d(const ProbeInput& input);
ProbeOutput probe_gated_rms_norm(const ProbeInput& input);

/// The `rope` metadata: a rotary spec, and a divisor of positions kept apart from it as upstream.
struct ProbeRope {
  spec::RopeSpec rope;
  double interpolation = 1.0;
};
ProbeRope parse_probe_rope(const Json& json, const std::string& path);

/// Angles [M, pairs] of a table [M,1,1,rd] that holds every angle twice.
at::Tensor angles_of(const at::Tensor& table, bool interleaved);

}  // namespace headway::engine
