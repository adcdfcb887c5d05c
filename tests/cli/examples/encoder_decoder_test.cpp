// The encoder-decoder of examples/encoder_decoder: it learns to turn sequences around, and decoding
// on cached encoder keys and values is the full forward.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "reverse_task.h"

namespace example {
namespace {

TEST(EncoderDecoder, LearnsToReverseUnseenSequences) {
  EncoderDecoder model({}, at::kFloat);
  model.parameters().initialise(1);
  EXPECT_LT(count_reversed(model, 20, 77), 2);
  EXPECT_LT(train(model, 150, 1), 0.05);
  EXPECT_GE(count_reversed(model, 100, 77), 98);
}

/// Every gradient arrives: those of the encoder only through cross-attention.
TEST(EncoderDecoder, TheLossReachesEveryParameter) {
  EncoderDecoder model({.num_layers = 2}, at::kDouble);
  model.parameters().initialise(2);
  const Batch batch = make_batch(3, 0, 8);
  const auto contexts =
      model.contexts(model.encode(batch.source_ids, batch.sequences), batch.sequences);
  model.loss(model.decode(batch.target_ids, batch.sequences, contexts), batch.labels).backward();
  for (size_t i = 0; i < model.parameters().tensors().size(); ++i) {
    const at::Tensor& grad = model.parameters().tensors()[i].grad();
    ASSERT_TRUE(grad.defined()) << model.parameters().specs()[i].name;
    EXPECT_GT(grad.abs().max().item<double>(), 0.0) << model.parameters().specs()[i].name;
  }
  EXPECT_TRUE(model.parameters().untaken().empty());
}

TEST(EncoderDecoder, StepsOnCachedEncoderKeysEqualTheFullForward) {
  EncoderDecoder model({.num_layers = 2}, at::kDouble);
  model.parameters().initialise(4);
  const at::NoGradGuard no_grad;
  const Batch batch = make_batch(5, 0, 6);
  const auto contexts =
      model.contexts(model.encode(batch.source_ids, batch.sequences), batch.sequences);
  const at::Tensor whole = model.decode(batch.target_ids, batch.sequences, contexts);
  for (int64_t n = 0; n < batch.sequences.num_sequences(); ++n) {
    DecodeState state = model.start(contexts, n);
    const int64_t end = batch.sequences.cu_q[n + 1];
    // A prefill of two tokens, then one by one.
    for (int64_t t = batch.sequences.cu_q[n], count = 2; t < end; t += count, count = 1) {
      const at::Tensor step = model.decode_step(batch.target_ids.narrow(0, t, count), state);
      EXPECT_LE((step - whole.narrow(0, t, count)).abs().max().item<double>(), 1e-12);
    }
  }
}

}  // namespace
}  // namespace example
