// Linear + cross-entropy as its formula reads. Not for: speed or large vocabularies.
#include "headway/ops/reference/linear_cross_entropy_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {

internal::CrossEntropySums linear_cross_entropy(const internal::CrossEntropyArguments& a) {
  const at::ScalarType type = internal::accumulate_type(a.x);
  const at::Tensor labels = a.labels.unsqueeze(1);
  at::Tensor z = at::mm(a.x, a.weight.t()).to(type);
  if (a.softcap > 0) z = a.softcap * at::tanh(z / a.softcap);
  const at::Tensor lse = at::logsumexp(z, 1, /*keepdim=*/true);
  internal::CrossEntropySums sums;
  sums.ce = (lse - z.gather(1, labels)).sum(at::kDouble).item<double>();
  sums.z2 = lse.to(at::kDouble).square().sum().item<double>();
  if (!a.wants_dx && !a.wants_dw) return sums;
  const at::Tensor p = at::exp(z - lse);
  const at::Tensor onehot = at::zeros_like(p).scatter_(1, labels, 1.0);
  at::Tensor dz = p - onehot + 2 * a.z_loss * lse * p;
  if (a.softcap > 0) dz = dz * (1 - (z / a.softcap).square());
  dz = (dz / a.divisor).to(a.x.scalar_type());
  if (a.wants_dx) sums.dx = at::mm(dz, a.weight);
  if (a.wants_dw) sums.dw = at::mm(dz.t(), a.x);
  return sums;
}

}  // namespace headway::ops::reference
