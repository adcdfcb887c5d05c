// Online softmax of one row of scores, shared by the forward and decode kernels. Not for: backward
// (which knows the sums already).
#if defined(HEADWAY_OPS_CPU_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADWAY_OPS_CPU_ATTENTION_SOFTMAX_INL_H_
#undef HEADWAY_OPS_CPU_ATTENTION_SOFTMAX_INL_H_
#else
#define HEADWAY_OPS_CPU_ATTENTION_SOFTMAX_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include "headway/ops/cpu/attention_math-inl.h"
#include "headway/ops/internal/dropout.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504f;
constexpr double kLn2 = 0.69314718055994531;

/// Running state of one row: exponents are powers of two, `out` is not yet divided by `sum`.
struct RowState {
  float* max;
  float* sum;
  float* out;
  int64_t width;
};

HWY_INLINE float exp2_one(float x) { return hn::GetLane(exp2_fast(hn::Set(F(), x))); }

HWY_INLINE void scale_row(float* row, int64_t width, float factor) {
  const F d;
  for (int64_t j = 0; j < width; j += lanes()) {
    hn::StoreU(hn::Mul(hn::LoadU(d, row + j), hn::Set(d, factor)), d, row + j);
  }
}

/// row <- softcap · log2(e) · tanh(row)
HWY_INLINE void cap_row(float* row, internal::KeyRange columns, float softcap) {
  const F d;
  const Vec factor = hn::Set(d, softcap * kLog2E);
  for (int64_t j = columns.first; j < columns.last; j += lanes()) {
    hn::StoreU(hn::Mul(factor, hn::Tanh(d, hn::LoadU(d, row + j))), d, row + j);
  }
}

HWY_INLINE float max_of_row(const float* row, internal::KeyRange columns) {
  const F d;
  Vec max = hn::Set(d, kNegInf);
  for (int64_t j = columns.first; j < columns.last; j += lanes())
    max = hn::Max(max, hn::LoadU(d, row + j));
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

/// Turns scores in `columns` (whole vectors) of `row` into weights exp2(score - max), 0 outside
/// `visible`, and brings the row's state up to date.
HWY_INLINE void softmax_row(float* row, internal::KeyRange columns, internal::KeyRange visible,
                            float softcap, const RowState& state) {
  if (visible.last <= visible.first) return fill(row, columns.first, columns.last, 0.0f);
  if (softcap > 0) cap_row(row, columns, softcap);
  fill(row, columns.first, visible.first, kNegInf);
  fill(row, visible.last, columns.last, kNegInf);
  const float old = *state.max;
  const float max = HWY_MAX(old, max_of_row(row, columns));
  if (max == kNegInf) return fill(row, columns.first, columns.last, 0.0f);
  const F d;
  const Vec shift = hn::Set(d, max);
  Vec sum = hn::Zero(d);
  for (int64_t j = columns.first; j < columns.last; j += lanes()) {
    const Vec weight = exp2_fast(hn::Sub(hn::LoadU(d, row + j), shift));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, d, row + j);
  }
  const float total = hn::GetLane(hn::SumOfLanes(d, sum));
  if (old == max) {
    *state.sum += total;
    return;
  }
  const float correction = exp2_one(old - max);
  if (*state.sum != 0) scale_row(state.out, state.width, correction);
  *state.sum = *state.sum * correction + total;
  *state.max = max;
}

/// The draws of one row of probabilities; columns are rows of k, as in the reference.
class DropRow {
 public:
  DropRow(const AttentionProblem& p, int64_t head, int64_t token)
      : row_(internal::dropout_row(p.drop_key, static_cast<uint64_t>(head),
                                   static_cast<uint64_t>(token))),
        threshold_(hn::Set(hn::RebindToSigned<F>(), static_cast<int32_t>(p.drop_threshold))) {}

  /// `value` where the entry is kept, else 0; lanes are columns `first`, first + 1, …
  HWY_INLINE Vec kept(Vec value, int64_t first) const {
    const hn::RebindToUnsigned<F> du;
    const hn::RebindToSigned<F> di;
    // internal::dropout_bits, lane by lane.
    const auto column = hn::Iota(du, static_cast<uint32_t>(first));
    auto x = hn::Add(hn::Mul(column, hn::Set(du, internal::kDropoutStep)), hn::Set(du, row_.low));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(du, internal::kDropoutFirst));
    x = hn::Xor(x, hn::Set(du, row_.high));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(du, internal::kDropoutSecond));
    x = hn::ShiftRight<1>(hn::Xor(x, hn::ShiftRight<15>(x)));
    const auto dropped = hn::Lt(hn::BitCast(di, x), threshold_);
    return hn::IfThenZeroElse(hn::RebindMask(F(), dropped), value);
  }

 private:
  internal::DropoutRow row_;
  hn::Vec<hn::RebindToSigned<F>> threshold_;
};

/// Zeros the dropped weights of `columns`, whose first one is row `key` of k. finish_row scales.
HWY_INLINE void drop_row(const DropRow& drop, float* row, internal::KeyRange columns, int64_t key) {
  const F d;
  for (int64_t j = columns.first; j < columns.last; j += lanes()) {
    hn::StoreU(drop.kept(hn::LoadU(d, row + j), key + j - columns.first), d, row + j);
  }
}

/// State before any key: a sink is a key whose value is zero.
HWY_INLINE void start_row(const AttentionProblem& p, int64_t head, const RowState& state) {
  const float sink = p.sinks ? p.sinks[head] : kNegInf;
  *state.max = sink * kLog2E;
  *state.sum = sink == kNegInf ? 0.0f : 1.0f;
  fill(state.out, 0, state.width, 0.0f);
}

/// Writes out and lse of one row.
HWY_INLINE void finish_row(const AttentionProblem& p, int64_t token, int64_t head,
                           const RowState& state) {
  const float sum = *state.sum;
  const bool empty = sum == 0;
  p.lse[head * p.tokens + token] =
      empty ? kNegInf
            : (static_cast<double>(*state.max) + std::log2(static_cast<double>(sum))) * kLn2;
  store_row(p.element, state.out, p.value_dim, empty ? 0.0f : p.kept_factor / sum,
            element_at(p.element, p.out, token, head));
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#endif  // HEADWAY_OPS_CPU_ATTENTION_SOFTMAX_INL_H_
