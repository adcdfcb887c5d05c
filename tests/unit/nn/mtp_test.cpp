// Multi-token prediction against the formula written out with other means, and what its losses see.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/mtp_loss.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

Transformer make(const spec::ModelSpec& spec) {
  Transformer model(spec, at::kDouble);
  model.parameters().initialise(3);
  return model;
}

at::Tensor random_ids(int64_t count, int64_t seed = 1) {
  return test::integer_tensor({count}, 0, 29, static_cast<uint64_t>(seed));
}

struct Ran {
  std::vector<MtpOutput> outputs;
  at::Tensor hidden;
};

Ran run(Transformer& model, const at::Tensor& ids, const ops::Sequences& sequences) {
  Ran ran;
  ForwardOptions options;
  options.mtp_hidden = &ran.hidden;
  model.forward(ids, sequences, options);
  ran.outputs = run_mtp(model, ran.hidden, {ids, sequences});
  return ran;
}

TEST(Mtp, ShiftsStayInsideTheirSequence) {
  const at::Tensor values = at::arange(1, 8, at::kLong);
  const auto sequences = ops::packed_sequences({0, 4, 5, 7});
  const auto expect = [&](int64_t count, const std::vector<int64_t>& want) {
    EXPECT_EQ(test::to_integers(shifted(values, count, sequences, -1)), want) << count;
  };
  expect(0, {1, 2, 3, 4, 5, 6, 7});
  expect(1, {2, 3, 4, -1, -1, 7, -1});
  expect(3, {4, -1, -1, -1, -1, -1, -1});
  expect(9, {-1, -1, -1, -1, -1, -1, -1});
}

/// h_k = layer(W [1+w norm of the embedding of ids k ahead ; of h_{k-1}]), step by step.
TEST(Mtp, FollowsTheFormulaDepthByDepth) {
  for (const auto hidden : {spec::MtpHidden::kNormed, spec::MtpHidden::kResidual}) {
    spec::ModelSpec spec = test::tiny_mtp();
    spec.mtp->hidden = hidden;
    Transformer model = make(spec);
    const at::NoGradGuard no_grad;
    const at::Tensor ids = random_ids(13);
    const auto sequences = ops::packed_sequences({0, 8, 13});
    const Ran ran = run(model, ids, sequences);
    std::vector<at::Tensor> states;
    const at::Tensor normed = model.forward(ids, sequences, {nullptr, &states});
    const bool is_normed = hidden == spec::MtpHidden::kNormed;
    at::Tensor h = is_normed ? normed : states.back();
    EXPECT_TRUE(test::close(ran.hidden, h, 1e-12));
    const auto norm = [&](const at::Tensor& x, const std::string& name) {
      const at::Tensor scale = (x.square().mean(-1, true) + spec.mtp->hidden_norm->eps).rsqrt();
      return x * scale * (1.0 + model.parameters().get(name));
    };
    for (int64_t k = 0; k < 2; ++k) {
      const std::string scope = "mtp.layers." + std::to_string(k) + ".";
      const at::Tensor ahead = model.parameters()
                                   .get("embedding.weight")
                                   .index_select(0, shifted(ids, k + 1, sequences, 0));
      const at::Tensor joined = at::cat(
          {norm(ahead, scope + "embedding_norm.weight"), norm(h, scope + "hidden_norm.weight")}, 1);
      ResidualStream stream(at::matmul(joined, model.parameters().get(scope + "proj.weight").t()));
      model.block_at(static_cast<int64_t>(spec.layers.size()) + k)
          .forward(stream, {sequences, nullptr, nullptr, 0});
      const at::Tensor residual = stream.value();
      const at::Tensor out = norm(residual, scope + "final_norm.weight");
      EXPECT_TRUE(test::close(ran.outputs[k].normed_TD, out, 1e-12)) << k;
      h = is_normed ? out : residual;
      EXPECT_TRUE(test::close(ran.outputs[k].hidden_TD, h, 1e-12)) << k;
    }
  }
}

TEST(Mtp, LossIsTheScaledMeanOverDepthsOfLabelsFurtherAhead) {
  Transformer model = make(test::tiny_mtp());
  const at::Tensor ids = random_ids(12);
  at::Tensor labels = random_ids(12, 2);
  labels[5] = -100;
  const auto sequences = ops::packed_sequences({0, 7, 12});
  const at::NoGradGuard no_grad;
  const Ran ran = run(model, ids, sequences);
  const MtpLoss loss = mtp_loss(model, ran.outputs, labels, sequences);
  EXPECT_EQ(mtp_label_counts(model, labels, sequences), (std::vector<int64_t>{9, 7}));
  double total = 0;
  for (int64_t k = 0; k < 2; ++k) {
    const at::Tensor head =
        model.parameters().get("mtp.layers." + std::to_string(k) + ".head.weight");
    const at::Tensor logits = at::matmul(ran.outputs[k].normed_TD, head.t());
    const double want =
        at::cross_entropy_loss(logits, shifted(labels, k + 1, sequences, -100)).item<double>();
    EXPECT_NEAR(loss.cross_entropy[k], want, 1e-10);
    total += 0.3 / 2 * want;
  }
  EXPECT_NEAR(loss.total.item<double>(), total, 1e-10);
}

/// One packed pass gives each document what it gets alone, gradients included.
TEST(Mtp, PackedDocumentsAreSeparateDocuments) {
  const at::Tensor ids = random_ids(11), labels = random_ids(11, 2);
  const auto gradients = [&](const std::vector<std::vector<int64_t>>& passes) {
    Transformer model = make(test::tiny_mtp());
    for (const std::vector<int64_t>& boundaries : passes) {
      const int64_t first = boundaries.front(), count = boundaries.back() - first;
      std::vector<int64_t> cu;
      for (const int64_t b : boundaries) cu.push_back(b - first);
      const auto sequences = ops::packed_sequences(cu);
      const Ran ran = run(model, ids.narrow(0, first, count), sequences);
      const std::vector<int64_t> ones{1, 1};
      mtp_loss(model, ran.outputs, labels.narrow(0, first, count), sequences, ones)
          .total.backward();
    }
    std::vector<at::Tensor> result;
    for (const at::Tensor& tensor : model.parameters().tensors()) result.push_back(tensor.grad());
    return result;
  };
  const auto packed = gradients({{0, 4, 11}}), separate = gradients({{0, 4}, {4, 11}});
  for (size_t i = 0; i < packed.size(); ++i) {
    ASSERT_EQ(packed[i].defined(), separate[i].defined()) << i;
    if (packed[i].defined()) {
      EXPECT_TRUE(test::close(packed[i], separate[i], 1e-11, 1e-14)) << i;
    }
  }
}

TEST(Mtp, DetachTrainsTheDepthsAlone) {
  for (const bool detach : {false, true}) {
    spec::ModelSpec spec = test::tiny_mtp();
    spec.mtp->detach = detach;
    spec.mtp->own_head = false;
    Transformer model = make(spec);
    const at::Tensor ids = random_ids(9), labels = random_ids(9, 2);
    const auto sequences = ops::equal_sequences(1, 9);
    mtp_loss(model, run(model, ids, sequences).outputs, labels, sequences).total.backward();
    for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
      const std::string& name = model.parameters().specs()[i].name;
      const at::Tensor& grad = model.parameters().tensors()[i].grad();
      const bool learns = !detach || name.starts_with("mtp.");
      const bool moved = grad.defined() && grad.abs().max().item<double>() > 0;
      if (name != "final_norm.weight") {
        EXPECT_EQ(moved, learns) << name;
      }
    }
  }
}

TEST(Mtp, SharedWeightsAreOneSetForAllDepths) {
  spec::ModelSpec spec = test::tiny_mtp();
  spec.mtp->layers[0] = spec.mtp->layers[1];
  Transformer own = make(spec);
  spec.mtp->shared_weights = true;
  Transformer shared = make(spec);
  EXPECT_EQ(shared.mtp()->blocks().size(), 1u);
  const at::NoGradGuard no_grad;
  for (const spec::TensorSpec& tensor : own.parameters().specs()) {
    const std::string scope = "mtp.layers.1.";
    if (!tensor.name.starts_with(scope)) continue;
    own.parameters()
        .get(tensor.name)
        .copy_(shared.parameters().get("mtp.layers.0." + tensor.name.substr(scope.size())));
  }
  const at::Tensor ids = random_ids(9);
  const auto sequences = ops::equal_sequences(1, 9);
  const Ran a = run(own, ids, sequences), b = run(shared, ids, sequences);
  EXPECT_TRUE(test::close(a.outputs[1].normed_TD, b.outputs[1].normed_TD, 1e-12));
  const std::string text =
      testing_support::message_of<UnsupportedError>([&] { shared.set_delay_wgrad(true); });
  EXPECT_NE(text.find("mtp.shared_weights = false"), std::string::npos) << text;
  own.set_delay_wgrad(true);
}

/// Tokens further ahead than a depth reads change nothing in it.
TEST(Mtp, SeesNoTokenBehindTheOnesItReads) {
  Transformer model = make(test::tiny_mtp());
  const at::NoGradGuard no_grad;
  const at::Tensor ids = random_ids(10);
  at::Tensor changed = ids.clone();
  changed[7] = (changed[7] + 1) % 29;
  const auto sequences = ops::equal_sequences(1, 10);
  const Ran a = run(model, ids, sequences), b = run(model, changed, sequences);
  for (int64_t k = 0; k < 2; ++k) {
    const int64_t same = 7 - (k + 1);  // rows whose k + 1 tokens ahead are before token 7
    EXPECT_TRUE(test::close(a.outputs[k].normed_TD.narrow(0, 0, same),
                            b.outputs[k].normed_TD.narrow(0, 0, same), 1e-12));
    EXPECT_FALSE(test::close(a.outputs[k].normed_TD.narrow(0, same, 1),
                             b.outputs[k].normed_TD.narrow(0, same, 1), 1e-6));
  }
}

}  // namespace
}  // namespace headway::nn
