// Static caches against full forwards, in double, with and without flash decode.
#include "headway/engine/static_context.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/paged_driver.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

constexpr double kClose = 1e-10;

nn::Transformer make(spec::ModelSpec spec) {
  for (spec::LayerSpec& layer : spec.layers) {
    test::set_attention_scale(layer, 0.3);  // Fix-1: not 1/sqrt(dim)
  }
  nn::Transformer model(spec, at::kDouble);
  model.parameters().initialise(9);
  return model;
}

at::Tensor ids_of(const nn::Transformer& model, int64_t batch, int64_t length, uint64_t seed) {
  return at::tensor(test::drawn_tokens(batch * length, model.spec().embedding.vocab_size, seed),
                    at::kLong)
      .view({batch, length});
}

at::Tensor full_forward(nn::Transformer& model, const at::Tensor& ids_BS) {
  const at::NoGradGuard no_grad;
  return model.forward(ids_BS.flatten(), ops::equal_sequences(ids_BS.size(0), ids_BS.size(1)))
      .unflatten(0, {ids_BS.size(0), ids_BS.size(1)});
}

double largest(const at::Tensor& difference) {
  return difference.isnan().any().item<bool>() ? INFINITY : difference.abs().max().item<double>();
}

/// NaN wherever nothing was written yet.
void poison(StaticContext& context, const nn::Transformer& model) {
  for (size_t i = 0; i < model.spec().layers.size(); ++i) {
    for (at::Tensor buffer : {context.keys(i), context.values(i)}) {
      if (buffer.defined()) buffer.fill_(NAN);
    }
  }
}

/// Runs the columns of ids in pieces; what all pieces gave.
at::Tensor run_pieces(StaticContext& context, const at::Tensor& ids_BS,
                      const std::vector<int64_t>& pieces) {
  std::vector<at::Tensor> parts;
  int64_t done = 0;
  for (const int64_t piece : pieces) {
    parts.push_back(context.forward(ids_BS.narrow(1, done, piece)));
    context.increment_sequence_len_offset(piece);
    context.enable_decode_mode();
    done += piece;
  }
  return at::cat(parts, 1);
}

TEST(StaticContext, PrefillAndDecodeInAnyPiecesEqualTheFullForward) {
  for (const auto& [name, spec] : test::tiny_paged_specs()) {
    for (const bool flash : {false, true}) {
      SCOPED_TRACE(name + (flash ? " flash" : ""));
      nn::Transformer model = make(spec);
      const at::Tensor ids = ids_of(model, 3, 15, 4);
      const at::Tensor want = full_forward(model, ids);
      // One by one, and with pieces of several tokens (Fix-13: causal from the bottom right).
      const std::vector<std::vector<int64_t>> cuts{{7, 1, 1, 1, 1, 1, 3}, {1, 14}, {5, 5, 5}, {15}};
      for (const std::vector<int64_t>& pieces : cuts) {
        StaticContext context(model, {3, 20, flash});
        poison(context, model);
        EXPECT_LT(largest(run_pieces(context, ids, pieces) - want), kClose);
        EXPECT_TRUE(context.is_decode_only());
      }
    }
  }
}

TEST(StaticContext, ABatchOffsetWritesItsOwnColumns) {
  for (const bool flash : {false, true}) {
    nn::Transformer model = make(test::tiny_step());
    const at::Tensor ids = ids_of(model, 4, 9, 5);
    const at::Tensor want = full_forward(model, ids);
    StaticContext context(model, {4, 9, flash});
    poison(context, model);
    // Two columns at a time, prompts first, then a second sweep of the rest.
    std::vector<at::Tensor> first, second;
    for (int sweep = 0; sweep < 2; ++sweep) {
      for (int64_t column = 0; column < 4; column += 2) {
        const at::Tensor part =
            ids.narrow(0, column, 2).narrow(1, sweep == 0 ? 0 : 6, sweep == 0 ? 6 : 3);
        (sweep == 0 ? first : second).push_back(context.forward(part));
        context.increment_batch_size_offset(2);
      }
      context.reset_batch_size_offset();
      if (sweep == 0) context.increment_sequence_len_offset(6);
    }
    EXPECT_LT(largest(at::cat({at::cat(first), at::cat(second)}, 1) - want), kClose);
  }
}

TEST(StaticContext, SwapReordersAndDuplicatesSequences) {
  for (const bool flash : {false, true}) {
    nn::Transformer model = make(test::tiny_gemma());
    const at::Tensor ids = ids_of(model, 3, 6, 6);
    const std::vector<int64_t> order{2, 0, 2};
    const at::Tensor next = ids_of(model, 3, 2, 7);
    StaticContext context(model, {3, 10, flash});
    context.forward(ids);
    context.swap_key_value(order);
    context.increment_sequence_len_offset(6);
    const at::Tensor beams = at::cat({ids.index_select(0, at::tensor(order, at::kLong)), next}, 1);
    EXPECT_LT(largest(context.forward(next) - full_forward(model, beams).narrow(1, 6, 2)), kClose);
  }
}

TEST(StaticContext, KeysAreCachedUnrotatedWithoutFlashDecode) {
  // Rotated keys of one token differ from position to position, unrotated ones do not.
  nn::Transformer model = make(test::tiny_llama(1));
  for (const bool flash : {false, true}) {
    StaticContext context(model, {1, 8, flash});
    context.forward(at::full({1, 5}, 7, at::kLong));
    const at::Tensor keys = context.keys(0).select(1, 0);
    EXPECT_EQ(largest(keys[3] - keys[0]) < 1e-12, !flash);
    EXPECT_LT(largest(context.values(0)[3] - context.values(0)[0]), 1e-12);
  }
}

TEST(StaticContext, RefusalsNameTheLimitAndChangeNothing) {
  nn::Transformer model = make(test::tiny_llama(1));
  StaticContext context(model, {2, 6, true});
  const at::Tensor ids = ids_of(model, 2, 6, 3);
  context.enable_decode_mode();
  EXPECT_THROW(context.forward(ids), ShapeError) << "a decode before any prefill";
  EXPECT_THROW(context.swap_key_value({0, 1}), ShapeError);
  context.enable_prefill_mode();
  const at::Tensor first = context.forward(ids.narrow(1, 0, 4));
  context.increment_sequence_len_offset(4);
  const at::Tensor keys = context.keys(0).narrow(0, 0, 4).clone();
  const auto message = [&](const at::Tensor& x) {
    try {
      context.forward(x);
    } catch (const ShapeError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(ids.narrow(1, 0, 3)), testing::HasSubstr("inference_max_seq_length (= 6)"));
  EXPECT_THAT(message(ids_of(model, 3, 1, 1)), testing::HasSubstr("max_batch_size (= 2)"));
  EXPECT_THAT(message(ids.flatten()), testing::HasSubstr("[batch, tokens]"));
  EXPECT_THROW(context.increment_sequence_len_offset(3), ShapeError);
  EXPECT_THROW(context.increment_batch_size_offset(3), ShapeError);
  EXPECT_THROW(context.swap_key_value({0}), ShapeError);
  EXPECT_THROW(context.swap_key_value({0, 2}), ShapeError);
  EXPECT_EQ(context.sequence_len_offset(), 4);
  EXPECT_EQ(context.batch_size_offset(), 0);
  EXPECT_TRUE(at::equal(context.keys(0).narrow(0, 0, 4), keys));
  const at::Tensor rest = context.forward(ids.narrow(1, 4, 2));
  EXPECT_LT(largest(at::cat({first, rest}, 1) - full_forward(model, ids)), kClose);
  EXPECT_THROW(StaticContext(model, {0, 6, true}), ConfigError);
  EXPECT_THROW(StaticContext(model, {1, 0, true}), ConfigError);
}

TEST(StaticContext, ResetStartsOver) {
  nn::Transformer model = make(test::tiny_odd());
  StaticContext context(model, {2, 6, false});
  const at::Tensor ids = ids_of(model, 2, 6, 3), other = ids_of(model, 2, 6, 8);
  run_pieces(context, other, {4, 2});
  context.reset();
  EXPECT_FALSE(context.is_decode_only());
  EXPECT_EQ(context.sequence_len_offset(), 0);
  EXPECT_LT(largest(run_pieces(context, ids, {4, 2}) - full_forward(model, ids)), kClose);
}

}  // namespace
}  // namespace headway::engine
