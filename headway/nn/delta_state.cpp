// Not for: anything but delta_state.h.
#include "headway/nn/delta_state.h"

#include <ATen/Functions.h>

#include "headway/spec/gated_delta_net.h"

namespace headway::nn {

void DeltaState::allocate(const at::Tensor& like) {
  if (inputs_.defined()) return;
  const spec::DeltaWidths widths(spec_);
  const auto options = like.options().requires_grad(false);
  const at::ScalarType wide = like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  inputs_ = at::zeros({count_, spec_.conv_size - 1, widths.conv}, options);
  states_ = at::zeros({count_, spec_.num_value_heads, spec_.key_head_dim, spec_.value_head_dim},
                      options.dtype(wide));
}

const at::Tensor& DeltaState::states_MHKV(const at::Tensor& like) {
  allocate(like);
  return states_;
}

at::Tensor DeltaState::gather_inputs(const at::Tensor& like) {
  allocate(like);
  std::vector<at::Tensor> rows;
  for (const int64_t slot : *slots_) {
    rows.push_back(slot < 0 ? at::zeros_like(inputs_[0]) : inputs_[slot]);
  }
  return rows.empty() ? inputs_.narrow(0, 0, 0) : at::stack(rows);
}

void DeltaState::scatter_inputs(const at::Tensor& inputs_NPC) {
  for (size_t n = 0; n < slots_->size(); ++n) {
    const int64_t slot = (*slots_)[n];
    if (slot >= 0) inputs_[slot].copy_(inputs_NPC[static_cast<int64_t>(n)]);
  }
}

void DeltaState::clear(int64_t slot) {
  if (!inputs_.defined()) return;
  inputs_[slot].zero_();
  states_[slot].zero_();
}

DeltaState DeltaState::snapshot() const {
  DeltaState copy = *this;
  if (inputs_.defined()) {
    copy.inputs_ = inputs_.clone();
    copy.states_ = states_.clone();
  }
  return copy;
}

int64_t DeltaState::bytes() const {
  return inputs_.defined() ? static_cast<int64_t>(inputs_.nbytes() + states_.nbytes()) : 0;
}

}  // namespace headway::nn
