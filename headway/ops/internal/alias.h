// Views that autograd does not know as views: what a custom node returns for parts of its input.
// Not for: callers outside ops.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/variable.h>

namespace headway::ops::internal {

/// x.narrow(dim, begin, length), sharing memory and version counter, without a record of it.
inline at::Tensor alias_run(const at::Tensor& x, int64_t dim, int64_t begin, int64_t length) {
  const at::AutoDispatchBelowADInplaceOrView no_view_record;
  at::Tensor run = x.narrow(dim, begin, length);
  torch::autograd::impl::set_version_counter(run, torch::autograd::impl::version_counter(x));
  return run;
}

}  // namespace headway::ops::internal
