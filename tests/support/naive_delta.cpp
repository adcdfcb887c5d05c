// Not for: anything but naive_delta.h.
#include "tests/support/naive_delta.h"

#include <cmath>

#include <ATen/Functions.h>

#include "tests/support/tensors.h"

namespace headway::test {
namespace {

/// A tensor as doubles, by index.
class Values {
 public:
  explicit Values(const at::Tensor& x) : sizes_(x.sizes().vec()), values_(to_doubles(x)) {}
  double operator()(int64_t i, int64_t j) const { return values_[i * sizes_[1] + j]; }
  double operator()(int64_t i, int64_t j, int64_t k) const {
    return values_[(i * sizes_[1] + j) * sizes_[2] + k];
  }

 private:
  std::vector<int64_t> sizes_;
  std::vector<double> values_;
};

/// Row of `x` [T,G,K], divided by its length if wanted.
std::vector<double> unit_row(const Values& x, int64_t t, int64_t head, int64_t width,
                             const ops::DeltaRuleOptions& options) {
  std::vector<double> row(width);
  double squares = 0;
  for (int64_t i = 0; i < width; ++i) {
    row[i] = x(t, head, i);
    squares += row[i] * row[i];
  }
  if (!options.l2_norm) return row;
  for (double& value : row) value /= std::sqrt(squares + options.l2_eps);
  return row;
}

}  // namespace

ops::DeltaRuleResult naive_delta_rule(const ops::DeltaRuleInputs& in,
                                      const std::vector<int64_t>& cu,
                                      const ops::DeltaRuleOptions& options) {
  const int64_t groups = in.q_TGK.size(1), keys = in.q_TGK.size(2);
  const int64_t heads = in.v_THV.size(1), width = in.v_THV.size(2);
  const auto sequences = static_cast<int64_t>(cu.size()) - 1;
  const Values q(in.q_TGK), k(in.k_TGK), v(in.v_THV), beta(in.beta_TH), g(in.log_decay);
  const bool channels = in.log_decay.dim() == 3;
  at::Tensor out = at::zeros(in.v_THV.sizes(), at::kDouble);
  at::Tensor states = in.initial_state_NHKV.defined()
                          ? in.initial_state_NHKV.to(at::kDouble).contiguous().clone()
                          : at::zeros({sequences, heads, keys, width}, at::kDouble);
  double* o = out.data_ptr<double>();
  for (int64_t n = 0; n < sequences; ++n) {
    for (int64_t h = 0; h < heads; ++h) {
      double* s = states.data_ptr<double>() + (n * heads + h) * keys * width;
      for (int64_t t = cu[n]; t < cu[n + 1]; ++t) {
        const int64_t group = h / (heads / groups);
        const auto query = unit_row(q, t, group, keys, options);
        const auto key = unit_row(k, t, group, keys, options);
        for (int64_t c = 0; c < keys; ++c) {
          const double decay = std::exp(channels ? g(t, h, c) : g(t, h));
          for (int64_t x = 0; x < width; ++x) s[c * width + x] *= decay;
        }
        for (int64_t x = 0; x < width; ++x) {
          double read = 0;
          for (int64_t c = 0; c < keys; ++c) read += s[c * width + x] * key[c];
          const double update = beta(t, h) * (v(t, h, x) - read);
          double sum = 0;
          for (int64_t c = 0; c < keys; ++c) {
            s[c * width + x] += key[c] * update;
            sum += s[c * width + x] * query[c];
          }
          o[(t * heads + h) * width + x] = options.scale * sum;
        }
      }
    }
  }
  return {out, states};
}

at::Tensor naive_causal_conv(const ops::CausalConvInputs& in, const std::vector<int64_t>& cu,
                             bool silu) {
  const int64_t channels = in.x_TC.size(1), past = in.weight_CW.size(1) - 1;
  const Values x(in.x_TC), weight(in.weight_CW);
  at::Tensor out = at::zeros(in.x_TC.sizes(), at::kDouble);
  for (size_t n = 0; n + 1 < cu.size(); ++n) {
    for (int64_t t = cu[n]; t < cu[n + 1]; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        double sum = in.bias_C.defined() ? in.bias_C[c].item<double>() : 0.0;
        for (int64_t j = 0; j <= past; ++j) {
          const int64_t from = t - past + j;
          if (from >= cu[n]) {
            sum += weight(c, j) * x(from, c);
          } else if (in.initial_state_NPC.defined()) {
            const auto row = static_cast<int64_t>(n);
            sum += weight(c, j) * in.initial_state_NPC[row][past + from - cu[n]][c].item<double>();
          }
        }
        out[t][c] = silu ? sum / (1 + std::exp(-sum)) : sum;
      }
    }
  }
  return out;
}

}  // namespace headway::test
