// Whole-model identities: gates, rotary ownership, hidden states, losses.
#include "headway/nn/transformer.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/rope_frequencies.h"

#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

at::Tensor random_ids(int64_t count, int64_t vocab) {
  at::Tensor ids = at::empty({count}, at::kLong);
  for (int64_t t = 0; t < count; ++t) ids[t] = (t * 7 + t * t * 3 + 2) % vocab;
  return ids;
}

const Attention& attention_of(const Block& block) { return std::get<Attention>(block.mixer()); }

TEST(Transformer, PerLayerBaseOwnsItsTables) {
  const Transformer model(test::tiny_step(), at::kDouble);
  EXPECT_EQ(model.rotary(), nullptr);
  EXPECT_NE(attention_of(model.blocks()[1]).rotary(), attention_of(model.blocks()[2]).rotary());
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    const auto& layer = std::get<spec::AttentionSpec>(model.spec().layers[i].mixer);
    EXPECT_EQ(
        attention_of(model.blocks()[i]).rotary()->inverse_frequencies(),
        spec::rope_frequencies(*layer.rope, layer.head_dim, model.spec().rope_precision).inverse);
  }
}

TEST(Transformer, ScalarBaseSharesOneTable) {
  const Transformer model(test::tiny_llama(3));
  ASSERT_NE(model.rotary(), nullptr);
  EXPECT_EQ(model.rotary()->tables().size(), 1u);
  EXPECT_EQ(attention_of(model.blocks()[0]).rotary(), attention_of(model.blocks()[2]).rotary());
}

TEST(Transformer, EqualPerLayerBasesGiveTheScalarModelBitForBit) {
  spec::ModelSpec shared = test::tiny_llama(3);
  spec::ModelSpec owned = shared;
  owned.rope_per_layer = true;
  Transformer a(shared);
  Transformer b(owned);
  a.parameters().initialise(5);
  b.parameters().initialise(5);
  at::NoGradGuard no_grad;
  const at::Tensor ids = random_ids(17, 23);
  const auto sequences = ops::equal_sequences(1, 17);
  EXPECT_TRUE(at::equal(a.forward(ids, sequences), b.forward(ids, sequences)));
}

TEST(Transformer, ZeroGateHalvesTheAttentionOutputExactly) {
  spec::ModelSpec plain = test::tiny_llama(1);
  spec::ModelSpec gated = plain;
  std::get<spec::AttentionSpec>(gated.layers[0].mixer).gate = {spec::GateKind::kHeadWise,
                                                               spec::GateInit::kZero, 0.0};
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    Transformer a(plain, dtype);
    Transformer b(gated, dtype);
    a.parameters().initialise(5);
    b.parameters().initialise(5);
    at::NoGradGuard no_grad;
    const at::Tensor x = at::sin(at::arange(9 * 16, at::kFloat)).view({9, 16}).to(dtype);
    const auto sequences = ops::equal_sequences(1, 9);
    const at::Tensor full = attention_of(a.blocks()[0]).forward({x, sequences}).out_TD;
    const at::Tensor half = attention_of(b.blocks()[0]).forward({x, sequences}).out_TD;
    EXPECT_TRUE(at::equal(full * 0.5, half)) << at::toString(dtype);
  }
}

TEST(Transformer, HiddenStatesEndInTheFinalNorm) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    Transformer model(spec, at::kDouble);
    model.parameters().initialise(2);
    at::NoGradGuard no_grad;
    const at::Tensor ids = random_ids(11, spec.embedding.vocab_size);
    const auto sequences = ops::equal_sequences(1, 11);
    std::vector<at::Tensor> hidden;
    const at::Tensor out = model.forward(ids, sequences, {nullptr, &hidden});
    ASSERT_EQ(hidden.size(), spec.layers.size());
    EXPECT_TRUE(at::allclose(out, model.forward(ids, sequences), 1e-12, 1e-12));
    EXPECT_EQ(model.logits(out).size(1), spec.embedding.vocab_size);
  }
}

TEST(Transformer, LossIsMeanCrossEntropyOfTheLogits) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    Transformer model(spec, at::kDouble);
    model.parameters().initialise(2);
    at::NoGradGuard no_grad;
    const at::Tensor ids = random_ids(13, spec.embedding.vocab_size);
    at::Tensor labels = random_ids(13, spec.embedding.vocab_size).flip(0).contiguous();
    labels[3] = -100;
    const at::Tensor h = model.forward(ids, ops::packed_sequences({0, 6, 13}));
    const at::Tensor want = at::cross_entropy_loss(model.logits(h), labels);
    EXPECT_NEAR(model.loss(h, labels).loss.item<double>(), want.item<double>(), 1e-10);
  }
}

TEST(Transformer, SpecThatNoModelMayHaveIsRefused) {
  spec::ModelSpec spec = test::tiny_llama();
  std::get<spec::AttentionSpec>(spec.layers[1].mixer).num_kv_heads = 3;
  EXPECT_THROW(Transformer{spec}, ConfigError);
}

TEST(Transformer, StateTakesOneSequence) {
  Transformer model(test::tiny_llama());
  model.parameters().initialise(1);
  ModelState state = make_state(model.spec());
  at::NoGradGuard no_grad;
  EXPECT_THROW(model.forward(random_ids(4, 23), ops::equal_sequences(2, 2), {&state}), ShapeError);
}

}  // namespace
}  // namespace headway::nn
