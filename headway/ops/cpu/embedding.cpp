// Embedding on the CPU: copies of rows forward, sums of rows backward. Memory-bound, so the
// compiler's own vectors do. Not for: other devices.
#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include "headway/ops/internal/embedding_kernel.h"
#include "headway/ops/internal/lazy_zeros.h"

namespace headway::ops::internal {
namespace {

// Elements a thread should at least get.
constexpr int64_t kGrain = 1 << 14;

int64_t row_grain(int64_t width) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width));
}

template <class T>
void copy_rows(const int64_t* ids, const T* table, T* out, int64_t tokens, int64_t width,
               double scale) {
  using A = at::opmath_type<T>;
  const A factor = static_cast<A>(scale);
  at::parallel_for(0, tokens, row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const T* from = table + ids[t] * width;
      T* to = out + t * width;
      if (scale == 1.0) {
        std::copy(from, from + width, to);
      } else {
        for (int64_t d = 0; d < width; ++d)
          to[d] = static_cast<T>(static_cast<A>(from[d]) * factor);
      }
    }
  });
}

/// Tokens sorted by id, equal ids in token order; `begins` has the first place of every id.
struct Groups {
  std::vector<int64_t> tokens;
  std::vector<int64_t> begins;
};

Groups group_tokens(const int64_t* ids, int64_t count, int64_t padding_id) {
  Groups groups;
  for (int64_t t = 0; t < count; ++t) {
    if (ids[t] != padding_id) groups.tokens.push_back(t);
  }
  std::stable_sort(groups.tokens.begin(), groups.tokens.end(),
                   [ids](int64_t a, int64_t b) { return ids[a] < ids[b]; });
  for (size_t i = 0; i < groups.tokens.size(); ++i) {
    if (i == 0 || ids[groups.tokens[i]] != ids[groups.tokens[i - 1]]) {
      groups.begins.push_back(static_cast<int64_t>(i));
    }
  }
  groups.begins.push_back(static_cast<int64_t>(groups.tokens.size()));
  return groups;
}

template <class T>
void sum_groups(const Groups& groups, const int64_t* ids, const T* d_out, T* d_table,
                std::pair<int64_t, double> width_and_scale) {
  using A = at::opmath_type<T>;
  const int64_t width = width_and_scale.first;
  const A factor = static_cast<A>(width_and_scale.second);
  const int64_t count = static_cast<int64_t>(groups.begins.size()) - 1;
  at::parallel_for(0, count, row_grain(width), [&](int64_t begin, int64_t end) {
    std::vector<A> sum(width);
    for (int64_t g = begin; g < end; ++g) {
      std::fill(sum.begin(), sum.end(), A(0));
      for (int64_t i = groups.begins[g]; i < groups.begins[g + 1]; ++i) {
        const T* from = d_out + groups.tokens[i] * width;
        for (int64_t d = 0; d < width; ++d) sum[d] += static_cast<A>(from[d]);
      }
      T* to = d_table + ids[groups.tokens[groups.begins[g]]] * width;
      for (int64_t d = 0; d < width; ++d) to[d] = static_cast<T>(sum[d] * factor);
    }
  });
}

}  // namespace

Support embedding_cpu_supports(const EmbeddingArguments& arguments) {
  if (!arguments.device.is_cpu()) return Support::no("it runs on the CPU only");
  return Support::yes();
}

at::Tensor embedding_cpu_forward(const EmbeddingArguments& arguments, const at::Tensor& table_VD) {
  const at::Tensor ids = arguments.ids.contiguous();
  const at::Tensor table = table_VD.contiguous();
  at::Tensor out = at::empty({ids.size(0), table.size(1)}, table.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, table.scalar_type(), "embedding", [&] {
    copy_rows(ids.const_data_ptr<int64_t>(), table.const_data_ptr<scalar_t>(),
              out.data_ptr<scalar_t>(), ids.size(0), table.size(1), arguments.scale);
  });
  return out;
}

at::Tensor embedding_cpu_backward(const EmbeddingArguments& arguments, const at::Tensor& d_out_TD) {
  const at::Tensor ids = arguments.ids.contiguous();
  const at::Tensor d_out = d_out_TD.contiguous();
  at::Tensor d_table = lazy_zeros({arguments.rows, d_out.size(1)}, d_out.scalar_type());
  const int64_t* values = ids.const_data_ptr<int64_t>();
  const Groups groups = group_tokens(values, ids.size(0), arguments.padding_id);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kBFloat16, at::kHalf, d_out.scalar_type(), "embedding_backward", [&] {
        sum_groups(groups, values, d_out.const_data_ptr<scalar_t>(), d_table.data_ptr<scalar_t>(),
                   {d_out.size(1), arguments.scale});
      });
  return d_table;
}

}  // namespace headway::ops::internal
