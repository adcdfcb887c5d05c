// A layer's rows in pages. Not for: page ids.
#include "headway/nn/paged_kv.h"

namespace headway::nn {

ops::PagedKeys PagedKv::append(const at::Tensor& k_TGK, const at::Tensor& v_TGV) {
  ops::store_pages(k_, k_TGK, step_->slots_T);
  if (v_TGV.size(2) > 0) ops::store_pages(v_, v_TGV, step_->slots_T);
  return {k_, v_, step_->block_table_NM};
}

int64_t PagedKv::bytes() const {
  return (k_.numel() + v_.numel()) * static_cast<int64_t>(k_.element_size());
}

}  // namespace headway::nn
