// Not for: anything but tensors.h.
#include "tests/support/tensors.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace headway::test {

at::Tensor normal_tensor(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble).to(type);
}

at::Tensor integer_tensor(at::IntArrayRef sizes, int64_t low, int64_t high, uint64_t seed) {
  return at::randint(low, high, sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::kLong);
}

std::vector<double> to_doubles(const at::Tensor& x) {
  const at::Tensor flat = x.detach().to(at::kDouble).contiguous();
  const double* values = flat.const_data_ptr<double>();
  return {values, values + flat.numel()};
}

std::vector<int64_t> to_integers(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  const int64_t* values = flat.const_data_ptr<int64_t>();
  return {values, values + flat.numel()};
}

Matrix to_matrix(const at::Tensor& x) {
  Matrix matrix(x.size(0), x.size(1));
  matrix.values = to_doubles(x);
  return matrix;
}

at::Tensor from_matrix(const Matrix& matrix) {
  at::Tensor x = at::empty({matrix.rows, matrix.columns}, at::kDouble);
  std::copy(matrix.values.begin(), matrix.values.end(), x.data_ptr<double>());
  return x;
}

testing::AssertionResult close(const at::Tensor& got, const at::Tensor& want, double relative,
                               double absolute) {
  if (!got.defined()) return testing::AssertionFailure() << "got an undefined tensor";
  if (got.sizes() != want.sizes()) {
    return testing::AssertionFailure() << "shape " << got.sizes() << ", expected " << want.sizes();
  }
  const std::vector<double> a = to_doubles(got), b = to_doubles(want);
  double largest = 0.0, worst = -1.0;
  size_t place = 0;
  for (const double value : b) largest = std::max(largest, std::abs(value));
  const double allowed = relative * largest + absolute;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]);
    if (!(error <= worst)) {
      worst = error;
      place = i;
    }
    if (std::isnan(error)) break;
  }
  if (a.empty() || worst <= allowed) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "element " << place << " of " << got.sizes() << " = " << a[place] << ", expected "
         << b[place] << ", error " << worst << ", allowed " << allowed;
}

testing::AssertionResult same_bits(const at::Tensor& got, const at::Tensor& want) {
  if (got.sizes() != want.sizes() || got.scalar_type() != want.scalar_type()) {
    return testing::AssertionFailure() << "shape or dtype differ: " << got.toString() << got.sizes()
                                       << ", expected " << want.toString() << want.sizes();
  }
  const at::Tensor a = got.detach().contiguous(), b = want.detach().contiguous();
  if (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0) {
    return testing::AssertionSuccess();
  }
  return close(got, want, 0.0) ? testing::AssertionFailure() << "signs of zero or NaN bits differ"
                               : close(got, want, 0.0);
}

}  // namespace headway::test
