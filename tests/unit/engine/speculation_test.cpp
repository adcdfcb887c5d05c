// Draft tokens change no token, for any window, sampler, number of drafts and moment of stopping.
#include "headway/engine/speculation.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/drafter.h"
#include "headway/engine/generator.h"
#include "headway/nn/mtp_loss.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using testing_support::message_of;

nn::Transformer make(const spec::ModelSpec& spec) {
  nn::Transformer model(spec, at::kDouble);
  model.parameters().initialise(4);
  return model;
}

/// A model whose depths guess well: their heads are the model's, and everything but the embedding
/// of the next token is small, so that the next token follows from this one alone.
nn::Transformer predictable() {
  spec::ModelSpec spec = test::tiny_mtp();
  nn::Transformer model = make(spec);
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
    const std::string& name = model.parameters().specs()[i].name;
    at::Tensor tensor = model.parameters().tensors()[i];
    if (name.ends_with("mixer.out.weight") || name.ends_with("mlp.down.weight")) tensor.mul_(0.02);
    if (name.ends_with("head.weight")) tensor.copy_(model.head());
    if (name.ends_with("proj.weight")) {
      tensor.zero_();
      tensor.narrow(1, 0, spec.hidden_size).fill_diagonal_(1.0);
    }
  }
  return model;
}

GenerateOptions options_of(double temperature, int64_t count, int64_t drafts) {
  GenerateOptions options;
  options.max_new_tokens = count;
  options.sampler.temperature = temperature;
  options.seed = 11;
  options.request = 2;
  options.draft_tokens = drafts;
  return options;
}

const std::vector<int64_t> kPrompt{3, 1, 4, 1, 5, 9, 2, 6};

TEST(Speculation, TokensAreThoseOfPlainDecoding) {
  for (const auto hidden : {spec::MtpHidden::kNormed, spec::MtpHidden::kResidual}) {
    spec::ModelSpec spec = test::tiny_mtp();
    spec.mtp->hidden = hidden;
    nn::Transformer model = make(spec);
    const Generator generator(model, nullptr);
    for (const double temperature : {0.0, 1.2}) {
      const auto plain = generator.run(kPrompt, options_of(temperature, 24, 0)).token_ids;
      for (const int64_t drafts : {1, 2, 5}) {
        const GenerateResult result = generator.run(kPrompt, options_of(temperature, 24, drafts));
        EXPECT_EQ(result.token_ids, plain) << temperature << " " << drafts;
        EXPECT_GT(result.drafts.drafted, 0);
      }
    }
  }
}

/// A stack with recurrent layers goes back to a copy of its state and reads again.
TEST(Speculation, RecurrentLayersGoBack) {
  spec::ModelSpec spec = test::tiny_hybrid();
  spec::MtpSpec& mtp = spec.mtp.emplace();
  for (const spec::LayerSpec& layer : spec.layers) {
    if (spec::attention_of(layer) != nullptr) mtp.layers = {layer};
  }
  mtp.embedding_norm = mtp.hidden_norm = mtp.final_norm = spec.head.final_norm;
  nn::Transformer model = make(spec);
  const Generator generator(model, nullptr);
  for (const double temperature : {0.0, 1.0}) {
    const auto plain = generator.run(kPrompt, options_of(temperature, 24, 0)).token_ids;
    for (const int64_t drafts : {1, 3}) {
      EXPECT_EQ(generator.run(kPrompt, options_of(temperature, 24, drafts)).token_ids, plain);
    }
  }
  spec.mtp->layers = {spec.layers.front()};
  ASSERT_EQ(spec::attention_of(spec.layers.front()), nullptr);
  nn::Transformer recurrent = make(spec);
  EXPECT_THAT(message_of<UnsupportedError>(
                  [&] { Generator(recurrent, nullptr).run(kPrompt, options_of(0, 5, 1)); }),
              testing::HasSubstr("keeps a state that cannot forget tokens"));
}

TEST(Speculation, GoodGuessesSavePasses) {
  nn::Transformer model = predictable();
  const Generator generator(model, nullptr);
  for (const double temperature : {0.0, 0.8}) {
    const auto plain = generator.run(kPrompt, options_of(temperature, 50, 0)).token_ids;
    const GenerateResult result = generator.run(kPrompt, options_of(temperature, 50, 2));
    EXPECT_EQ(result.token_ids, plain);
    EXPECT_GT(result.drafts.acceptance(), 0.5) << temperature;
    EXPECT_LT(result.drafts.passes, 30);
    // Every pass gives its accepted guesses and one token more, but where the request ended.
    EXPECT_LE(50 - result.drafts.passes - result.drafts.accepted, 0);
    EXPECT_GE(50 - result.drafts.passes - result.drafts.accepted, -1);
  }
}

TEST(Speculation, EndsWherePlainDecodingEnds) {
  nn::Transformer model = predictable();
  const Generator generator(model, nullptr);
  const auto plain = generator.run(kPrompt, options_of(0.9, 40, 0)).token_ids;
  for (const int64_t count : {0, 1, 2, 3, 6}) {
    const GenerateResult result = generator.run(kPrompt, options_of(0.9, count, 3));
    EXPECT_EQ(result.token_ids, std::vector<int64_t>(plain.begin(), plain.begin() + 8 + count));
    EXPECT_EQ(result.finish, FinishReason::kLength);
  }
  for (size_t at = 8; at < 14; ++at) {
    GenerateOptions options = options_of(0.9, 40, 0);
    options.stop_ids = {plain[at]};
    const GenerateResult want = generator.run(kPrompt, options);
    options.draft_tokens = 3;
    const GenerateResult got = generator.run(kPrompt, options);
    EXPECT_EQ(got.token_ids, want.token_ids);
    EXPECT_EQ(got.finish, FinishReason::kStopId);
  }
}

TEST(Speculation, PenaltiesSeeTheAcceptedTokens) {
  nn::Transformer model = predictable();
  const Generator generator(model, nullptr);
  GenerateOptions options = options_of(0.6, 40, 0);
  options.sampler.repetition_penalty = 1.3;
  options.sampler.top_p = 0.9;
  const auto plain = generator.run(kPrompt, options).token_ids;
  options.draft_tokens = 2;
  EXPECT_EQ(generator.run(kPrompt, options).token_ids, plain);
}

/// Guesses of cached depths, after accepted and rejected ones, are those of whole passes.
TEST(Drafter, GuessesAreThoseOfWholePasses) {
  nn::Transformer model = make(test::tiny_mtp());
  const at::NoGradGuard no_grad;
  Drafter drafter(model, 3);
  const Drafter::Pick greedy = [](const at::Tensor& logits, const std::vector<int64_t>&) {
    return logits.argmax().item<int64_t>();
  };
  const std::vector<int64_t> tokens = test::to_integers(test::integer_tensor({40}, 0, 29, 5));
  int64_t read = 0;
  for (const int64_t step : {1, 1, 3, 1, 12, 2, 4, 1, 1, 6}) {
    const at::Tensor ids = at::tensor(tokens, at::kLong);
    at::Tensor hidden;
    nn::ForwardOptions options;
    options.mtp_hidden = &hidden;
    const auto whole = ops::equal_sequences(1, read + step);
    model.forward(ids.narrow(0, 0, read + step), whole, options);
    drafter.extend(hidden.narrow(0, read, step));
    read += step;
    const std::vector<int64_t> known(tokens.begin(), tokens.begin() + read + 1);
    const std::vector<int64_t> guesses = drafter.draft(known, 1 + read % 3, greedy);
    std::vector<int64_t> extended = known;
    at::Tensor h = hidden;
    for (size_t k = 0; k < guesses.size(); ++k) {
      const at::Tensor ahead =
          at::tensor(extended, at::kLong).narrow(0, static_cast<int64_t>(k) + 1, read);
      const auto depth = static_cast<int64_t>(k);
      const at::Tensor embedding = model.embed(ahead);
      const nn::MtpOutput out = model.mtp()->forward(depth, {embedding, h, whole});
      const at::Tensor logits =
          model.logits(out.normed_TD.narrow(0, read - 1, 1), nn::mtp_head(model, depth));
      EXPECT_EQ(guesses[k], logits.argmax().item<int64_t>()) << read << " " << k;
      extended.push_back(guesses[k]);
      h = out.hidden_TD;
    }
  }
  EXPECT_THROW(drafter.draft(tokens, 1, greedy), InternalError);
}

TEST(Speculation, SaysWhatItCannotDo) {
  nn::Transformer plain = make(test::tiny_step());
  const auto error = [&](nn::Transformer& model, int64_t drafts) {
    return message_of<ConfigError>(
        [&] { Generator(model, nullptr).run(kPrompt, options_of(0, 5, drafts)); });
  };
  EXPECT_THAT(error(plain, 2), testing::HasSubstr("--draft-tokens = 2, allowed 0 for a model"));
  EXPECT_THAT(error(plain, -1), testing::HasSubstr("--draft-tokens = -1, allowed 0 to 64"));
  nn::Transformer model = make(test::tiny_mtp());
  Conversation conversation(model.spec());
  EXPECT_THAT(message_of<UnsupportedError>([&] {
                Generator(model, nullptr).run(kPrompt, options_of(0, 5, 1), nullptr, &conversation);
              }),
              testing::HasSubstr("outside of conversations"));
}

}  // namespace
}  // namespace headway::engine
