// Latent attention as a module and in a stack: both forms, caches, packing, choices and the loss of
// the indexer.
#include "headway/nn/latent_attention.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
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

constexpr const char* kMixer = "layers.0.mixer.";
constexpr int64_t kTokens = 23;

spec::LatentAttentionSpec latent(std::optional<int64_t> q_rank = 10) {
  spec::LatentAttentionSpec mixer;
  mixer.num_heads = 3;
  mixer.q_lora_rank = q_rank;
  mixer.kv_lora_rank = 8;
  mixer.nope_head_dim = 6;
  mixer.rope_head_dim = 4;
  mixer.v_head_dim = 5;
  mixer.rope->layout = spec::RopeLayout::kInterleaved;
  return mixer;
}

spec::LatentAttentionSpec sparse(int64_t top_k, double loss = 0.0) {
  spec::LatentAttentionSpec mixer = latent();
  mixer.indexer = spec::IndexerSpec{.num_heads = 2, .head_dim = 8, .top_k = top_k, .loss = loss};
  return mixer;
}

struct Module {
  explicit Module(const spec::LatentAttentionSpec& mixer) : spec(test::tiny_llama(1)) {
    spec.layers[0].mixer = mixer;
    parameters.emplace(spec, at::kDouble, at::kCPU);
    parameters->initialise(3);
    auto rotary = std::make_shared<RotaryTable>(
        *mixer.rope, mixer.rope_head_dim, spec::RopePrecision::kModelDtype, at::kDouble, at::kCPU);
    module.emplace(mixer, ParameterScope(*parameters, kMixer), rotary);
  }
  at::Tensor run(const at::Tensor& x, const ops::Sequences& sequences, LayerState* state = nullptr,
                 const ForwardContext* context = nullptr) const {
    return module->forward({x, sequences, state, context}).out_TD;
  }
  at::Tensor run(const at::Tensor& x) const { return run(x, ops::equal_sequences(1, x.size(0))); }

  spec::ModelSpec spec;
  std::optional<Parameters> parameters;
  std::optional<LatentAttention> module;
};

at::Tensor input(int64_t tokens = kTokens, uint64_t seed = 5) {
  return test::normal_tensor({tokens, 16}, at::kDouble, seed);
}

/// Prompt of `first` tokens, then the others in steps of `step`.
at::Tensor in_steps(const Module& module, const at::Tensor& x, int64_t first, int64_t step) {
  const at::NoGradGuard no_grad;
  LayerState state = KvCache();
  std::vector<at::Tensor> rows;
  for (int64_t past = 0; past < x.size(0);) {
    const int64_t count = std::min(past == 0 ? first : step, x.size(0) - past);
    rows.push_back(
        module.run(x.narrow(0, past, count), ops::continued_sequences({past}, {count}), &state));
    past += count;
  }
  return at::cat(rows);
}

class EveryForm : public testing::TestWithParam<spec::LatentAttentionSpec> {};

/// The prompt expands keys and values, later tokens absorb the up-projections.
TEST_P(EveryForm, CachedStepsGiveTheFullForward) {
  const Module module(GetParam());
  const at::Tensor x = input(), want = module.run(x).detach();
  EXPECT_TRUE(test::close(in_steps(module, x, 11, 1), want, 1e-12));
  EXPECT_TRUE(test::close(in_steps(module, x, 1, 4), want, 1e-12));
  EXPECT_TRUE(test::close(in_steps(module, x, kTokens, 1), want, 1e-12));
}

TEST_P(EveryForm, PackedSequencesAreSeparateSequences) {
  const Module module(GetParam());
  const at::Tensor x = input();
  const at::Tensor got = module.run(x, ops::packed_sequences({0, 9, 10, kTokens}));
  EXPECT_TRUE(test::close(got.narrow(0, 0, 9), module.run(x.narrow(0, 0, 9)), 1e-12));
  EXPECT_TRUE(test::close(got.narrow(0, 10, 13), module.run(x.narrow(0, 10, 13)), 1e-12));
}

TEST_P(EveryForm, LaterTokensChangeNothing) {
  const Module module(GetParam());
  at::Tensor x = input();
  const at::Tensor before = module.run(x).detach();
  x = x.clone();
  x.narrow(0, 15, 8).add_(1.0);
  EXPECT_TRUE(test::same_bits(module.run(x).detach().narrow(0, 0, 15).contiguous(),
                              before.narrow(0, 0, 15).contiguous()));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryForm,
                         testing::Values(latent(), latent(std::nullopt), sparse(4), sparse(64)),
                         [](const auto& info) { return "kind" + std::to_string(info.index); });

TEST(LatentAttention, TheStateHoldsOneLatentAToken) {
  const Module module(latent());
  LayerState state = KvCache();
  const at::NoGradGuard no_grad;
  module.run(input(64), ops::equal_sequences(1, 64), &state);
  EXPECT_EQ(std::get<KvCache>(state).bytes(), 64 * (8 + 4) * 8);
}

TEST(SparseLatentAttention, ChoosingEveryKeyIsDenseAttentionExactly) {
  const Module dense(latent()), all(sparse(kTokens));
  at::Tensor a = input().set_requires_grad(true), b = input().set_requires_grad(true);
  const at::Tensor want = dense.run(a), got = all.run(b);
  EXPECT_TRUE(test::same_bits(got.detach(), want.detach()));
  want.sum().backward();
  got.sum().backward();
  EXPECT_TRUE(test::same_bits(b.grad(), a.grad()));
}

/// Chosen keys and a mask that hides all others are one function, through both forms.
TEST(SparseLatentAttention, IsDenseAttentionWithTheOthersHidden) {
  const Module dense(latent()), few(sparse(4));
  KeyChoice choice;
  ForwardContext context;
  context.choice = &choice;
  const ops::Sequences sequences = ops::equal_sequences(1, kTokens);
  at::Tensor a = input().set_requires_grad(true), b = input().set_requires_grad(true);
  const at::Tensor got = few.run(b, sequences, nullptr, &context);
  ASSERT_TRUE(choice.chosen_TJ.defined());
  at::Tensor hidden = at::ones({kTokens, kTokens + 1}, at::kBool);
  hidden.scatter_(1, choice.chosen_TJ.remainder(kTokens + 1), false);
  ForwardContext masked;
  masked.attention_mask = hidden.narrow(1, 0, kTokens).unsqueeze(0).unsqueeze(0);
  const at::Tensor want = dense.run(a, sequences, nullptr, &masked);
  EXPECT_TRUE(test::close(got.detach(), want.detach(), 1e-12));
  (got * got).sum().backward();
  (want * want).sum().backward();
  EXPECT_TRUE(test::close(b.grad(), a.grad(), 1e-11));
  for (const char* name : {"down.weight", "q_up.weight", "kv_up.weight", "kv_norm.weight"}) {
    EXPECT_TRUE(test::close(few.parameters->get(std::string(kMixer) + name).grad(),
                            dense.parameters->get(std::string(kMixer) + name).grad(), 1e-11))
        << name;
  }
}

TEST(SparseLatentAttention, TheLossReachesTheIndexerAlone) {
  const Module module(sparse(4, 0.5));
  RoutingRecord record;
  ForwardContext context;
  context.routing = &record;
  at::Tensor x = input().set_requires_grad(true);
  module.run(x, ops::equal_sequences(1, kTokens), nullptr, &context);
  const at::Tensor loss = record.take_loss();
  ASSERT_TRUE(loss.defined());
  EXPECT_GT(loss.item<double>(), 0.0);
  EXPECT_DOUBLE_EQ(record.take_index_loss(), loss.item<double>());
  loss.backward();
  EXPECT_FALSE(x.grad().defined());
  for (size_t i = 0; i < module.parameters->specs().size(); ++i) {
    const std::string& name = module.parameters->specs()[i].name;
    const at::Tensor& grad = module.parameters->tensors()[i].grad();
    const bool indexer = name.find(".indexer.") != std::string::npos;
    EXPECT_EQ(grad.defined(), indexer) << name;
    if (indexer) {
      EXPECT_GT(grad.abs().max().item<double>(), 0.0) << name;
    }
  }
}

TEST(SparseLatentAttention, NoLossWithoutWeightRecordOrGradients) {
  const auto loss_of = [](double weight, bool gradients) {
    const Module module(sparse(4, weight));
    RoutingRecord record;
    ForwardContext context;
    context.routing = &record;
    const at::AutoGradMode mode(gradients);
    module.run(input(), ops::equal_sequences(1, kTokens), nullptr, &context);
    return record.take_loss().defined();
  };
  EXPECT_TRUE(loss_of(0.5, true));
  EXPECT_FALSE(loss_of(0.0, true));
  EXPECT_FALSE(loss_of(0.5, false));
}

TEST(SparseLatentAttention, HadamardChangesNothingAnd8BitsLittle) {
  const at::Tensor x = input();
  spec::LatentAttentionSpec mixer = sparse(4);
  const at::Tensor plain = Module(mixer).run(x).detach();
  mixer.indexer->hadamard = true;
  EXPECT_TRUE(test::close(Module(mixer).run(x).detach(), plain, 1e-12));
  mixer.indexer->precision = spec::IndexPrecision::kFp8;
  EXPECT_FALSE(test::close(Module(mixer).run(x).detach(), plain, 1e-12));
}

/// A stack whose second and fourth layers take what the ones before them chose.
spec::ModelSpec sharing_stack(double loss = 0.0) {
  spec::ModelSpec model = test::tiny_llama(4);
  spec::LatentAttentionSpec shared = latent();
  shared.shared_choice = true;
  for (size_t i = 0; i < 4; ++i) {
    model.layers[i].mixer = i % 2 == 0 ? sparse(3, loss) : shared;
    // Exact zeros tie, and which is taken depends on the keys that are held.
    if (i % 2 == 0)
      std::get<spec::LatentAttentionSpec>(model.layers[i].mixer).indexer->relu = false;
  }
  return model;
}

TEST(SharedChoices, CachedStepsGiveTheFullForward) {
  Transformer model(sharing_stack(), at::kDouble);
  model.parameters().initialise(7);
  const at::NoGradGuard no_grad;
  const at::Tensor ids = test::integer_tensor({19}, 0, 23, 4);
  const at::Tensor want = model.forward(ids, ops::equal_sequences(1, 19));
  ModelState state = make_state(model.spec());
  std::vector<at::Tensor> rows;
  for (const auto& [past, count] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 8}, {8, 1}, {9, 10}}) {
    ForwardOptions options;
    options.state = &state;
    rows.push_back(model.forward(ids.narrow(0, past, count),
                                 ops::continued_sequences({past}, {count}), options));
  }
  EXPECT_TRUE(test::close(at::cat(rows), want, 1e-11));
}

TEST(SharedChoices, ASharingLayerAloneIsAnError) {
  spec::LatentAttentionSpec shared = latent();
  shared.shared_choice = true;
  spec::ModelSpec model = test::tiny_llama(2);
  model.layers[0].mixer = sparse(3);
  model.layers[1].mixer = shared;
  Parameters parameters(model, at::kDouble, at::kCPU);
  parameters.initialise(3);
  const LatentAttention alone(shared, ParameterScope(parameters, "layers.1.mixer."), nullptr);
  const at::Tensor x = input();
  const ops::Sequences sequences = ops::equal_sequences(1, kTokens);
  EXPECT_THAT(testing_support::message_of<InternalError>([&] {
                alone.forward({x, sequences});
              }),
              testing::HasSubstr("shared_choice without a choice"));
}

TEST(SharedChoices, SelectiveRecomputeKeepsEveryBit) {
  const auto gradients = [](bool recompute) {
    Transformer model(sharing_stack(0.3), at::kDouble);
    model.parameters().initialise(7);
    RecomputePlan plan;
    plan.core_attention = plan.norms = plan.mlp = recompute;
    model.set_recompute(plan);
    RoutingRecord record;
    ForwardOptions options;
    options.context.routing = &record;
    const at::Tensor ids = test::integer_tensor({19}, 0, 23, 4);
    const at::Tensor hidden = model.forward(ids, ops::equal_sequences(1, 19), options);
    (hidden.pow(2).sum() + record.take_loss()).backward();
    std::vector<at::Tensor> grads;
    for (const at::Tensor& tensor : model.parameters().tensors()) grads.push_back(tensor.grad());
    return grads;
  };
  const auto want = gradients(false), got = gradients(true);
  size_t compared = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got[i].defined(), want[i].defined());
    if (!want[i].defined()) continue;  // the head, which this loss does not read
    EXPECT_TRUE(test::same_bits(got[i], want[i]));
    ++compared;
  }
  EXPECT_GT(compared, 30u);
}

TEST(SharedChoices, WholeLayersAreNotRecomputed) {
  Transformer model(sharing_stack(), at::kDouble);
  RecomputePlan plan;
  plan.chunk_layers = 1;
  plan.first_layers = 4;
  EXPECT_THAT(testing_support::message_of<UnsupportedError>([&] { model.set_recompute(plan); }),
              testing::HasSubstr("layer 0 attends to keys that an indexer chooses"));
}

/// Pairs beside the up-projections of every layer, which both forms read, and beside the weights of
/// the indexers.
spec::AdapterSpec beside_latents() {
  spec::AdapterSpec adapter{.rank = 2, .alpha = 3.0};
  for (const char* layer : {"0", "1", "2", "3"}) {
    const std::string mixer = std::string("model.layers.") + layer + ".self_attn.";
    adapter.segments.insert(mixer + "kv_b_proj.weight");
  }
  adapter.segments.insert("model.layers.0.self_attn.indexer.weights_proj.weight");
  return adapter;
}

TEST(LatentAdapters, CountInBothForms) {
  const auto adapter = std::make_shared<const spec::AdapterSpec>(beside_latents());
  Transformer tuned(test::tiny_sparse(), at::kDouble, at::kCPU, adapter);
  Transformer merged(test::tiny_sparse(), at::kDouble);
  tuned.parameters().initialise(7);
  merged.parameters().initialise(7);
  const auto pair_of = [&](const std::string& weight, const char* part) {
    const std::string stem = weight.substr(0, weight.size() - std::string("weight").size());
    return tuned.parameters().get(stem + part);
  };
  const std::vector<std::string> adapted = {
      "layers.0.mixer.kv_up.weight", "layers.1.mixer.kv_up.weight", "layers.2.mixer.kv_up.weight",
      "layers.3.mixer.kv_up.weight", "layers.0.mixer.indexer.weights.weight"};
  for (const std::string& name : adapted) {
    const at::NoGradGuard no_grad;
    const at::Tensor b = pair_of(name, spec::kAdapterB);
    b.copy_(test::normal_tensor(b.sizes().vec(), at::kDouble, 11));
    merged.parameters().get(name).addmm_(b, pair_of(name, spec::kAdapterA), 1.0, adapter->scale());
  }
  const at::Tensor ids = test::integer_tensor({kTokens}, 0, 23, 4);
  const auto run = [&](Transformer& model) {
    const at::Tensor hidden = model.forward(ids, ops::equal_sequences(1, kTokens));
    hidden.pow(2).sum().backward();
    return hidden.detach();
  };
  const at::Tensor want = run(merged);
  EXPECT_TRUE(at::allclose(run(tuned), want, 1e-10, 1e-10));
  for (size_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(adapted[i]);
    const at::Tensor grad = merged.parameters().get(adapted[i]).grad();
    const at::Tensor wanted = pair_of(adapted[i], spec::kAdapterB).t().mm(grad) * adapter->scale();
    EXPECT_TRUE(at::allclose(pair_of(adapted[i], spec::kAdapterA).grad(), wanted, 1e-9, 1e-10));
  }
}

}  // namespace
}  // namespace headway::nn
