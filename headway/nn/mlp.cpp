// Dense MLP, gated or plain. Not for: mixtures of experts.
#include "headway/nn/mlp.h"

#include "headway/base/error.h"

namespace headway::nn {

ops::ActivationKind activation_kind(spec::Activation activation) {
  switch (activation) {
    case spec::Activation::kSilu:
      return ops::ActivationKind::kSilu;
    case spec::Activation::kGeluTanh:
      return ops::ActivationKind::kGeluTanh;
    case spec::Activation::kGelu:
      return ops::ActivationKind::kGelu;
    case spec::Activation::kRelu:
      return ops::ActivationKind::kRelu;
    case spec::Activation::kQuickGelu:
      return ops::ActivationKind::kQuickGelu;
  }
  throw InternalError("[nn::DenseMlp] activation is not in the enum");
}

DenseMlp::DenseMlp(const spec::DenseMlpSpec& spec, const ParameterScope& scope)
    : spec_(spec), up_(scope.child("up")), down_(scope.child("down")) {}

at::Tensor DenseMlp::forward(const at::Tensor& x_TD) const {
  const at::Tensor up = up_.forward(x_TD);
  const ops::ActivationKind kind = activation_kind(spec_.activation);
  return down_.forward(spec_.gated ? ops::gated_activation(up, kind, spec_.limit.value_or(0.0))
                                   : ops::activation(up, kind));
}

}  // namespace headway::nn
