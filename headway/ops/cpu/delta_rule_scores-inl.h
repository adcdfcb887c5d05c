// Decay and scores of a chunk of the delta rule, forward and backward, and the row loops they use;
// compiled once per Highway target. Not for: anything outside delta_rule_kernels.cpp.
#if defined(HEADWAY_OPS_CPU_DELTA_RULE_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADWAY_OPS_CPU_DELTA_RULE_SCORES_INL_H_
#undef HEADWAY_OPS_CPU_DELTA_RULE_SCORES_INL_H_
#else
#define HEADWAY_OPS_CPU_DELTA_RULE_SCORES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "headway/ops/cpu/delta_rule_kernels.h"
#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

/// e^x, saturated above 88.
template <class D>
HWY_INLINE hn::Vec<D> exp_of(D d, hn::Vec<D> x) {
  return exp_of_negative(d, hn::Min(x, hn::Set(d, 88.0f)));
}

HWY_INLINE float exp_of(float x) {
  const hn::CappedTag<float, 1> d;
  return hn::GetLane(exp_of(d, hn::Set(d, x)));
}

HWY_INLINE float dot(const float* a, const float* b, int64_t width) {
  return sum_over(width, [=](auto d, int64_t i) HEADWAY_LANES {
    return hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
  });
}

/// y += factor·x.
HWY_INLINE void add_scaled(float factor, const float* x, int64_t width, float* y) {
  for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
    hn::StoreU(hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

HWY_INLINE void scale_row(float factor, const float* x, int64_t width, float* y) {
  for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
    hn::StoreU(hn::Mul(hn::Set(d, factor), hn::LoadU(d, x + i)), d, y + i);
  });
}

/// e^G and e^(G_n-G) of a decay per channel: sums run towards and away from the ends, so that
/// every exponent is rounded relative to itself.
HWY_INLINE void channel_factors(const DeltaDecay& c) {
  const int64_t width = c.channels;
  float* sums = c.scratch;
  std::fill_n(sums, width, 0.0f);
  for (int64_t i = 0; i < c.n; ++i) {
    const float* g = c.log_decay + i * width;
    float* to = c.from_start + i * width;
    for_lanes(width, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto sum = hn::Add(hn::LoadU(d, sums + j), hn::LoadU(d, g + j));
      hn::StoreU(sum, d, sums + j);
      hn::StoreU(exp_of(d, sum), d, to + j);
    });
  }
  std::fill_n(sums, width, 0.0f);
  for (int64_t i = c.n - 1; i >= 0; --i) {
    const float* g = c.log_decay + i * width;
    float* to = c.to_end + i * width;
    for_lanes(width, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto sum = hn::LoadU(d, sums + j);
      hn::StoreU(exp_of(d, sum), d, to + j);
      hn::StoreU(hn::Add(sum, hn::LoadU(d, g + j)), d, sums + j);
    });
  }
}

/// The same for one channel, with D: row i holds the sums g_{j+1} + … + g_i.
HWY_INLINE void head_factors(const DeltaDecay& c) {
  float* sums = c.scratch;
  float total = 0.0f;
  for (int64_t i = 0; i < c.n; ++i) {
    const float g = c.log_decay[i];
    float* row = c.pairs + i * c.n;
    for_lanes(i, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto sum = hn::Add(hn::LoadU(d, sums + j), hn::Set(d, g));
      hn::StoreU(sum, d, sums + j);
      hn::StoreU(exp_of(d, sum), d, row + j);
    });
    sums[i] = 0.0f;
    row[i] = 1.0f;
    std::fill(row + i + 1, row + c.n, 0.0f);
    total += g;
    c.from_start[i] = exp_of(total);
  }
  std::copy_n(c.pairs + (c.n - 1) * c.n, c.n, c.to_end);
}

void run_decay(const DeltaDecay& decay) {
  if (decay.pairs == nullptr) {
    channel_factors(decay);
  } else {
    head_factors(decay);
  }
}

HWY_INLINE void head_scores(const DeltaScores& s) {
  const int64_t n = s.decay.n;
  for (int64_t i = 0; i < n; ++i) {
    const float *pairs = s.decay.pairs + i * n, *q_k = s.q_k + i * n, *k_k = s.k_k + i * n;
    float *keys = s.keys + i * n, *scores = s.scores + i * n;
    for_lanes(n, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto pair = hn::LoadU(d, pairs + j);
      hn::StoreU(hn::Mul(pair, hn::LoadU(d, q_k + j)), d, scores + j);
      hn::StoreU(hn::Mul(pair, hn::LoadU(d, k_k + j)), d, keys + j);
    });
    std::fill(keys + i, keys + n, 0.0f);
  }
}

/// Multiplies the decays of all pairs by e^g_i: row j of `factors` becomes D_ij, j <= i.
HWY_INLINE void advance_factors(const DeltaDecay& c, int64_t i, float* factors) {
  const int64_t width = c.channels;
  const float* g = c.log_decay + i * width;
  float* step = factors + i * width;  // not yet in use: holds e^g_i
  for_lanes(width, [=](auto d, int64_t x)
                       HEADWAY_LANES { hn::StoreU(exp_of(d, hn::LoadU(d, g + x)), d, step + x); });
  for (int64_t j = 0; j < i; ++j) {
    float* row = factors + j * width;
    for_lanes(width, [=](auto d, int64_t x) HEADWAY_LANES {
      hn::StoreU(hn::Mul(hn::LoadU(d, row + x), hn::LoadU(d, step + x)), d, row + x);
    });
  }
  std::fill_n(step, width, 1.0f);
}

HWY_INLINE float dot3(const float* a, const float* b, const float* c, int64_t width) {
  return sum_over(width, [=](auto d, int64_t i) HEADWAY_LANES {
    return hn::Mul(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), hn::LoadU(d, c + i));
  });
}

HWY_INLINE void channel_scores(const DeltaScores& s) {
  const int64_t n = s.decay.n, width = s.width;
  float* factors = s.decay.scratch;
  for (int64_t i = 0; i < n; ++i) {
    advance_factors(s.decay, i, factors);
    const float *q = s.q + i * width, *k = s.k + i * width;
    float *keys = s.keys + i * n, *scores = s.scores + i * n;
    for (int64_t j = 0; j <= i; ++j) {
      const float *factor = factors + j * width, *other = s.k + j * width;
      scores[j] = dot3(q, other, factor, width);
      keys[j] = j < i ? dot3(k, other, factor, width) : 0.0f;
    }
    std::fill(scores + i + 1, scores + n, 0.0f);
    std::fill(keys + i + 1, keys + n, 0.0f);
  }
}

void run_scores(const DeltaScores& scores) {
  if (scores.decay.pairs == nullptr) {
    channel_scores(scores);
  } else {
    head_scores(scores);
  }
}

HWY_INLINE void head_scores_backward(const DeltaScoresBackward& b) {
  const DeltaScores& s = b.forward;
  const int64_t n = s.decay.n;
  for (int64_t i = 0; i < n; ++i) {
    const float* pairs = s.decay.pairs + i * n;
    const float *d_scores = b.d_scores + i * n, *d_keys = b.d_keys + i * n;
    const float *scores = s.scores + i * n, *keys = s.keys + i * n;
    float *d_q_k = b.d_q_k + i * n, *d_k_k = b.d_k_k + i * n;
    for_lanes(i + 1, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto pair = hn::LoadU(d, pairs + j);
      hn::StoreU(hn::MulAdd(pair, hn::LoadU(d, d_scores + j), hn::LoadU(d, d_q_k + j)), d,
                 d_q_k + j);
    });
    for_lanes(i, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto pair = hn::LoadU(d, pairs + j);
      hn::StoreU(hn::MulAdd(pair, hn::LoadU(d, d_keys + j), hn::LoadU(d, d_k_k + j)), d, d_k_k + j);
    });
    // The diagonal cancels: G_i - G_i.
    float* d_sums = b.d_sums;
    b.d_sums[i] += dot(d_scores, scores, i) + dot(d_keys, keys, i);
    for_lanes(i, [=](auto d, int64_t j) HEADWAY_LANES {
      auto sum = hn::Mul(hn::LoadU(d, d_scores + j), hn::LoadU(d, scores + j));
      sum = hn::MulAdd(hn::LoadU(d, d_keys + j), hn::LoadU(d, keys + j), sum);
      hn::StoreU(hn::Sub(hn::LoadU(d, d_sums + j), sum), d, d_sums + j);
    });
  }
}

/// One pair i >= j of a decay per channel.
struct ChannelPair {
  const float *factor, *q_i, *k_i, *k_j;
  float *d_q_i, *d_k_i, *d_k_j, *d_sums_i, *d_sums_j;
};

HWY_INLINE void channel_pair_backward(const ChannelPair& p, float d_score, float d_key,
                                      int64_t width) {
  for_lanes(width, [=](auto d, int64_t x) HEADWAY_LANES {
    const auto factor = hn::LoadU(d, p.factor + x);
    const auto score = hn::Mul(hn::Set(d, d_score), factor);
    const auto key = hn::Mul(hn::Set(d, d_key), factor);
    const auto q_i = hn::LoadU(d, p.q_i + x), k_i = hn::LoadU(d, p.k_i + x);
    const auto k_j = hn::LoadU(d, p.k_j + x);
    hn::StoreU(hn::MulAdd(score, k_j, hn::LoadU(d, p.d_q_i + x)), d, p.d_q_i + x);
    hn::StoreU(hn::MulAdd(key, k_j, hn::LoadU(d, p.d_k_i + x)), d, p.d_k_i + x);
    const auto towards = hn::MulAdd(score, q_i, hn::Mul(key, k_i));
    hn::StoreU(hn::Add(towards, hn::LoadU(d, p.d_k_j + x)), d, p.d_k_j + x);
    const auto decay = hn::Mul(towards, k_j);
    hn::StoreU(hn::Add(hn::LoadU(d, p.d_sums_i + x), decay), d, p.d_sums_i + x);
    hn::StoreU(hn::Sub(hn::LoadU(d, p.d_sums_j + x), decay), d, p.d_sums_j + x);
  });
}

HWY_INLINE void channel_scores_backward(const DeltaScoresBackward& b) {
  const DeltaScores& s = b.forward;
  const int64_t n = s.decay.n, width = s.width;
  float* factors = s.decay.scratch;
  for (int64_t i = 0; i < n; ++i) {
    advance_factors(s.decay, i, factors);
    for (int64_t j = 0; j <= i; ++j) {
      const ChannelPair pair{factors + j * width, s.q + i * width,      s.k + i * width,
                             s.k + j * width,     b.d_q + i * width,    b.d_k + i * width,
                             b.d_k + j * width,   b.d_sums + i * width, b.d_sums + j * width};
      channel_pair_backward(pair, b.d_scores[i * n + j], j < i ? b.d_keys[i * n + j] : 0.0f, width);
    }
  }
}

void run_scores_backward(const DeltaScoresBackward& backward) {
  if (backward.forward.decay.pairs == nullptr) {
    channel_scores_backward(backward);
  } else {
    head_scores_backward(backward);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#endif  // per target
