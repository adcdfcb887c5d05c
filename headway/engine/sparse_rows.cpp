// See sparse_rows.h. Not for: gradients (ops/embedding.h makes them).
#include "headway/engine/sparse_rows.h"

#include <algorithm>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

constexpr int64_t kFirstRows = 1024;

/// The first `used` rows of `old` in a tensor of `rows` rows.
at::Tensor grown(const at::Tensor& old, int64_t used, int64_t rows) {
  std::vector<int64_t> shape = old.sizes().vec();
  shape[0] = rows;
  at::Tensor fresh = at::empty(shape, old.options());
  fresh.narrow(0, 0, used).copy_(old.narrow(0, 0, used));
  return fresh;
}

}  // namespace

SparseRows::SparseRows(at::Tensor table) : table_(std::move(table)) {
  const bool wide = table_.scalar_type() == at::kFloat || table_.scalar_type() == at::kDouble;
  const at::TensorOptions options =
      table_.options().requires_grad(false).dtype(wide ? table_.scalar_type() : at::kFloat);
  slot_of_row_.assign(static_cast<size_t>(table_.size(0)), -1);
  rows_ = at::empty({0}, at::kLong);
  exp_avg_ = at::empty({0, table_.size(1)}, options);
  exp_avg_sq_ = at::empty({0, table_.size(1)}, options);
  if (!wide) master_ = at::empty({0, table_.size(1)}, options);
}

void SparseRows::reserve(int64_t count) {
  if (count <= rows_.size(0)) return;
  const int64_t rows = std::min(table_.size(0), std::max({count, 2 * rows_.size(0), kFirstRows}));
  for (at::Tensor* held : {&rows_, &exp_avg_, &exp_avg_sq_, &master_}) {
    if (held->defined()) *held = grown(*held, count_, rows);
  }
}

at::Tensor SparseRows::slots_of(const at::Tensor& rows_R) {
  const at::Tensor rows = rows_R.to(at::kCPU).contiguous();
  const int64_t* row = rows.const_data_ptr<int64_t>();
  const int64_t wanted = rows.size(0);
  int64_t fresh = 0;
  for (int64_t i = 0; i < wanted; ++i) fresh += slot_of_row_[static_cast<size_t>(row[i])] < 0;
  reserve(count_ + fresh);
  at::Tensor slots = at::empty({wanted}, at::kLong);
  const int64_t first = count_;
  for (int64_t i = 0; i < wanted; ++i) {
    int64_t& slot = slot_of_row_[static_cast<size_t>(row[i])];
    if (slot < 0) {
      slot = count_++;
      rows_.data_ptr<int64_t>()[slot] = row[i];
    }
    slots.data_ptr<int64_t>()[i] = slot;
  }
  if (count_ > first) {
    const at::Tensor reached = rows_.narrow(0, first, count_ - first).to(table_.device());
    exp_avg_.narrow(0, first, count_ - first).zero_();
    exp_avg_sq_.narrow(0, first, count_ - first).zero_();
    if (is_narrow()) {
      master_.narrow(0, first, count_ - first).copy_(table_.detach().index_select(0, reached));
    }
  }
  return slots.to(table_.device());
}

void SparseRows::update(const at::Tensor& rows_R, const at::Tensor& gradients_RC,
                        const config::OptimizerConfig& config, const AdamStep& step) {
  const at::NoGradGuard no_grad;
  if (rows_R.size(0) == 0) return;
  at::Tensor table = table_.detach();
  const at::Tensor slots = slots_of(rows_R);
  const at::Tensor weights =
      is_narrow() ? master_.index_select(0, slots) : table.index_select(0, rows_R);
  const at::Tensor averages = exp_avg_.index_select(0, slots);
  const at::Tensor squares = exp_avg_sq_.index_select(0, slots);
  // As in the dense update: the fused one rounds its divisor to float32.
  const bool wide = weights.scalar_type() == at::kDouble;
  const at::Tensor gradients =
      wide && step.divisor != 1.0 ? gradients_RC / step.divisor : gradients_RC.contiguous();
  const auto number = weights.options().dtype(at::kFloat);
  std::optional<at::Tensor> scale;
  if (!wide && step.divisor != 1.0) scale = at::full({}, step.divisor, number);
  at::_fused_adamw_({weights}, {gradients}, {averages}, {squares}, {},
                    {at::full({}, static_cast<float>(step.step), number)}, step.lr, config.betas[0],
                    config.betas[1], step.decay, config.eps, /*amsgrad=*/false,
                    /*maximize=*/false, scale);
  exp_avg_.index_copy_(0, slots, averages);
  exp_avg_sq_.index_copy_(0, slots, squares);
  if (is_narrow()) master_.index_copy_(0, slots, weights);
  table.index_copy_(0, rows_R, weights.to(table.scalar_type()));
}

void SparseRows::add_state(const std::string& name,
                           std::map<std::string, at::Tensor>& state) const {
  state["rows." + name] = rows_.narrow(0, 0, count_);
  state["exp_avg." + name] = exp_avg_.narrow(0, 0, count_);
  state["exp_avg_sq." + name] = exp_avg_sq_.narrow(0, 0, count_);
  if (is_narrow()) state["master." + name] = master_.narrow(0, 0, count_);
}

void SparseRows::prepare(int64_t count) {
  if (count < 0 || count > table_.size(0)) {
    throw CheckpointError(fmt::format("[optimizer] rows = {}, allowed at most the table's {}",
                                      count, table_.size(0)));
  }
  std::fill(slot_of_row_.begin(), slot_of_row_.end(), -1);
  count_ = 0;
  reserve(count);
  count_ = count;
}

void SparseRows::adopt(const std::string& name) {
  const int64_t* row = rows_.const_data_ptr<int64_t>();
  for (int64_t slot = 0; slot < count_; ++slot) {
    const bool fits = row[slot] >= 0 && row[slot] < table_.size(0);
    if (!fits || slot_of_row_[static_cast<size_t>(row[slot])] >= 0) {
      throw CheckpointError(fmt::format(
          "[optimizer] rows.{}[{}] = {}, allowed rows of the table (0 .. {}), each once", name,
          slot, row[slot], table_.size(0) - 1));
    }
    slot_of_row_[static_cast<size_t>(row[slot])] = slot;
  }
  if (count_ == 0 || !is_narrow()) return;
  const at::NoGradGuard no_grad;
  at::Tensor table = table_.detach();
  table.index_copy_(0, rows_.narrow(0, 0, count_).to(table.device()),
                    master_.narrow(0, 0, count_).to(table.scalar_type()));
}

int64_t SparseRows::bytes() const {
  int64_t total = static_cast<int64_t>(slot_of_row_.size() * sizeof(int64_t));
  for (const at::Tensor* held : {&rows_, &exp_avg_, &exp_avg_sq_, &master_}) {
    if (held->defined()) total += static_cast<int64_t>(held->nbytes());
  }
  return total;
}

}  // namespace headway::engine
