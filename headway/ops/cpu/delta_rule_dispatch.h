// Run-time choice among the compiled targets of delta_rule_kernels.cpp, which alone includes this.
// Not for: anything else.
#pragma once

namespace headway::ops::cpu {

HWY_EXPORT(run_load);
HWY_EXPORT(run_store);
HWY_EXPORT(run_normalise);
HWY_EXPORT(run_normalise_backward);
HWY_EXPORT(run_decay);
HWY_EXPORT(run_scores);
HWY_EXPORT(run_scores_backward);
HWY_EXPORT(run_scale_rows);
HWY_EXPORT(run_scale_each);
HWY_EXPORT(run_factor_backward);
HWY_EXPORT(run_solve);
HWY_EXPORT(run_solve_transposed);
HWY_EXPORT(run_row_dots);
HWY_EXPORT(run_lower_dots);
HWY_EXPORT(run_state_decay_backward);
HWY_EXPORT(run_scale_state);
HWY_EXPORT(run_step);

void delta_load(const ElementRows& from, int64_t rows, int64_t width, float* to) {
  HWY_DYNAMIC_DISPATCH(run_load)(from, rows, width, to);
}

void delta_store(const float* from, int64_t rows, int64_t width, const ElementRows& to) {
  HWY_DYNAMIC_DISPATCH(run_store)(from, rows, width, to);
}

void delta_normalise(float* x, int64_t rows, int64_t width, float eps, float scale, float* rho) {
  HWY_DYNAMIC_DISPATCH(run_normalise)(x, rows, width, eps, scale, rho);
}

void delta_normalise_backward(const float* x, int64_t rows, int64_t width, float scale,
                              const float* rho, float* d) {
  HWY_DYNAMIC_DISPATCH(run_normalise_backward)(x, rows, width, scale, rho, d);
}

void delta_decay(const DeltaDecay& decay) { HWY_DYNAMIC_DISPATCH(run_decay)(decay); }

void delta_scores(const DeltaScores& scores) { HWY_DYNAMIC_DISPATCH(run_scores)(scores); }

void delta_scores_backward(const DeltaScoresBackward& backward) {
  HWY_DYNAMIC_DISPATCH(run_scores_backward)(backward);
}

void delta_scale_rows(const float* x, const float* factor, int64_t channels, int64_t n,
                      int64_t width, float* to) {
  HWY_DYNAMIC_DISPATCH(run_scale_rows)(x, factor, channels, n, width, to);
}

void delta_scale_each(float* x, const float* factor, int64_t rows, int64_t width) {
  HWY_DYNAMIC_DISPATCH(run_scale_each)(x, factor, rows, width);
}

void delta_factor_backward(const DeltaFactorBackward& backward) {
  HWY_DYNAMIC_DISPATCH(run_factor_backward)(backward);
}

void delta_solve(const float* keys, const float* beta, int64_t n, int64_t value_dim, float* x) {
  HWY_DYNAMIC_DISPATCH(run_solve)(keys, beta, n, value_dim, x);
}

void delta_solve_transposed(const float* keys, const float* beta, int64_t n, int64_t value_dim,
                            float* x) {
  HWY_DYNAMIC_DISPATCH(run_solve_transposed)(keys, beta, n, value_dim, x);
}

void delta_add_row_dots(const float* a, const float* b, int64_t rows, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(run_row_dots)(a, b, rows, width, out);
}

void delta_add_lower_dots(const float* a, const float* b, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(run_lower_dots)(a, b, n, out);
}

void delta_state_decay_backward(const float* state, const float* d_state, const float* factor,
                                int64_t channels, int64_t key_dim, int64_t value_dim,
                                float* total) {
  HWY_DYNAMIC_DISPATCH(run_state_decay_backward)
  (state, d_state, factor, channels, key_dim, value_dim, total);
}

void delta_scale_state(const float* factor, int64_t channels, int64_t key_dim, int64_t value_dim,
                       float* state) {
  HWY_DYNAMIC_DISPATCH(run_scale_state)(factor, channels, key_dim, value_dim, state);
}

void delta_step(const DeltaStep& step) { HWY_DYNAMIC_DISPATCH(run_step)(step); }

}  // namespace headway::ops::cpu
