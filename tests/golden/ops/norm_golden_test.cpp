// RMSNorm against recorded operator data: output and both gradients, in float64 and float32, with
// every kernel. The first row of the data is zero, another is tiny.
#include <filesystem>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/io/safetensors_file.h"
#include "headway/ops/norm.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

struct Golden {
  const char* file;
  NormFlavour flavour;
  double eps;
};

const Golden kGoldens[] = {
    {"rmsnorm_plain.safetensors", NormFlavour::kPlain, 1e-6},
    {"rmsnorm_plain_eps1e-3.safetensors", NormFlavour::kPlain, 1e-3},
    {"rmsnorm_zero_centered.safetensors", NormFlavour::kZeroCentered, 1e-6},
    {"rmsnorm_zero_centered_eps1e-3.safetensors", NormFlavour::kZeroCentered, 1e-3},
};

void check(const Golden& golden, at::ScalarType type, double allowed) {
  const std::filesystem::path folder = std::filesystem::path(HEADWAY_TESTS_DIR) / "golden/ops";
  const auto recorded = io::load_safetensors(folder / golden.file);
  at::Tensor x = recorded.at("x").to(type).clone().requires_grad_();
  at::Tensor weight = recorded.at("weight").to(type).clone().requires_grad_();
  const at::Tensor out = rms_norm(x, weight, golden.eps, golden.flavour);
  out.backward(recorded.at("d_out").to(type));
  EXPECT_TRUE(test::close(out, recorded.at("out"), allowed));
  EXPECT_TRUE(test::close(x.grad(), recorded.at("dx"), allowed));
  EXPECT_TRUE(test::close(weight.grad(), recorded.at("dweight"), allowed));
}

TEST(NormGolden, InDouble) {
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(golden.file);
    check(golden, at::kDouble, 2e-6);
  }
}

TEST(NormGolden, InFloatWithEveryKernel) {
  for (const Golden& golden : kGoldens) {
    for (const auto& variant : test::kernel_variants({"simd"}, {"reference"})) {
      SCOPED_TRACE(golden.file + (" " + testing::PrintToString(variant)));
      const ScopedKernel forced("norm", variant.kernel, variant.target);
      check(golden, at::kFloat, 5e-5);
    }
  }
}

}  // namespace
}  // namespace headway::ops
