// See adapter.h. Not for: choosing what is adapted.
#include "headway/nn/adapter.h"

#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"

namespace headway::nn {

std::shared_ptr<const ops::LowRank> low_rank_of(const ParameterScope& scope) {
  const at::Tensor a = scope.take_optional(spec::kAdapterA);
  if (!a.defined()) return nullptr;
  if (scope.parameters().adapter() == nullptr) {
    throw InternalError("[nn::Linear] the inventory has pairs, but no adapter says their scale");
  }
  auto pairs = std::make_shared<ops::LowRank>();
  pairs->a_NI = a;
  pairs->b_PR = scope.take(spec::kAdapterB);
  pairs->magnitude_P = scope.take_optional(spec::kAdapterMagnitude);
  pairs->scale = scope.parameters().adapter()->scale();
  for (const spec::RowSegment& adapted : scope.spec_of(spec::kAdapterB).segments) {
    for (const spec::RowSegment& rows : scope.spec_of("weight").segments) {
      if (rows.name == adapted.name) pairs->runs.push_back({rows.begin, rows.rows});
    }
  }
  return pairs;
}

void reset_magnitudes(Parameters& parameters) {
  const at::NoGradGuard no_grad;
  const std::string ending = std::string(".") + spec::kAdapterMagnitude;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const std::string& name = parameters.specs()[i].name;
    if (!name.ends_with(ending)) continue;
    const std::string projection = name.substr(0, name.size() - ending.size() + 1);
    const auto pairs = low_rank_of(ParameterScope(parameters, projection));
    parameters.tensors()[i].detach().copy_(
        ops::low_rank_row_norms(parameters.get(projection + "weight"), *pairs));
  }
}

}  // namespace headway::nn
