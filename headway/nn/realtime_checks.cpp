// One pass over a tensor per check. Not for: deciding what is checked (the modules do).
#include "headway/nn/realtime_checks.h"

#include <cmath>
#include <sstream>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/nn/recompute.h"

namespace headway::nn {
namespace {

using Clock = std::chrono::steady_clock;

std::string text(at::IntArrayRef sizes) {
  std::ostringstream out;
  out << sizes;
  return out.str();
}

/// "2 of 96 values not finite, the first nan at [1, 0, 3]"
std::string describe(const at::Tensor& x) {
  const at::Tensor bad = at::isfinite(x).logical_not();
  const at::Tensor first = bad.nonzero()[0].cpu();
  std::vector<int64_t> index;
  at::Tensor value = x;
  for (int64_t i = 0; i < first.numel(); ++i) {
    index.push_back(first[i].item<int64_t>());
    value = value[index.back()];
  }
  return fmt::format("{} of {} values not finite, the first {} at {}", bad.sum().item<int64_t>(),
                     x.numel(), value.item<double>(), text(index));
}

bool all_finite(const at::Tensor& x) {
  const auto [low, high] = at::aminmax(x);  // NaN wins in both
  return std::isfinite(low.item<double>()) && std::isfinite(high.item<double>());
}

/// Rounding of a sum of squares in the dtype of `x`.
double slack(const at::Tensor& x) {
  const bool narrow = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  return narrow ? 0.02 : 1e-4;
}

}  // namespace

/// Counts one check and its time; checks nothing in a repeated forward pass.
class RealtimeChecks::Timer {
 public:
  explicit Timer(RealtimeChecks& checks) : checks_(checks), start_(Clock::now()) {
    ++checks_.count_;
  }
  ~Timer() { checks_.seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  at::NoGradGuard no_grad_;
  RealtimeChecks& checks_;
  Clock::time_point start_;
};

std::string RealtimeChecks::place(const std::string& name) const {
  return "[checks] " + (layer_.empty() ? "" : layer_ + ", ") + name;
}

void RealtimeChecks::enter_layer(int64_t layer, const std::string& block) {
  layer_ = layer < 0 ? "" : fmt::format("layers.{} (block {})", layer, block);
}

void RealtimeChecks::tensor(const char* name, const at::Tensor& x, at::IntArrayRef shape) {
  if (is_replaying()) return;
  const Timer timer(*this);
  if (!x.defined() || x.sizes() != shape) {
    throw InternalError(fmt::format("{} = shape {}, allowed {}", place(name),
                                    x.defined() ? text(x.sizes()) : "undefined", text(shape)));
  }
  if (x.numel() == 0 || all_finite(x)) return;
  throw NonFiniteError(fmt::format("{} = {}, allowed finite numbers", place(name), describe(x)));
}

void RealtimeChecks::gate(const at::Tensor& core, const at::Tensor& gated) {
  if (is_replaying()) return;
  const Timer timer(*this);
  if (gated.sizes() != core.sizes()) {
    throw InternalError(fmt::format("{} = shape {}, allowed {}, that of the core output",
                                    place("gated output"), text(gated.sizes()),
                                    text(core.sizes())));
  }
  const at::Tensor grown = (gated.abs() > core.abs()).logical_or(gated * core < 0);
  const auto count = grown.sum().item<int64_t>();
  if (count == 0) return;
  throw InternalError(fmt::format("{} = {} of {} values outside [0, 1], allowed none",
                                  place("gate"), count, core.numel()));
}

void RealtimeChecks::head_norm(const char* name, const at::Tensor& x, double bound) {
  if (is_replaying() || x.numel() == 0) return;
  const Timer timer(*this);
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const double largest = std::sqrt(x.to(wide).square().mean(-1).max().item<double>());
  if (largest <= bound * (1.0 + slack(x))) return;
  throw InternalError(fmt::format(
      "{} = root mean square {} of a head, allowed at most {}, the largest weight of its norm",
      place(name), largest, bound));
}

void RealtimeChecks::cache(int64_t before, int64_t added, int64_t rows, int64_t capacity) {
  if (is_replaying()) return;
  const Timer timer(*this);
  if (before >= 0 && added >= 0 && rows >= added && rows <= before + added && rows <= capacity) {
    return;
  }
  throw InternalError(
      fmt::format("{} = {} rows of {}, allowed at least the {} new ones, at most {} rows seen",
                  place("cache"), rows, capacity, added, before + added));
}

}  // namespace headway::nn
