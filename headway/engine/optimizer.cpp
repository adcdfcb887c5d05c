// The fused AdamW of the library on row runs of every parameter. Not for: learning rates.
#include "headway/engine/optimizer.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/engine/gradient_norm.h"

namespace headway::engine {

Optimizer::Optimizer(const nn::Parameters& parameters, const config::OptimizerConfig& config)
    : config_(config) {
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const spec::TensorSpec& spec = parameters.specs()[i];
    Entry entry;
    entry.name = spec.name;
    entry.parameter = parameters.tensors()[i];
    if (!entry.parameter.requires_grad()) continue;
    const bool wide =
        entry.parameter.scalar_type() == at::kFloat || entry.parameter.scalar_type() == at::kDouble;
    if (spec.row_sparse && config.sparse_rows) {
      entry.sparse = std::make_shared<SparseRows>(entry.parameter);
    } else {
      entry.master = wide ? entry.parameter : entry.parameter.detach().to(at::kFloat);
      entry.exp_avg = at::zeros_like(entry.master.detach());
      entry.exp_avg_sq = at::zeros_like(entry.master.detach());
    }
    for (const spec::RowSegment& segment : spec.segments) {
      if (!entry.runs.empty() && entry.runs.back().decay == segment.decay) {
        entry.runs.back().rows += segment.rows;
      } else {
        entry.runs.push_back({segment.begin, segment.rows, segment.decay});
      }
    }
    entries_.push_back(std::move(entry));
  }
}

at::Tensor Optimizer::gradient_of(const Entry& entry) const {
  if (entry.sparse) return entry.sum.defined() ? entry.sum._values() : at::Tensor();
  const at::Tensor& gradient = entry.is_narrow() ? entry.sum : entry.parameter.grad();
  return gradient.defined() ? gradient.contiguous() : gradient;
}

void Optimizer::collect() {
  at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    at::Tensor& grad = entry.parameter.mutable_grad();
    const bool moves = entry.sparse || entry.is_narrow();
    if (!moves || !grad.defined()) continue;
    if (entry.sparse) {
      // A dense gradient, of a model that was not told, is taken for its rows that are not zero.
      const at::Tensor rows = grad.is_sparse() ? grad : grad.to_sparse(/*sparse_dim=*/1);
      const at::Tensor wide = rows.to(grad.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
      entry.sum = (entry.sum.defined() ? at::add(entry.sum, wide) : wide).coalesce();
    } else if (entry.sum.defined()) {
      entry.sum.add_(grad);
    } else {
      entry.sum = grad.to(at::kFloat);
    }
    grad.reset();
  }
}

void Optimizer::throw_non_finite(const std::vector<at::Tensor>& gradients, double norm) const {
  // Gradients flow from the loss down, so the trouble began at the parameter nearest to the loss.
  std::string place = "none alone: their sum of squares overflows";
  for (size_t i = gradients.size(); i-- > 0;) {
    if (std::isfinite(gradient_norm({gradients[i]}))) continue;
    place = entries_[i].name;
    break;
  }
  throw NonFiniteError(fmt::format(
      "[train] gradient norm = {}, allowed a finite number; not finite nearest to the loss: the "
      "gradient of {}; hint: lower train.optimizer.lr, or use train.dtype=float32",
      norm, place));
}

double Optimizer::clip() {
  at::NoGradGuard no_grad;
  collect();
  std::vector<at::Tensor> gradients;
  for (const Entry& entry : entries_) gradients.push_back(gradient_of(entry));
  const double norm = gradient_norm(gradients);
  if (!std::isfinite(norm)) throw_non_finite(gradients, norm);
  // The small number is customary: trainers that clip by the same rule then agree with this one.
  const bool clips = config_.clip && norm > *config_.clip;
  gradient_divisor_ = clips ? (norm + 1e-6) / *config_.clip : 1.0;
  return norm;
}

void Optimizer::update(const std::vector<Entry*>& entries, bool decay, int64_t step,
                       double lr) const {
  std::vector<at::Tensor> weights, gradients, averages, squares, steps;
  for (Entry* entry : entries) {
    at::Tensor gradient = gradient_of(*entry);
    // The fused update rounds its divisor to float32.
    const bool divides = gradient_divisor_ != 1.0 && gradient.scalar_type() == at::kDouble;
    if (divides) gradient = gradient / gradient_divisor_;
    for (const Entry::Run& run : entry->runs) {
      if (run.decay != decay) continue;
      weights.push_back(entry->master.detach().narrow(0, run.begin, run.rows));
      gradients.push_back(gradient.narrow(0, run.begin, run.rows));
      averages.push_back(entry->exp_avg.narrow(0, run.begin, run.rows));
      squares.push_back(entry->exp_avg_sq.narrow(0, run.begin, run.rows));
      steps.push_back(at::full({}, static_cast<float>(step),
                               entry->master.options().dtype(at::kFloat).requires_grad(false)));
    }
  }
  if (weights.empty()) return;
  // The fused update divides gradients by this scale: clipping costs no pass of its own.
  std::optional<at::Tensor> scale;
  const bool fuses = gradient_divisor_ != 1.0 && weights.front().scalar_type() != at::kDouble;
  if (fuses) scale = at::full({}, gradient_divisor_, steps.front().options());
  at::_fused_adamw_(weights, gradients, averages, squares, {}, steps, lr, config_.betas[0],
                    config_.betas[1], decay ? config_.weight_decay : 0.0, config_.eps,
                    /*amsgrad=*/false, /*maximize=*/false, scale);
}

void Optimizer::step(int64_t step, double lr) {
  at::NoGradGuard no_grad;
  collect();
  // One dtype per fused call: masters are all fp32 or all fp64, as the model is.
  std::vector<Entry*> reached;
  for (Entry& entry : entries_) {
    if (!gradient_of(entry).defined()) continue;
    if (!entry.sparse) {
      reached.push_back(&entry);
      continue;
    }
    const double decay = entry.runs.front().decay ? config_.weight_decay : 0.0;
    entry.sparse->update(entry.sum._indices().select(0, 0), entry.sum._values(), config_,
                         {step, lr, decay, gradient_divisor_});
  }
  for (const bool decay : {true, false}) update(reached, decay, step, lr);
  publish_masters();
  gradient_divisor_ = 1.0;
}

void Optimizer::scale_rows(const std::string& parameter, const at::Tensor& factors) {
  const at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    if (entry.name != parameter) continue;
    at::Tensor master = entry.master.detach();
    if (factors.dim() != 1 || factors.size(0) != master.size(0)) {
      throw ShapeError(
          fmt::format("[optimizer] factors of {} has {} elements in {} axes, allowed "
                      "[{}]",
                      parameter, factors.numel(), factors.dim(), master.size(0)));
    }
    std::vector<int64_t> column(static_cast<size_t>(master.dim()), 1);
    column[0] = -1;
    master.mul_(factors.to(master.options()).view(column));
    if (entry.is_narrow()) entry.parameter.detach().copy_(entry.master);
    return;
  }
  throw InternalError("[optimizer] parameter = " + parameter + ", allowed one that is trained");
}

void Optimizer::zero_grad() {
  for (Entry& entry : entries_) {
    entry.parameter.mutable_grad().reset();
    entry.sum.reset();
  }
}

std::map<std::string, at::Tensor> Optimizer::state() const {
  std::map<std::string, at::Tensor> named;
  for (const Entry& entry : entries_) {
    if (entry.sparse) {
      entry.sparse->add_state(entry.name, named);
      continue;
    }
    named["exp_avg." + entry.name] = entry.exp_avg;
    named["exp_avg_sq." + entry.name] = entry.exp_avg_sq;
    if (entry.is_narrow()) named["master." + entry.name] = entry.master;
  }
  return named;
}

void Optimizer::prepare_state(const std::map<std::string, int64_t>& rows) {
  for (Entry& entry : entries_) {
    const auto found = rows.find(entry.name);
    if (entry.sparse) entry.sparse->prepare(found == rows.end() ? 0 : found->second);
  }
}

void Optimizer::adopt_state() {
  for (Entry& entry : entries_) {
    if (entry.sparse) entry.sparse->adopt(entry.name);
  }
  publish_masters();
}

int64_t Optimizer::state_bytes() const {
  int64_t total = 0;
  for (const Entry& entry : entries_) {
    if (entry.sparse) {
      total += entry.sparse->bytes();
      continue;
    }
    total += static_cast<int64_t>(entry.exp_avg.nbytes() + entry.exp_avg_sq.nbytes());
    if (entry.is_narrow()) total += static_cast<int64_t>(entry.master.nbytes());
  }
  return total;
}

std::optional<int64_t> Optimizer::sparse_rows() const {
  std::optional<int64_t> rows;
  for (const Entry& entry : entries_) {
    if (entry.sparse) rows = rows.value_or(0) + entry.sparse->rows_reached();
  }
  return rows;
}

void Optimizer::publish_masters() {
  at::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    if (entry.is_narrow()) entry.parameter.detach().copy_(entry.master);
  }
}

}  // namespace headway::engine
