// Hands sequences whose keys lie in pages to the CPU attention kernels. Not for: arithmetic.
#include "headway/ops/cpu/paged_attention.h"

#include <ATen/Functions.h>

#include "headway/ops/cpu/attention_plan.h"

namespace headway::ops::cpu {

Support paged_attention_supports(const internal::PagedAttentionArguments& a) {
  if (!a.q.device().is_cpu())
    return Support::no("device " + a.q.device().str() + " is not the CPU");
  if (a.q.scalar_type() == at::kDouble)
    return Support::no("float64 is computed by the reference only");
  return Support::yes();
}

at::Tensor paged_attention(const internal::PagedAttentionArguments& a) {
  const TargetScope target(forced_target("paged_attention"));
  // The rows of a page look like an ordinary [S,G,K]; spans know which page comes next.
  const internal::AttentionArguments flat{
      a.q,      a.keys.k_PBGK.select(0, 0), a.keys.v_PBGV.select(0, 0),
      a.sinks,  a.sequences.cu_q,           a.sequences.cu_k,
      a.options};
  at::Tensor sinks;
  AttentionProblem problem = make_problem(flat, sinks);
  problem.page_rows = a.keys.k_PBGK.size(1);
  problem.k.page = a.keys.k_PBGK.stride(0);
  problem.v.page = a.keys.v_PBGV.stride(0);
  std::vector<SequenceSpan> spans;
  const auto* table = a.keys.block_table_NM.const_data_ptr<int32_t>();
  for (int64_t n = 0; n < a.sequences.num_sequences(); ++n) {
    if (auto span = make_span(flat, n)) {
      span->pages = table + n * a.keys.block_table_NM.size(1);
      spans.push_back(*span);
    }
  }
  const at::Tensor out =
      at::empty({a.q.size(0), a.q.size(1), a.keys.v_PBGV.size(3)}, a.q.options());
  const at::Tensor lse = at::empty({a.q.size(1), a.q.size(0)}, a.q.options().dtype(at::kDouble));
  problem.out = view_of(out);
  problem.lse = lse.data_ptr<double>();
  forward_spans(problem, spans, flat.k.size(1));
  return out;
}

}  // namespace headway::ops::cpu
