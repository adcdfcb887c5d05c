// The operators of linear attention against recorded data: outputs, states and every gradient, in
// float64 and float32, with every kernel. The stress case repeats keys, has beta up to 2 and decays
// from 0 to -80 a step; the norms' first row is zero.
#include <cmath>
#include <filesystem>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/io/safetensors_file.h"
#include "headway/ops/causal_conv.h"
#include "headway/ops/delta_gates.h"
#include "headway/ops/delta_rule.h"
#include "headway/ops/gated_norm.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

/// One recorded case: inputs as leaves, and the comparison of what comes out.
class Golden {
 public:
  Golden(const std::filesystem::path& file, at::ScalarType type)
      : recorded_(io::load_safetensors(file)),
        metadata_(io::SafetensorsFile(file).header().metadata),
        type_(type) {}

  /// An input as a leaf, in its own shape; undefined when the case has none.
  at::Tensor leaf(const std::string& name) {
    if (!recorded_.contains(name)) return {};
    leaves_[name] = recorded_.at(name).to(type_).clone().requires_grad_();
    return leaves_[name];
  }
  std::string option(const std::string& name) const { return metadata_.at(name); }

  void output(const std::string& name, const at::Tensor& got) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(test::close(got, recorded_.at(name), allowed()));
    const at::Tensor part = (got * recorded_.at("d_" + name).to(type_)).sum();
    total_ = total_.defined() ? total_ + part : part;
  }

  void gradients() {
    total_.backward();
    for (const auto& [name, leaf] : leaves_) {
      SCOPED_TRACE("d" + name);
      // A gradient that is exactly zero there may be one rounding here.
      EXPECT_TRUE(test::close(leaf.grad(), recorded_.at("d" + name), allowed(), 1e-12));
    }
  }

 private:
  double allowed() const { return type_ == at::kDouble ? 2e-6 : 5e-5; }

  std::map<std::string, at::Tensor> recorded_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, at::Tensor> leaves_;
  at::ScalarType type_;
  at::Tensor total_;
};

/// Files of this folder whose names begin so; the test fails without any.
std::vector<std::filesystem::path> files(const std::string& prefix) {
  std::vector<std::filesystem::path> found;
  const std::filesystem::path folder = std::filesystem::path(HEADWAY_TESTS_DIR) / "golden/ops";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  EXPECT_FALSE(found.empty()) << prefix;
  return found;
}

void check_delta_rule(Golden golden) {
  const at::Tensor q = golden.leaf("q"), k = golden.leaf("k"), v = golden.leaf("v");
  const at::Tensor g = golden.leaf("g"), beta = golden.leaf("beta");
  const DeltaRuleInputs in{q.flatten(0, 1), k.flatten(0, 1),    v.flatten(0, 1),
                           g.flatten(0, 1), beta.flatten(0, 1), golden.leaf("initial_state")};
  const DeltaRuleOptions options{1 / std::sqrt(static_cast<double>(q.size(3))),
                                 golden.option("l2norm") == "1", 1e-6};
  const auto result = gated_delta_rule(in, equal_sequences(q.size(0), q.size(1)), options);
  golden.output("out", result.out_THV.unflatten(0, {q.size(0), q.size(1)}));
  golden.output("final_state", result.final_state_NHKV);
  golden.gradients();
}

TEST(LinearAttentionGolden, DeltaRule) {
  for (const std::string prefix : {"gated_delta_rule", "kimi_delta_rule"}) {
    for (const auto& file : files(prefix)) {
      SCOPED_TRACE(file.filename());
      for (const auto& variant : test::kernel_variants({"cpu"}, {"composed", "reference"})) {
        SCOPED_TRACE(testing::PrintToString(variant));
        const ScopedKernel forced("gated_delta_rule", variant.kernel, variant.target);
        check_delta_rule(Golden(file, at::kFloat));
        if (variant.kernel != "cpu") check_delta_rule(Golden(file, at::kDouble));
      }
    }
  }
}

void check_conv(Golden golden) {
  const at::Tensor x = golden.leaf("x"), weight = golden.leaf("weight");
  const at::Tensor state = golden.leaf("initial_state");
  CausalConvInputs in{x.flatten(0, 1), weight.squeeze(1), {}, {}};
  if (state.defined()) in.initial_state_NPC = state.transpose(1, 2);
  const auto result =
      causal_conv1d(in, equal_sequences(x.size(0), x.size(1)), ConvActivation::kSilu);
  golden.output("out", result.out_TC.unflatten(0, {x.size(0), x.size(1)}));
  golden.output("final_state", result.final_state_NPC.transpose(1, 2));
  golden.gradients();
}

TEST(LinearAttentionGolden, CausalConv) {
  for (const auto& file : files("causal_conv1d")) {
    SCOPED_TRACE(file.filename());
    for (const auto& variant : test::kernel_variants({"simd"}, {"reference"})) {
      const ScopedKernel forced("causal_conv1d", variant.kernel, variant.target);
      check_conv(Golden(file, at::kFloat));
      if (variant.kernel != "simd") check_conv(Golden(file, at::kDouble));
    }
  }
}

void check_norm(Golden golden) {
  const at::Tensor x = golden.leaf("x"), z = golden.leaf("z"), weight = golden.leaf("weight");
  GatedNormOptions options;
  options.eps = std::stod(golden.option("eps"));
  if (golden.option("op") == "gated_rmsnorm_sigmoid") options.gate = NormGate::kSigmoid;
  golden.output("out", gated_rms_norm(x, z, weight, options));
  golden.gradients();
}

TEST(LinearAttentionGolden, GatedNorm) {
  for (const auto& file : files("gated_rmsnorm")) {
    SCOPED_TRACE(file.filename());
    for (const auto& variant : test::kernel_variants({"simd"}, {"reference"})) {
      const ScopedKernel forced("gated_rms_norm", variant.kernel, variant.target);
      check_norm(Golden(file, at::kFloat));
      if (variant.kernel != "simd") check_norm(Golden(file, at::kDouble));
    }
  }
}

TEST(LinearAttentionGolden, GatesAndUnitVectors) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    Golden gates(files("gdn_gates").front(), type);
    const at::Tensor a = gates.leaf("a"), b = gates.leaf("b");
    const at::Tensor g = delta_decay(a.flatten(0, 1), gates.leaf("A_log"), gates.leaf("dt_bias"));
    gates.output("g", g.view_as(a));
    gates.output("beta", b.sigmoid());
    gates.gradients();
    Golden unit(files("l2norm").front(), type);
    unit.output("out", l2_norm(unit.leaf("x"), 1e-6));
    unit.gradients();
  }
}

}  // namespace
}  // namespace headway::ops
