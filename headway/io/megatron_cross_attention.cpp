// Row order of linear_kv and the table of names. Not for: files.
#include "headway/io/megatron_cross_attention.h"

#include <array>
#include <string_view>
#include <utility>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

constexpr auto kNames = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"q.", "linear_q."},
    {"kv.", "linear_kv."},
    {"out.", "linear_proj."},
    {"sinks", "core_attention.softmax_offset"},
});

void check_rows(const at::Tensor& tensor, const spec::CrossAttentionSpec& spec) {
  const int64_t rows = spec.num_heads * (spec.head_dim + spec.v_head_dim);
  if (tensor.dim() >= 1 && tensor.size(0) == rows) return;
  throw ShapeError("[megatron_layout] rows of linear_kv = " +
                   std::to_string(tensor.dim() >= 1 ? tensor.size(0) : 0) + ", allowed " +
                   std::to_string(rows));
}

}  // namespace

std::string megatron_cross_name(const std::string& parameter) {
  for (const auto& [ours, megatron] : kNames) {
    if (parameter.starts_with(ours)) return std::string(megatron) + parameter.substr(ours.size());
  }
  throw InternalError("[megatron_layout] parameter = " + parameter +
                      ", allowed those of cross-attention");
}

at::Tensor kv_from_megatron(const at::Tensor& megatron, const spec::CrossAttentionSpec& spec) {
  check_rows(megatron, spec);
  const at::Tensor heads = megatron.unflatten(0, {spec.num_heads, spec.head_dim + spec.v_head_dim});
  return at::cat({heads.narrow(1, 0, spec.head_dim).flatten(0, 1),
                  heads.narrow(1, spec.head_dim, spec.v_head_dim).flatten(0, 1)});
}

at::Tensor kv_to_megatron(const at::Tensor& ours, const spec::CrossAttentionSpec& spec) {
  check_rows(ours, spec);
  const int64_t key_rows = spec.num_heads * spec.head_dim;
  const at::Tensor keys = ours.narrow(0, 0, key_rows).unflatten(0, {spec.num_heads, spec.head_dim});
  const at::Tensor values = ours.narrow(0, key_rows, ours.size(0) - key_rows)
                                .unflatten(0, {spec.num_heads, spec.v_head_dim});
  return at::cat({keys, values}, 1).flatten(0, 1);
}

}  // namespace headway::io
