// See sinks.h. Not for: which layers have them.
#include "headway/nn/sinks.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::nn {

at::Tensor take_sinks(spec::SinkKind kind, int64_t num_heads, const ParameterScope& scope) {
  switch (kind) {
    case spec::SinkKind::kNone:
      return {};
    case spec::SinkKind::kLearnable:
      return scope.take("sinks");
    case spec::SinkKind::kOffByOne: {
      const Parameters& parameters = scope.parameters();
      return at::zeros({num_heads}, at::dtype(parameters.dtype()).device(parameters.device()));
    }
  }
  throw InternalError("[nn::take_sinks] sink kind is not in the enum");
}

}  // namespace headway::nn
