// The formulas of every rotary kind, each step in the chosen precision.
// Not for: positions, tables or application.
#include "headway/spec/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

/// base^(2j/width) for j = 0..pairs-1, every step in Real.
template <class Real>
std::vector<Real> wave_powers(double base, int64_t width, int64_t pairs) {
  std::vector<Real> powers(pairs);
  for (int64_t j = 0; j < pairs; ++j) {
    const Real exponent = static_cast<Real>(2 * j) / static_cast<Real>(width);
    powers[j] = std::pow(static_cast<Real>(base), exponent);
  }
  return powers;
}

template <class Real>
Real llama3_scaled(Real w, const RopeSpec& rope) {
  const Real wavelength = static_cast<Real>(2 * std::numbers::pi) / w;
  const Real factor = static_cast<Real>(rope.factor);
  if (wavelength < static_cast<Real>(rope.original_max_positions / rope.high_freq_factor)) return w;
  if (wavelength > static_cast<Real>(rope.original_max_positions / rope.low_freq_factor))
    return w / factor;
  const Real smooth = (static_cast<Real>(rope.original_max_positions) / wavelength -
                       static_cast<Real>(rope.low_freq_factor)) /
                      static_cast<Real>(rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * w / factor + smooth * w;
}

/// Channel at which `rotations` full turns fit into the original context.
double yarn_correction_dim(double rotations, int64_t width, const RopeSpec& rope) {
  return static_cast<double>(width) *
         std::log(rope.original_max_positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.base));
}

template <class Real>
void apply_yarn(std::vector<Real>& inverse, const std::vector<Real>& powers, int64_t width,
                const RopeSpec& rope) {
  double low = yarn_correction_dim(rope.beta_fast, width, rope);
  double high = yarn_correction_dim(rope.beta_slow, width, rope);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  for (size_t j = 0; j < inverse.size(); ++j) {
    const Real ramp =
        std::clamp((static_cast<Real>(j) - static_cast<Real>(low)) / static_cast<Real>(high - low),
                   Real(0), Real(1));
    const Real interpolated = 1 / (static_cast<Real>(rope.factor) * powers[j]);
    const Real keep = 1 - ramp;
    inverse[j] = interpolated * (1 - keep) + inverse[j] * keep;
  }
}

double attention_factor_of(const RopeSpec& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.kind != RopeKind::kYarn) return 1.0;
  const double mscale = rope.mscale.value_or(0.0);
  const double all_dim = rope.mscale_all_dim.value_or(0.0);
  if (mscale == 0.0 || all_dim == 0.0) return yarn_magnitude(rope.factor, 1.0);
  return yarn_magnitude(rope.factor, mscale) / yarn_magnitude(rope.factor, all_dim);
}

template <class Real>
std::vector<double> inverse_frequencies(const RopeSpec& rope, int64_t width, int64_t pairs,
                                        int64_t rotating) {
  const std::vector<Real> powers = wave_powers<Real>(rope.base, width, pairs);
  std::vector<Real> inverse(pairs);
  for (int64_t j = 0; j < pairs; ++j) inverse[j] = j < rotating ? 1 / powers[j] : Real(0);
  switch (rope.kind) {
    case RopeKind::kDefault:
      break;
    case RopeKind::kLinear:
    case RopeKind::kProportional:
      for (Real& w : inverse) w /= static_cast<Real>(rope.factor);
      break;
    case RopeKind::kLlama3:
      for (Real& w : inverse) w = llama3_scaled(w, rope);
      break;
    case RopeKind::kYarn:
      apply_yarn(inverse, powers, width, rope);
      break;
  }
  return {inverse.begin(), inverse.end()};
}

}  // namespace

double yarn_magnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

RopeFrequencies rope_frequencies(const RopeSpec& rope, int64_t head_dim, RopePrecision precision) {
  const bool proportional = rope.kind == RopeKind::kProportional;
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * rope.fraction);
  const int64_t width = proportional ? head_dim : rotated;
  if (width <= 0 || width > head_dim || width % 2 != 0) {
    throw ConfigError("[rope] rotated width int(head_dim * fraction) = " + std::to_string(width) +
                      " (head_dim = " + std::to_string(head_dim) +
                      ", fraction = " + std::to_string(rope.fraction) +
                      "), allowed an even number from 2 to head_dim");
  }
  const int64_t rotating = rotated / 2;
  RopeFrequencies result;
  result.inverse = precision == RopePrecision::kFloat32
                       ? inverse_frequencies<float>(rope, width, width / 2, rotating)
                       : inverse_frequencies<double>(rope, width, width / 2, rotating);
  result.attention_factor = attention_factor_of(rope);
  return result;
}

std::vector<int64_t> section_axes(const RopeSpec& rope, int64_t pairs) {
  const auto [time, height, width] = rope.sections.value();
  std::vector<int64_t> axes(pairs, 0);
  for (int64_t k = 0; k < pairs; ++k) {
    if (rope.sections_interleaved) {
      if (k % 3 == 1 && k / 3 < height) axes[k] = 1;
      if (k % 3 == 2 && k / 3 < width) axes[k] = 2;
    } else if (k >= time) {
      axes[k] = k < time + height ? 1 : 2;
    }
  }
  return axes;
}

}  // namespace headway::spec
