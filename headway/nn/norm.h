// A normalisation layer built from its spec, and the residual stream that fuses adds into norms.
// Not for: the arithmetic (ops/norm.h).
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

class Norm {
 public:
  /// Takes `weight` and `bias` of the scope as far as the spec owns them.
  Norm(const spec::NormSpec& spec, const ParameterScope& scope);

  /// x [...,C] -> [...,C].
  at::Tensor forward(const at::Tensor& x) const;
  /// No row of forward() has a larger root mean square, but for rounding.
  double largest_rms() const;
  /// {residual + delta, forward(residual + delta)}; one fused op for RMS norms.
  std::pair<at::Tensor, at::Tensor> add_forward(const at::Tensor& residual,
                                                const at::Tensor& delta) const;

 private:
  spec::NormSpec spec_;
  at::Tensor weight_;
  at::Tensor bias_;
};

/// Norm named `name` in the scope when the spec has one.
std::optional<Norm> make_norm(const std::optional<spec::NormSpec>& spec,
                              const ParameterScope& scope, const std::string& name);

/// norm(x), or x itself without a norm.
at::Tensor apply_norm(const std::optional<Norm>& norm, const at::Tensor& x);

/// The hidden state between blocks. An addition waits until the next norm so that both are one pass
/// over memory.
class ResidualStream {
 public:
  explicit ResidualStream(at::Tensor h_TD) : h_(std::move(h_TD)) {}
  void add(at::Tensor delta_TD);
  /// h <- h·scale, scale [1].
  void scale(const at::Tensor& scale);
  /// norm(h), or h itself without a norm.
  at::Tensor normed(const std::optional<Norm>& norm);
  /// h with everything added.
  at::Tensor value();
  /// {h} or {h, what still waits to be added}; ResidualStream(parts) goes on exactly there.
  std::vector<at::Tensor> parts() const;
  explicit ResidualStream(const std::vector<at::Tensor>& parts);

 private:
  at::Tensor h_;
  at::Tensor pending_;
};

}  // namespace headway::nn
