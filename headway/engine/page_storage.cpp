// Memory of pages and its views. Not for: page ids.
#include "headway/engine/page_storage.h"

#include <algorithm>

#include <ATen/Functions.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"

namespace headway::engine {
namespace {

template <class T>
at::Tensor to_tensor(const std::vector<T>& values, at::ScalarType type, at::IntArrayRef sizes) {
  at::Tensor tensor = at::empty(sizes, type);
  std::copy(values.begin(), values.end(), tensor.data_ptr<T>());
  return tensor;
}

}  // namespace

PageStorage::PageStorage(const PagePlan& plan, int64_t num_blocks, at::ScalarType dtype,
                         at::Device device)
    : plan_(plan),
      num_blocks_(num_blocks),
      page_bytes_(plan.page_bytes(static_cast<int64_t>(at::elementSize(dtype)))),
      options_(at::TensorOptions().dtype(dtype).device(device)) {
  checked_mul<ConfigError>(num_blocks, page_bytes_, "page storage");
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    steps_.push_back(std::make_shared<nn::PageStep>());
  }
  memory_ = at::empty({num_blocks_, plan_.page_elements}, options_);
  build_state();
}

void PageStorage::build_state() {
  state_.layers.clear();
  const auto view = [this](int64_t offset, const PageLayer& layer, int64_t dim) {
    return memory_.narrow(1, offset, plan_.block_size * layer.kv_heads * dim)
        .unflatten(1, {plan_.block_size, layer.kv_heads, dim});
  };
  for (const PageLayer& layer : plan_.layers) {
    if (layer.group < 0) {
      state_.layers.emplace_back(nn::NoState());
      continue;
    }
    state_.layers.emplace_back(nn::PagedKv(view(layer.k_offset, layer, layer.key_dim),
                                           view(layer.v_offset, layer, layer.value_dim),
                                           steps_[static_cast<size_t>(layer.group)]));
  }
}

nn::ModelState& PageStorage::state() {
  if (!allocated()) {
    throw ContextOverflow(Refusal::kReleased, "[page storage] the pages are released; resume");
  }
  return state_;
}

ops::Sequences PageStorage::load(const ContextStep& step) {
  const int64_t rows = step.rows() + (step.padding > 0 ? 1 : 0);
  for (size_t g = 0; g < steps_.size(); ++g) {
    std::vector<int32_t> table = step.groups[g].block_table;
    table.resize(static_cast<size_t>(rows * step.table_width), -1);
    steps_[g]->block_table_NM = to_tensor(table, at::kInt, {rows, step.table_width});
    const auto tokens = static_cast<int64_t>(step.groups[g].slots.size());
    steps_[g]->slots_T = to_tensor(step.groups[g].slots, at::kLong, {tokens});
  }
  ops::Sequences sequences;
  const auto add = [&sequences](int64_t queries, int64_t keys) {
    sequences.cu_q.push_back(sequences.cu_q.back() + queries);
    sequences.cu_k.push_back(sequences.cu_k.back() + keys);
    sequences.max_q = std::max(sequences.max_q, queries);
    sequences.max_k = std::max(sequences.max_k, keys);
  };
  for (size_t n = 0; n < step.request_ids.size(); ++n) {
    add(step.query_lengths[n], step.kv_lengths[n]);
  }
  if (step.padding > 0) add(step.padding, 0);
  sequences.positions =
      to_tensor(step.positions, at::kLong, {static_cast<int64_t>(step.positions.size())});
  sequences.position_limit = std::max<int64_t>(1, sequences.max_k);
  return sequences;
}

void PageStorage::offload() {
  host_copy_ =
      memory_.to(at::TensorOptions().device(at::kCPU), /*non_blocking=*/false, /*copy=*/true);
  drop();
}

void PageStorage::drop() {
  state_.layers.clear();
  memory_ = at::Tensor();
}

void PageStorage::restore() {
  if (allocated()) return;
  if (host_copy_.defined()) {
    memory_ = host_copy_.to(options_.device());
    host_copy_ = at::Tensor();
  } else {
    memory_ = at::empty({num_blocks_, plan_.page_elements}, options_);
  }
  build_state();
}

}  // namespace headway::engine
