// The inventory is what the modules take; initialisation is per segment.
#include "headway/nn/parameters.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"

#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::equal(a, b);
}

at::Tensor segment(const Parameters& parameters, const std::string& tensor,
                   const std::string& name) {
  for (const spec::RowSegment& row : parameters.spec_of(tensor).segments) {
    if (row.name == name) return parameters.get(tensor).detach().narrow(0, row.begin, row.rows);
  }
  return {};
}

TEST(Parameters, ModulesTakeExactlyTheInventory) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    const Transformer model(spec);
    EXPECT_TRUE(model.parameters().untaken().empty());
    EXPECT_EQ(model.parameters().specs().size(), spec::tensors(spec).size());
  }
}

TEST(Parameters, UnknownNameIsOurBug) {
  Parameters parameters(test::tiny_llama(), at::kFloat, at::kCPU);
  EXPECT_THROW(parameters.take("layers.0.mixer.nothing"), InternalError);
}

TEST(Parameters, SeedFixesEveryBit) {
  Parameters a(test::tiny_step(), at::kFloat, at::kCPU);
  Parameters b(test::tiny_step(), at::kFloat, at::kCPU);
  a.initialise(7);
  b.initialise(7);
  for (size_t i = 0; i < a.tensors().size(); ++i)
    EXPECT_TRUE(same(a.tensors()[i], b.tensors()[i])) << a.specs()[i].name;
  b.initialise(8);
  EXPECT_FALSE(same(a.get("layers.0.mixer.qkv.weight"), b.get("layers.0.mixer.qkv.weight")));
}

TEST(Parameters, GateRowsAreDrawnOnTheirOwn) {
  spec::ModelSpec with = test::tiny_llama();
  std::get<spec::AttentionSpec>(with.layers[0].mixer).gate.kind = spec::GateKind::kHeadWise;
  Parameters gated(with, at::kFloat, at::kCPU);
  Parameters plain(test::tiny_llama(), at::kFloat, at::kCPU);
  gated.initialise(3);
  plain.initialise(3);
  const std::string name = "layers.0.mixer.qkv.weight";
  for (const char* part : {"q", "k", "v"})
    EXPECT_TRUE(same(segment(gated, name, part), segment(plain, name, part)));
  const at::Tensor gate = segment(gated, name, "gate");
  EXPECT_EQ(gate.size(0), 4);
  EXPECT_GT(gate.abs().max().item<float>(), 0.0f);
  for (size_t i = 0; i < plain.specs().size(); ++i) {
    const std::string& other = plain.specs()[i].name;
    if (other == name) continue;
    EXPECT_TRUE(same(plain.get(other), gated.get(other))) << other;
  }
}

TEST(Parameters, GateInitRules) {
  spec::ModelSpec spec = test::tiny_llama();
  auto& attention = std::get<spec::AttentionSpec>(spec.layers[0].mixer);
  attention.gate = {spec::GateKind::kHeadWise, spec::GateInit::kZero, 0.0};
  Parameters zero(spec, at::kFloat, at::kCPU);
  zero.initialise(1);
  EXPECT_EQ(segment(zero, "layers.0.mixer.qkv.weight", "gate").abs().max().item<float>(), 0.0f);

  attention.gate = {spec::GateKind::kHeadWise, spec::GateInit::kConstant, 2.5};
  attention.gate_bias = true;
  Parameters constant(spec, at::kFloat, at::kCPU);
  constant.initialise(1);
  EXPECT_EQ(segment(constant, "layers.0.mixer.qkv.weight", "gate").abs().max().item<float>(), 0.0f);
  const at::Tensor bias = segment(constant, "layers.0.mixer.qkv.bias", "gate");
  EXPECT_TRUE(same(bias, at::full({4}, 2.5f)));
}

TEST(Parameters, ResidualOutputsStartSmaller) {
  spec::ModelSpec spec = test::tiny_llama(8);
  spec.hidden_size = 64;
  spec.init = {};
  Parameters parameters(spec, at::kFloat, at::kCPU);
  parameters.initialise(1);
  const double out = parameters.get("layers.0.mixer.out.weight").std().item<double>();
  const double up = parameters.get("layers.0.mlp.up.weight").std().item<double>();
  EXPECT_NEAR(up, 0.02, 0.001);
  EXPECT_NEAR(out, 0.02 / 4, 0.0003);
}

}  // namespace
}  // namespace headway::nn
