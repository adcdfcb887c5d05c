// Routing token by token: no sort, no table of all keys in memory. Not for: argument checks.
// Legend: T tokens, E experts, K chosen ones, G groups, M experts of a group.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "headway/base/error.h"
#include "headway/ops/internal/router_kernel.h"
#include "headway/ops/internal/row_layout.h"

namespace headway::ops::internal {
namespace {

/// Whether key a goes before key b; a NaN goes before everything.
template <class Real>
bool goes_before(Real a, Real b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

/// The `count` best of `size` keys by falling key, ties to the lower index.
template <class Real>
class Best {
 public:
  explicit Best(int64_t count) : keys_(count), indices_(count) {}

  void clear() { held_ = 0; }
  void offer(Real key, int64_t index) {
    const auto limit = static_cast<int64_t>(keys_.size());
    if (held_ == limit && !goes_before(key, keys_[held_ - 1])) return;
    int64_t at = held_ < limit ? held_++ : held_ - 1;
    for (; at > 0 && goes_before(key, keys_[at - 1]); --at) {
      keys_[at] = keys_[at - 1];
      indices_[at] = indices_[at - 1];
    }
    keys_[at] = key;
    indices_[at] = index;
  }
  const std::vector<int64_t>& indices() const { return indices_; }
  Real sum() const {
    Real total = 0;
    for (int64_t i = 0; i < held_; ++i) total += keys_[i];
    return total;
  }

 private:
  std::vector<Real> keys_;
  std::vector<int64_t> indices_;
  int64_t held_ = 0;
};

template <class Real>
void softmax_row(const Real* z, int64_t count, Real* p) {
  Real peak = z[0];
  for (int64_t e = 1; e < count; ++e) peak = goes_before(z[e], peak) ? z[e] : peak;
  Real sum = 0;
  for (int64_t e = 0; e < count; ++e) sum += p[e] = std::exp(z[e] - peak);
  for (int64_t e = 0; e < count; ++e) p[e] /= sum;
}

template <class Real>
Real score_of(Real z, RouterScore score) {
  if (score == RouterScore::kSigmoid) return 1 / (1 + std::exp(-z));
  return std::sqrt(z > Real(kSoftplusLimit) ? z : std::log1p(std::exp(z)));
}

/// d score / dz.
template <class Real>
Real slope_of(Real z, Real score, RouterScore kind) {
  if (kind == RouterScore::kSigmoid) return score * (1 - score);
  const Real inner = z > Real(kSoftplusLimit) ? Real(1) : 1 / (1 + std::exp(-z));
  return inner / (2 * score);
}

/// Scratch of one thread and the walk over its tokens.
template <class Real>
class Walker {
 public:
  explicit Walker(const RouterArguments& a)
      : o_(a.options),
        experts_(a.logits.size(1)),
        bias_(a.bias.defined() ? a.bias.const_data_ptr<Real>() : nullptr),
        scores_(experts_),
        keys_(experts_),
        best_(o_.top_k),
        group_best_(o_.best_of_group),
        groups_(o_.kept_groups),
        chosen_(o_.top_k) {}

  /// `given` keys may be null.
  void choose(const Real* z, const Real* given, Real* weights, int64_t* experts) {
    const bool of_chosen = o_.score == RouterScore::kSoftmax && o_.normalize;
    if (!of_chosen) fill_scores(z);
    const Real* base = of_chosen ? z : scores_.data();
    if (given != nullptr) {
      best_.clear();
      for (int64_t e = 0; e < experts_; ++e) best_.offer(given[e], e);
    } else {
      for (int64_t e = 0; e < experts_; ++e)
        keys_[e] = bias_ == nullptr ? base[e] : base[e] + bias_[e];
      select();
    }
    std::copy(best_.indices().begin(), best_.indices().end(), experts);
    for (int64_t j = 0; j < o_.top_k; ++j) chosen_[j] = base[experts[j]];
    if (of_chosen) {
      softmax_row(chosen_.data(), o_.top_k, chosen_.data());
    } else if (o_.normalize) {
      const Real sum = chosen_sum();
      for (Real& value : chosen_) value /= sum;
    }
    for (int64_t j = 0; j < o_.top_k; ++j) weights[j] = chosen_[j] * Real(o_.scale);
  }

  /// d_logits [E] from d_weights [K].
  void differentiate(const Real* z, const int64_t* experts, const Real* d_weights, Real* d_logits) {
    std::fill(d_logits, d_logits + experts_, Real(0));
    const auto g = [&](int64_t j) { return d_weights[j] * Real(o_.scale); };
    Real dot = 0;
    if (o_.score == RouterScore::kSoftmax && o_.normalize) {
      for (int64_t j = 0; j < o_.top_k; ++j) chosen_[j] = z[experts[j]];
      softmax_row(chosen_.data(), o_.top_k, chosen_.data());
      for (int64_t j = 0; j < o_.top_k; ++j) dot += chosen_[j] * g(j);
      for (int64_t j = 0; j < o_.top_k; ++j) d_logits[experts[j]] = chosen_[j] * (g(j) - dot);
      return;
    }
    if (o_.score == RouterScore::kSoftmax) {
      fill_scores(z);
      for (int64_t j = 0; j < o_.top_k; ++j) dot += scores_[experts[j]] * g(j);
      for (int64_t j = 0; j < o_.top_k; ++j) d_logits[experts[j]] = g(j);
      for (int64_t e = 0; e < experts_; ++e) d_logits[e] = scores_[e] * (d_logits[e] - dot);
      return;
    }
    for (int64_t j = 0; j < o_.top_k; ++j) chosen_[j] = score_of(z[experts[j]], o_.score);
    const Real sum = o_.normalize ? chosen_sum() : Real(1);
    for (int64_t j = 0; o_.normalize && j < o_.top_k; ++j) dot += g(j) * chosen_[j];
    for (int64_t j = 0; j < o_.top_k; ++j) {
      const Real d_score = (g(j) - dot / sum) / sum;
      d_logits[experts[j]] = d_score * slope_of(z[experts[j]], chosen_[j], o_.score);
    }
  }

 private:
  Real chosen_sum() const {
    Real sum = 0;
    for (const Real value : chosen_) sum += value;
    return sum + Real(kScoreEpsilon);
  }

  void fill_scores(const Real* z) {
    if (o_.score == RouterScore::kSoftmax) return softmax_row(z, experts_, scores_.data());
    for (int64_t e = 0; e < experts_; ++e) scores_[e] = score_of(z[e], o_.score);
  }

  void select() {
    best_.clear();
    if (o_.kept_groups == o_.num_groups) return offer(0, experts_);
    const int64_t members = experts_ / o_.num_groups;
    groups_.clear();
    for (int64_t group = 0; group < o_.num_groups; ++group) {
      group_best_.clear();
      for (int64_t e = group * members; e < (group + 1) * members; ++e) {
        group_best_.offer(keys_[e], e);
      }
      groups_.offer(group_best_.sum(), group);
    }
    // Rising order, so that equal keys go to the lower expert.
    kept_ = groups_.indices();
    std::sort(kept_.begin(), kept_.end());
    for (const int64_t group : kept_) offer(group * members, (group + 1) * members);
  }

  void offer(int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) best_.offer(keys_[e], e);
  }

  const RouterOptions& o_;
  int64_t experts_;
  const Real* bias_;
  std::vector<Real> scores_, keys_;
  Best<Real> best_, group_best_, groups_;
  std::vector<Real> chosen_;
  std::vector<int64_t> kept_;
};

template <class Real>
void forward(const RouterArguments& arguments, const at::Tensor& logits, Routing& routing) {
  const int64_t experts = logits.size(1), top_k = arguments.options.top_k;
  const Real* z = logits.const_data_ptr<Real>();
  const at::Tensor held = arguments.keys.defined() ? arguments.keys.contiguous() : at::Tensor();
  const Real* keys = held.defined() ? held.const_data_ptr<Real>() : nullptr;
  Real* weights = routing.weights_TK.data_ptr<Real>();
  int64_t* chosen = routing.experts_TK.data_ptr<int64_t>();
  at::parallel_for(0, logits.size(0), row_grain(4 * experts), [&](int64_t begin, int64_t end) {
    Walker<Real> walker(arguments);
    for (int64_t t = begin; t < end; ++t) {
      const Real* given = keys == nullptr ? nullptr : keys + t * experts;
      walker.choose(z + t * experts, given, weights + t * top_k, chosen + t * top_k);
    }
  });
}

template <class Real>
void backward(const RouterArguments& arguments, const at::Tensor& logits, const at::Tensor& experts,
              const at::Tensor& d_weights, at::Tensor& d_logits) {
  const int64_t width = logits.size(1), top_k = arguments.options.top_k;
  const Real* z = logits.const_data_ptr<Real>();
  const Real* d_w = d_weights.const_data_ptr<Real>();
  const int64_t* chosen = experts.const_data_ptr<int64_t>();
  Real* d_z = d_logits.data_ptr<Real>();
  at::parallel_for(0, logits.size(0), row_grain(4 * width), [&](int64_t begin, int64_t end) {
    Walker<Real> walker(arguments);
    for (int64_t t = begin; t < end; ++t) {
      walker.differentiate(z + t * width, chosen + t * top_k, d_w + t * top_k, d_z + t * width);
    }
  });
}

}  // namespace

Support route_rows_supports(const RouterArguments& arguments) {
  if (!arguments.logits.device().is_cpu()) return Support::no("it runs on the CPU only");
  const at::ScalarType type = arguments.logits.scalar_type();
  if (type != at::kFloat && type != at::kDouble) {
    return Support::no("it takes float32 and float64 only");
  }
  return Support::yes();
}

Routing route_rows_forward(const RouterArguments& arguments) {
  const at::Tensor logits = arguments.logits.contiguous();
  const std::vector<int64_t> sizes = {logits.size(0), arguments.options.top_k};
  Routing routing{at::empty(sizes, logits.options()),
                  at::empty(sizes, logits.options().dtype(at::kLong))};
  if (logits.scalar_type() == at::kFloat) {
    forward<float>(arguments, logits, routing);
  } else {
    forward<double>(arguments, logits, routing);
  }
  return routing;
}

at::Tensor route_rows_backward(const RouterArguments& arguments, const at::Tensor& experts,
                               const at::Tensor& d_weights) {
  const at::Tensor logits = arguments.logits.contiguous();
  const at::Tensor d_w = d_weights.contiguous();
  at::Tensor d_logits = at::empty(logits.sizes(), logits.options());
  if (logits.scalar_type() == at::kFloat) {
    backward<float>(arguments, logits, experts, d_w, d_logits);
  } else {
    backward<double>(arguments, logits, experts, d_w, d_logits);
  }
  return d_logits;
}

}  // namespace headway::ops::internal
