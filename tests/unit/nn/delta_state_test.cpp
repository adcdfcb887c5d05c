// What Gated DeltaNet layers remember: one sequence or many in slots, copies, constant size.
// Not for: values of the rule (tests/kernels) or whole models (tests/property/nn).
#include "headway/nn/delta_state.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"

#include "tests/support/temp_folder.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

/// The mixer of a layer of the hybrid model, with random parameters.
struct Mixer {
  explicit Mixer(size_t layer)
      : spec(std::get<spec::GatedDeltaNetSpec>(test::tiny_hybrid().layers[layer].mixer)),
        parameters(test::tiny_hybrid(), at::kDouble, at::kCPU),
        module(spec, ParameterScope(parameters, "layers." + std::to_string(layer) + ".mixer.")) {
    parameters.initialise(3);
  }

  at::Tensor run(const at::Tensor& x_TD, const ops::Sequences& sequences,
                 LayerState* state = nullptr) const {
    const at::NoGradGuard no_grad;
    return module.forward({x_TD, sequences, state}).out_TD;
  }

  spec::GatedDeltaNetSpec spec;
  Parameters parameters;
  GatedDeltaNet module;
};

at::Tensor hidden(int64_t tokens, uint64_t seed) {
  return test::normal_tensor({tokens, 14}, at::kDouble, seed);
}

TEST(DeltaState, SlotsOfManySequencesEqualThemAlone) {
  for (const size_t layer : {0, 1, 3}) {
    SCOPED_TRACE(layer);
    const Mixer mixer(layer);
    auto slots = std::make_shared<DeltaSlots>();
    LayerState state = DeltaState(mixer.spec, 3, slots);
    const at::Tensor a = hidden(9, 1), b = hidden(6, 2);
    // a's first tokens alone; then b starts beside a; then b and a change places in the batch.
    *slots = {2};
    std::vector<at::Tensor> of_a, of_b;
    of_a.push_back(mixer.run(a.narrow(0, 0, 5), ops::equal_sequences(1, 5), &state));
    *slots = {2, 0};
    at::Tensor out = mixer.run(at::cat({a.narrow(0, 5, 1), b.narrow(0, 0, 4)}),
                               ops::packed_sequences({0, 1, 5}), &state);
    of_a.push_back(out.narrow(0, 0, 1));
    of_b.push_back(out.narrow(0, 1, 4));
    *slots = {0, -1, 2};
    out = mixer.run(at::cat({b.narrow(0, 4, 2), hidden(2, 5), a.narrow(0, 6, 3)}),
                    ops::packed_sequences({0, 2, 4, 7}), &state);
    of_b.push_back(out.narrow(0, 0, 2));
    of_a.push_back(out.narrow(0, 4, 3));
    EXPECT_TRUE(test::close(at::cat(of_a), mixer.run(a, ops::equal_sequences(1, 9)), 1e-12));
    EXPECT_TRUE(test::close(at::cat(of_b), mixer.run(b, ops::equal_sequences(1, 6)), 1e-12));
    EXPECT_TRUE(test::close(out.narrow(0, 2, 2),
                            mixer.run(hidden(2, 5), ops::equal_sequences(1, 2)), 1e-12));
  }
}

TEST(DeltaState, SnapshotIsWhereTheSequenceCanReturnTo) {
  const Mixer mixer(0);
  LayerState state = DeltaState(mixer.spec);
  const ops::Sequences three = ops::equal_sequences(1, 3);
  mixer.run(hidden(3, 1), three, &state);
  const DeltaState kept = std::get<DeltaState>(state).snapshot();
  const at::Tensor first = mixer.run(hidden(3, 2), three, &state);
  state = kept.snapshot();
  EXPECT_TRUE(test::same_bits(mixer.run(hidden(3, 2), three, &state), first));
}

TEST(DeltaState, ClearedSlotsStartAnewAndSizeIsConstant) {
  const Mixer mixer(1);
  LayerState state = DeltaState(mixer.spec);
  const ops::Sequences three = ops::equal_sequences(1, 3);
  const at::Tensor fresh = mixer.run(hidden(3, 1), three, &state);
  const int64_t bytes = std::get<DeltaState>(state).bytes();
  mixer.run(hidden(40, 2), ops::equal_sequences(1, 40), &state);
  EXPECT_EQ(std::get<DeltaState>(state).bytes(), bytes);
  // 2 heads of 4 x 7 and 2 inputs of 2·8 + 14 channels, in double.
  EXPECT_EQ(bytes, 8 * (2 * 4 * 7 + 2 * 30));
  std::get<DeltaState>(state).clear(0);
  EXPECT_TRUE(test::same_bits(mixer.run(hidden(3, 1), three, &state), fresh));
}

TEST(DeltaState, AsManySlotsAsSequences) {
  const Mixer mixer(0);
  LayerState state = DeltaState(mixer.spec);
  EXPECT_THROW(mixer.run(hidden(4, 1), ops::equal_sequences(2, 2), &state), ShapeError);
}

}  // namespace
}  // namespace headway::nn
