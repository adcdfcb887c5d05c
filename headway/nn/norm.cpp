// Norm module chosen by its spec. Not for: the arithmetic (ops).
#include "headway/nn/norm.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/linear.h"
#include "headway/ops/norm.h"

namespace headway::nn {
namespace {

ops::NormFlavour flavour_of(spec::NormWeight weight) {
  switch (weight) {
    case spec::NormWeight::kPlain:
      return ops::NormFlavour::kPlain;
    case spec::NormWeight::kZeroCentered:
      return ops::NormFlavour::kZeroCentered;
    case spec::NormWeight::kFp32:
      return ops::NormFlavour::kFp32Weight;
    case spec::NormWeight::kNone:
      return ops::NormFlavour::kNoWeight;
  }
  throw InternalError("[nn::Norm] weight flavour is not in the enum");
}

}  // namespace

Norm::Norm(const spec::NormSpec& spec, const ParameterScope& scope)
    : spec_(spec), weight_(scope.take_optional("weight")), bias_(scope.take_optional("bias")) {}

at::Tensor Norm::forward(const at::Tensor& x) const {
  if (spec_.kind == spec::NormKind::kLayer) return ops::layer_norm(x, weight_, bias_, spec_.eps);
  return ops::rms_norm(x, weight_, spec_.eps, flavour_of(spec_.weight));
}

double Norm::largest_rms() const {
  const at::NoGradGuard no_grad;
  const auto largest = [](const at::Tensor& x) { return x.abs().max().item<double>(); };
  double bound = 1.0;
  if (weight_.defined()) {
    const bool around_one = spec_.weight == spec::NormWeight::kZeroCentered;
    bound = largest(around_one && spec_.kind == spec::NormKind::kRms ? weight_ + 1 : weight_);
  }
  return bias_.defined() ? bound + largest(bias_) : bound;
}

std::pair<at::Tensor, at::Tensor> Norm::add_forward(const at::Tensor& residual,
                                                    const at::Tensor& delta) const {
  if (spec_.kind == spec::NormKind::kLayer) {
    at::Tensor sum = residual + delta;
    return {sum, forward(sum)};
  }
  return ops::add_rms_norm(residual, delta, weight_, spec_.eps, flavour_of(spec_.weight));
}

std::optional<Norm> make_norm(const std::optional<spec::NormSpec>& spec,
                              const ParameterScope& scope, const std::string& name) {
  if (!spec) return std::nullopt;
  return Norm(*spec, scope.child(name));
}

at::Tensor apply_norm(const std::optional<Norm>& norm, const at::Tensor& x) {
  return norm ? norm->forward(x) : x;
}

ResidualStream::ResidualStream(const std::vector<at::Tensor>& parts) : h_(parts.at(0)) {
  if (parts.size() > 1) pending_ = parts[1];
}

std::vector<at::Tensor> ResidualStream::parts() const {
  if (pending_.defined()) return {h_, pending_};
  return {h_};
}

void ResidualStream::add(at::Tensor delta_TD) {
  h_ = value();
  pending_ = std::move(delta_TD);
}

void ResidualStream::scale(const at::Tensor& scale) {
  h_ = pending_.defined() ? ops::scaled_residual(h_, pending_, scale) : h_ * scale;
  pending_.reset();
}

at::Tensor ResidualStream::normed(const std::optional<Norm>& norm) {
  if (!norm) return value();
  if (!pending_.defined()) return norm->forward(h_);
  auto [sum, y] = norm->add_forward(h_, pending_);
  pending_.reset();
  h_ = std::move(sum);
  return y;
}

at::Tensor ResidualStream::value() {
  if (pending_.defined()) {
    h_ = h_ + pending_;
    pending_.reset();
  }
  return h_;
}

}  // namespace headway::nn
