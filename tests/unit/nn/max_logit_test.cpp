// The running maximum of a layer's logits: what it measures, and that measuring changes nothing.
#include "headway/nn/max_logit.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/nn/transformer.h"

#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

const Attention& attention_of(const Transformer& model, size_t layer) {
  return std::get<Attention>(model.blocks()[layer].mixer());
}

at::Tensor ids_of(const Transformer& model, int64_t count, uint64_t seed) {
  return test::integer_tensor({count}, 0, model.spec().embedding.vocab_size, seed);
}

TEST(MaxLogitTracker, RunsOverMicroBatchesAndIsOffUntilAsked) {
  Transformer model(test::tiny_step(), at::kFloat);
  model.parameters().initialise(3);
  const Attention& attention = attention_of(model, 1);
  MaxLogitTracker& tracker = attention.max_logit();
  const auto sequences = ops::packed_sequences({0, 9, 14});
  model.forward(ids_of(model, 14, 1), sequences);
  EXPECT_FALSE(tracker.value().defined());

  std::vector<at::Tensor> each;
  for (uint64_t batch = 1; batch <= 3; ++batch) {
    tracker.reset();
    tracker.observe(true);
    model.forward(ids_of(model, 14, batch), sequences);
    each.push_back(tracker.value());
    tracker.observe(false);
  }
  tracker.reset();
  tracker.observe(true);
  for (uint64_t batch = 1; batch <= 3; ++batch) {
    model.forward(ids_of(model, 14, batch), sequences);
  }
  EXPECT_TRUE(test::same_bits(tracker.value(), std::get<0>(at::stack(each).max(0))));
  EXPECT_EQ(tracker.value().size(0), attention.spec().num_heads);
  EXPECT_FALSE(tracker.value().requires_grad());
  tracker.observe(false);
  const at::Tensor held = tracker.value();
  model.forward(ids_of(model, 14, 9), sequences);
  EXPECT_TRUE(test::same_bits(tracker.value(), held));
}

/// Forward, loss and every gradient have the same bits with and without the tracker.
TEST(MaxLogitTracker, LeavesForwardAndBackwardUntouched) {
  for (const test::NamedSpec& chosen : test::tiny_attention_specs()) {
    std::vector<std::vector<at::Tensor>> runs;
    for (const bool observed : {false, true}) {
      Transformer model(chosen.spec, at::kFloat);
      model.parameters().initialise(4);
      for (size_t i = 0; i < model.blocks().size(); ++i) {
        attention_of(model, i).max_logit().observe(observed);
      }
      const at::Tensor ids = ids_of(model, 17, 2);
      const at::Tensor hidden = model.forward(ids, ops::packed_sequences({0, 6, 17}));
      model.loss(hidden, ids).loss.backward();
      std::vector<at::Tensor> run = {hidden.detach()};
      for (const at::Tensor& parameter : model.parameters().tensors()) {
        if (parameter.grad().defined()) run.push_back(parameter.grad());
      }
      runs.push_back(std::move(run));
    }
    ASSERT_EQ(runs[0].size(), runs[1].size());
    for (size_t i = 0; i < runs[0].size(); ++i) {
      EXPECT_TRUE(test::same_bits(runs[0][i], runs[1][i])) << chosen.name << " " << i;
    }
  }
}

/// What is kept between steps is [H] numbers, not the queries and keys they came from.
TEST(MaxLogitTracker, HoldsNoGraph) {
  MaxLogitTracker tracker;
  tracker.observe(true);
  c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> queries(
      at::Tensor(at::ones({1})).getIntrusivePtr());
  {
    const at::Tensor leaf = test::normal_tensor({6, 2, 4}, at::kFloat, 1).set_requires_grad(true);
    const at::Tensor q = leaf * 2, k = leaf.narrow(1, 0, 1) * 3;
    queries =
        c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>(q.getIntrusivePtr());
    tracker.add(q, k, ops::equal_sequences(1, 6), {});
    EXPECT_FALSE(queries.expired());
  }
  EXPECT_TRUE(queries.expired());
  EXPECT_EQ(tracker.value().sizes(), (std::vector<int64_t>{2}));
}

TEST(MaxLogitTracker, CachedDecodingSeesWhatTheFullForwardSees) {
  Transformer model(test::tiny_odd(), at::kDouble);
  model.parameters().initialise(5);
  const at::NoGradGuard no_grad;
  const at::Tensor ids = ids_of(model, 12, 3);
  MaxLogitTracker& tracker = attention_of(model, 0).max_logit();
  tracker.observe(true);
  model.forward(ids, ops::equal_sequences(1, 12));
  const at::Tensor whole = tracker.value();
  tracker.reset();
  ModelState state = make_state(model.spec());
  for (int64_t t = 0; t < 12; ++t) {
    ops::Sequences step = ops::continued_sequences({t}, {1});
    step.cu_k = step.cu_q;
    ForwardOptions options;
    options.state = &state;
    model.forward(ids.narrow(0, t, 1), step, options);
  }
  EXPECT_TRUE(test::close(tracker.value(), whole, 1e-12));
}

}  // namespace
}  // namespace headway::nn
