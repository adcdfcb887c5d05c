// Rotation as its formula reads. Not for: argument checks (rope.cpp).
#include "headway/ops/reference/rope_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {

at::Tensor rope(const internal::RopeArguments& arguments) {
  const at::Tensor& x = arguments.x;
  const int64_t pairs = arguments.cos.size(1);
  const at::Tensor rows = arguments.positions.to(x.device());
  const at::Tensor cos = arguments.cos.index_select(0, rows).unsqueeze(1);  // [T,1,P]
  at::Tensor sin = arguments.sin.index_select(0, rows).unsqueeze(1);
  if (arguments.inverse) sin = -sin;

  const at::Tensor turned = x.narrow(-1, 0, 2 * pairs).to(internal::accumulate_type(x));
  // Either layout as two halves: a and b of every pair.
  const at::Tensor a =
      arguments.interleaved ? turned.slice(-1, 0, 2 * pairs, 2) : turned.narrow(-1, 0, pairs);
  const at::Tensor b =
      arguments.interleaved ? turned.slice(-1, 1, 2 * pairs, 2) : turned.narrow(-1, pairs, pairs);
  const at::Tensor y_a = a * cos - b * sin, y_b = b * cos + a * sin;
  at::Tensor y =
      arguments.interleaved ? at::stack({y_a, y_b}, -1).flatten(-2) : at::cat({y_a, y_b}, -1);
  y = y.to(x.scalar_type());
  return at::cat({y, x.narrow(-1, 2 * pairs, x.size(-1) - 2 * pairs)}, -1).contiguous();
}

}  // namespace headway::ops::reference
