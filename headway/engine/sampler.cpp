// Filters of logits and the draw. Not for: stopping or text.
#include "headway/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::engine {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

void check_range(const char* name, double value, bool fits, const char* allowed) {
  if (!fits) {
    throw ConfigError(std::string("[generate] ") + name + " = " + format_double(value) +
                      ", allowed " + allowed);
  }
}

std::vector<double> to_doubles(const at::Tensor& logits) {
  const at::Tensor wide = logits.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* data = wide.const_data_ptr<double>();
  std::vector<double> values(data, data + wide.numel());
  double top = kHidden;
  for (size_t id = 0; id < values.size(); ++id) {
    if (std::isnan(values[id]) || values[id] == -kHidden) {
      throw NonFiniteError("[generate] logits[" + std::to_string(id) +
                           "] = " + format_double(values[id]) + ", allowed numbers below infinity");
    }
    top = std::max(top, values[id]);
  }
  if (top == kHidden) throw NonFiniteError("[generate] logits = all -inf, allowed one above");
  return values;
}

/// Each token of the history counts once, however often it stands there.
void penalise(std::vector<double>& logits, const std::vector<int64_t>& history, double penalty) {
  if (penalty == 1.0) return;
  std::vector<int64_t> seen = history;
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const int64_t id : seen)
    logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
}

void keep_top_k(std::vector<double>& logits, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(logits.size())) return;
  std::vector<double> sorted = logits;
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const double threshold = sorted[k - 1];
  for (double& z : logits) z = z < threshold ? kHidden : z;
}

std::vector<double> softmax(const std::vector<double>& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  std::transform(logits.begin(), logits.end(), p.begin(),
                 [top](double z) { return std::exp(z - top); });
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

/// Takes ids from the likeliest down, ties by id, until their sum reaches top_p. A heap, not a
/// sort: few are taken.
void keep_top_p(std::vector<double>& logits, double top_p) {
  if (top_p >= 1.0) return;
  const std::vector<double> p = softmax(logits);
  std::vector<int64_t> heap(p.size());
  std::iota(heap.begin(), heap.end(), 0);
  const auto comes_later = [&p](int64_t a, int64_t b) {
    return p[a] < p[b] || (p[a] == p[b] && a > b);
  };
  std::make_heap(heap.begin(), heap.end(), comes_later);
  std::vector<double> kept(logits.size(), kHidden);
  for (double before = 0.0; before < top_p && !heap.empty(); heap.pop_back()) {
    std::pop_heap(heap.begin(), heap.end(), comes_later);
    kept[heap.back()] = logits[heap.back()];
    before += p[heap.back()];
  }
  logits = std::move(kept);
}

void keep_min_p(std::vector<double>& logits, double min_p) {
  if (min_p <= 0.0) return;
  const double threshold = *std::max_element(logits.begin(), logits.end()) + std::log(min_p);
  for (double& z : logits) z = z < threshold ? kHidden : z;
}

/// splitmix64's finaliser: every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace

void check_sampler(const SamplerOptions& options) {
  check_range("--temperature", options.temperature,
              options.temperature >= 0 && std::isfinite(options.temperature), "0 or more");
  check_range("--top-k", static_cast<double>(options.top_k), options.top_k >= 0, "0 or more");
  check_range("--top-p", options.top_p, options.top_p > 0 && options.top_p <= 1,
              "above 0, up to 1");
  check_range("--min-p", options.min_p, options.min_p >= 0 && options.min_p <= 1, "0 to 1");
  check_range("--repetition-penalty", options.repetition_penalty,
              options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
              "above 0");
}

double uniform_draw(const DrawKey& key) {
  const uint64_t bits = mix(mix(mix(key.seed) ^ key.request) ^ key.position);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

std::vector<double> token_probabilities(const at::Tensor& logits_V,
                                        const std::vector<int64_t>& history,
                                        const SamplerOptions& options) {
  std::vector<double> logits = to_doubles(logits_V);
  penalise(logits, history, options.repetition_penalty);
  // Shifted first, so that no temperature, however small, overflows.
  const double top = *std::max_element(logits.begin(), logits.end());
  for (double& z : logits) z = (z - top) / options.temperature;
  keep_top_k(logits, options.top_k);
  keep_top_p(logits, options.top_p);
  keep_min_p(logits, options.min_p);
  return softmax(logits);
}

int64_t sample_token(const at::Tensor& logits_V, const std::vector<int64_t>& history,
                     const SamplerOptions& options, const DrawKey& key) {
  check_sampler(options);
  if (options.temperature == 0.0) {
    std::vector<double> logits = to_doubles(logits_V);
    penalise(logits, history, options.repetition_penalty);
    return std::max_element(logits.begin(), logits.end()) - logits.begin();
  }
  const std::vector<double> p = token_probabilities(logits_V, history, options);
  const double target = uniform_draw(key);
  double reached = 0.0;
  int64_t last = 0;
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0.0) continue;
    reached += p[id];
    last = static_cast<int64_t>(id);
    if (target < reached) return last;
  }
  return last;
}

}  // namespace headway::engine
