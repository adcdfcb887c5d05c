// Dense MLP, gated or plain, and what every kind of MLP takes.
// Not for: mixtures of experts (moe.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/parameters.h"
#include "headway/nn/routing_record.h"
#include "headway/ops/activation.h"
#include "headway/ops/sequences.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

struct MlpInput {
  const at::Tensor& x_TD;            // normed hidden states, packed
  const ops::Sequences& sequences;   // boundaries of the T tokens
  RoutingRecord* routing = nullptr;  // filled by routers where there is one
};

/// The op's name of an activation.
ops::ActivationKind activation_kind(spec::Activation activation);

/// gated: down( act(gate x) ∘ up x ), `gate | up` being one projection; plain: down( act(up x) ).
class DenseMlp {
 public:
  /// Takes up.{weight,bias} and down.{weight,bias} of the scope.
  DenseMlp(const spec::DenseMlpSpec& spec, const ParameterScope& scope);
  /// x [T,D] -> [T,D].
  at::Tensor forward(const at::Tensor& x_TD) const;
  at::Tensor forward(const MlpInput& input) const { return forward(input.x_TD); }

 private:
  spec::DenseMlpSpec spec_;
  Linear up_;
  Linear down_;
};

}  // namespace headway::nn
