// Every check of a forward pass: what passes, what is caught, and what the message says.
// Not for: ranks against each other (tests/unit/engine/replica_check_test.cpp).
#include "headway/nn/realtime_checks.h"

#include <functional>
#include <limits>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

using testing::HasSubstr;
using testing_support::message_of;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(RealtimeChecks, ValuesThatAreNotFiniteAreCountedAndPlaced) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    RealtimeChecks checks;
    checks.enter_layer(3, "local");
    at::Tensor x = test::normal_tensor({4, 2, 3}, type, 1);
    checks.tensor("q", x, {4, 2, 3});
    x[1][0][2] = kNan;
    x[3][1][0] = -kInfinity;
    EXPECT_THAT(message_of<NonFiniteError>([&] {
                  checks.tensor("q", x, {4, 2, 3});
                }),
                HasSubstr("[checks] layers.3 (block local), q = 2 of 24 values not finite, the "
                          "first nan at [1, 0, 2], allowed finite numbers"));
    EXPECT_EQ(checks.count(), 2);
    EXPECT_GT(checks.seconds(), 0.0);
  }
  RealtimeChecks checks;
  checks.tensor("nothing", at::zeros({0, 3}), {0, 3});
  const at::Tensor huge = at::full({3}, std::numeric_limits<float>::max());
  checks.tensor("huge", huge, {3});  // its sum would overflow, its values do not
}

TEST(RealtimeChecks, ShapesAreCompared) {
  RealtimeChecks checks;
  EXPECT_THAT(message_of<InternalError>([&] {
                checks.tensor("embedding", at::ones({2, 3}), {3, 2});
              }),
              HasSubstr("[checks] embedding = shape [2, 3], allowed [3, 2]"));
  EXPECT_THAT(message_of<InternalError>([&] { checks.tensor("embedding", {}, {3}); }),
              HasSubstr("embedding = shape undefined, allowed [3]"));
}

TEST(RealtimeChecks, GatesStayBetweenZeroAndOne) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    RealtimeChecks checks;
    checks.enter_layer(0, "full");
    const at::Tensor core = test::normal_tensor({5, 2, 4}, type, 1);
    const at::Tensor logits = test::normal_tensor({5, 2, 1}, type, 2) * 4;
    at::Tensor gated = core * at::sigmoid(logits);
    checks.gate(core, gated);
    checks.gate(core, core);
    checks.gate(core, core * 0);
    gated[2][1][3] = core[2][1][3] * 1.25;
    gated[4][0][0] = core[4][0][0] * -0.5;
    EXPECT_THAT(message_of<InternalError>([&] { checks.gate(core, gated); }),
                HasSubstr("layers.0 (block full), gate = 2 of 40 values outside [0, 1]"));
    EXPECT_THAT(message_of<InternalError>([&] { checks.gate(core, gated.narrow(0, 0, 2)); }),
                HasSubstr("gated output = shape [2, 2, 4], allowed [5, 2, 4]"));
  }
}

TEST(RealtimeChecks, HeadNormsAreBoundedByTheirWeight) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    RealtimeChecks checks;
    checks.enter_layer(1, "full");
    const at::Tensor x = test::normal_tensor({6, 3, 8}, type, 1);
    at::Tensor unit = x / x.to(at::kDouble).square().mean(-1, true).sqrt().to(type);
    checks.head_norm("q", unit, 1.0);
    checks.head_norm("q", unit * 1.5, 1.5);
    unit[4][2].mul_(1.25);
    EXPECT_THAT(message_of<InternalError>([&] { checks.head_norm("q", unit, 1.0); }),
                AllOf(HasSubstr("layers.1 (block full), q = root mean square 1.2"),
                      HasSubstr("of a head, allowed at most 1, the largest weight of its norm")));
  }
}

TEST(RealtimeChecks, CachesHoldWhatTheyTook) {
  RealtimeChecks checks;
  checks.enter_layer(2, "local");
  checks.cache(0, 5, 5, 8);
  checks.cache(7, 1, 4, 8);  // a window lets go of old rows
  EXPECT_THAT(message_of<InternalError>([&] { checks.cache(3, 2, 6, 8); }),
              HasSubstr("layers.2 (block local), cache = 6 rows of 8, allowed at least the 2 new "
                        "ones, at most 5 rows seen"));
  EXPECT_THAT(message_of<InternalError>([&] { checks.cache(9, 2, 9, 8); }),
              HasSubstr("9 rows of 8"));
  EXPECT_THAT(message_of<InternalError>([&] { checks.cache(3, 4, 3, 8); }),
              HasSubstr("3 rows of 8"));
}

TEST(RealtimeChecks, OutsideTheStackThereIsNoLayer) {
  RealtimeChecks checks;
  checks.enter_layer(2, "local");
  checks.enter_layer(-1, "");
  EXPECT_THAT(message_of<InternalError>([&] { checks.tensor("final norm", at::ones({2}), {3}); }),
              HasSubstr("[checks] final norm = shape"));
}

at::Tensor ids(int64_t vocab) {
  return at::arange(0, 14, at::kLong).mul(5).add(2).remainder(vocab);
}

at::Tensor run(Transformer& model, RealtimeChecks* checks) {
  model.set_checks(checks);
  return model.forward(ids(model.spec().embedding.vocab_size), ops::packed_sequences({0, 9, 14}));
}

TEST(RealtimeChecks, CleanModelsPassWithTheSameBits) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      SCOPED_TRACE(name + " " + c10::toString(type));
      Transformer model(spec, type);
      model.parameters().initialise(3);
      RealtimeChecks checks;
      const at::Tensor want = run(model, nullptr);
      EXPECT_TRUE(test::same_bits(run(model, &checks), want));
      EXPECT_GE(checks.count(), 2 + 7 * static_cast<int64_t>(spec.layers.size()));
    }
  }
}

TEST(RealtimeChecks, FaultsAreNamedByLayerAndTensor) {
  struct Fault {
    const char* parameter;
    const char* segment;
    const char* message;
  };
  for (const Fault& fault :
       {Fault{"layers.1.mixer.qkv.weight", "k", "layers.1 (block sliding), k = "},
        Fault{"layers.2.mixer.qkv.weight", "gate", "layers.2 (block sliding), gate logits = "},
        Fault{"layers.0.mixer.out.weight", "weight", "layers.0 (block full), mixer output = "},
        Fault{"layers.3.mlp.down.weight", "weight", "layers.3 (block sliding), mlp output = "},
        Fault{"layers.3.pre_mlp_norm.weight", "weight", "layers.3 (block sliding), mlp input = "},
        Fault{"final_norm.weight", "weight", "[checks] final norm = "}}) {
    SCOPED_TRACE(fault.message);
    Transformer model(test::tiny_step(), at::kFloat);
    model.parameters().initialise(3);
    bool found = false;
    for (const spec::RowSegment& segment : model.parameters().spec_of(fault.parameter).segments) {
      if (segment.name != fault.segment && fault.segment != std::string("weight")) continue;
      model.parameters().get(fault.parameter).detach()[segment.begin].fill_(kNan);
      found = true;
    }
    ASSERT_TRUE(found);
    RealtimeChecks checks;
    EXPECT_THAT(message_of<NonFiniteError>([&] { run(model, &checks); }),
                AllOf(HasSubstr(fault.message), HasSubstr("not finite, the first nan at [")));
  }
}

TEST(RealtimeChecks, RepeatedPassesAreNotLookedAtAgain) {
  Transformer model(test::tiny_step(), at::kFloat);
  model.parameters().initialise(3);
  RealtimeChecks once, again;
  run(model, &once).sum().backward();
  RecomputePlan plan;
  plan.chunk_layers = 2;
  plan.first_layers = 99;
  model.set_recompute(plan);
  run(model, &again).sum().backward();
  EXPECT_EQ(once.count(), again.count());
}

TEST(RealtimeChecks, CachesAreLookedAtWhileDecoding) {
  Transformer model(test::tiny_step(), at::kFloat);
  model.parameters().initialise(3);
  at::NoGradGuard no_grad;
  RealtimeChecks training, decoding;
  run(model, &training);
  model.set_checks(&decoding);
  ModelState state = make_state(model.spec());
  for (int64_t t = 0; t < 9; ++t) {
    ops::Sequences sequences = ops::continued_sequences({t}, {1});
    sequences.cu_k = sequences.cu_q;
    model.forward(at::full({1}, t, at::kLong), sequences, {&state});
  }
  // Two looks more for every layer: keys and values of the cache.
  EXPECT_EQ(decoding.count(), 9 * (training.count() + 2 * 4));
}

}  // namespace
}  // namespace headway::nn
