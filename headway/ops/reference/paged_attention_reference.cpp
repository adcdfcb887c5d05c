// Paged attention as its definition reads: the visible rows of every sequence, side by side, then
// the reference of ordinary attention. Not for: speed.
#include "headway/ops/reference/paged_attention_reference.h"

#include "headway/ops/internal/attention_kernel.h"
#include "headway/ops/reference/attention_reference.h"

namespace headway::ops::reference {

at::Tensor paged_attention(const internal::PagedAttentionArguments& a) {
  std::vector<PageRows> rows;
  std::vector<int64_t> cu_k{0};
  for (int64_t n = 0; n < a.sequences.num_sequences(); ++n) {
    const int64_t sq = a.sequences.cu_q[n + 1] - a.sequences.cu_q[n];
    const int64_t sk = a.sequences.cu_k[n + 1] - a.sequences.cu_k[n];
    // Rows behind the window of the first query may have lost their page. Without them the last
    // query still stands on the last key, so the rule means the same.
    const int64_t first =
        sq == 0 ? sk : std::min(sk, internal::visible_keys(a.options.rule, 0, sq, sk).first);
    rows.push_back({n, first, sk});
    cu_k.push_back(cu_k.back() + sk - first);
  }
  const at::Tensor k = gather_pages(a.keys.k_PBGK, a.keys.block_table_NM, rows);
  const at::Tensor v = gather_pages(a.keys.v_PBGV, a.keys.block_table_NM, rows);
  return attention_forward({a.q, k, v, a.sinks, a.sequences.cu_q, cu_k, a.options}).out;
}

}  // namespace headway::ops::reference
