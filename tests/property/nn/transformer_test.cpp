// Properties of whole models: decode = full, packed = separate, causality, analytic = numeric
// gradients.
#include "headway/nn/transformer.h"

#include <numeric>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

at::Tensor draw_ids(int64_t count, int64_t vocab) {
  at::Tensor ids = at::empty({count}, at::kLong);
  for (int64_t t = 0; t < count; ++t) ids[t] = *rc::gen::inRange<int64_t>(0, vocab);
  return ids;
}

Transformer draw_model() {
  const auto specs = test::tiny_specs();
  const auto& chosen = specs[*rc::gen::inRange<size_t>(0, specs.size())];
  RC_TAG(chosen.name);
  Transformer model(chosen.spec, at::kDouble);
  model.parameters().initialise(*rc::gen::inRange<uint64_t>(0, 1000));
  return model;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

RC_GTEST_PROP(TransformerProperty, PrefillAndDecodeEqualTheFullForward, ()) {
  Transformer model = draw_model();
  const int64_t length = *rc::gen::inRange<int64_t>(2, 40);
  const at::Tensor ids = draw_ids(length, model.spec().embedding.vocab_size);
  at::NoGradGuard no_grad;
  const at::Tensor want = model.forward(ids, ops::equal_sequences(1, length));
  ModelState state = make_state(model.spec());
  std::vector<at::Tensor> parts;
  for (int64_t done = 0; done < length;) {
    const int64_t chunk = std::min<int64_t>(
        length - done, *rc::gen::elementOf(std::vector<int64_t>{1, 1, 1, 2, 5, 16}));
    const auto sequences = ops::continued_sequences({done}, {chunk});
    // The mixer sees only the new tokens; the cache supplies the keys before them.
    ops::Sequences fresh = sequences;
    fresh.cu_k = fresh.cu_q;
    parts.push_back(model.forward(ids.narrow(0, done, chunk), fresh, {&state}));
    done += chunk;
  }
  RC_ASSERT(state.num_tokens == length);
  RC_ASSERT(largest_difference(at::cat(parts), want) < 1e-11);
}

RC_GTEST_PROP(TransformerProperty, PackedEqualsSeparateForwardAndBackward, ()) {
  Transformer model = draw_model();
  std::vector<int64_t> cu{0};
  const int64_t documents = *rc::gen::inRange<int64_t>(1, 5);
  for (int64_t n = 0; n < documents; ++n)
    cu.push_back(cu.back() + *rc::gen::inRange<int64_t>(1, 12));
  const int64_t vocab = model.spec().embedding.vocab_size;
  const at::Tensor ids = draw_ids(cu.back(), vocab);
  const at::Tensor labels = draw_ids(cu.back(), vocab);

  const auto run = [&](bool packed) {
    for (const at::Tensor& tensor : model.parameters().tensors()) tensor.mutable_grad().reset();
    std::vector<at::Tensor> hidden;
    if (packed) {
      hidden.push_back(model.forward(ids, ops::packed_sequences(cu)));
    } else {
      for (int64_t n = 0; n < documents; ++n) {
        const int64_t size = cu[n + 1] - cu[n];
        hidden.push_back(model.forward(ids.narrow(0, cu[n], size), ops::equal_sequences(1, size)));
      }
    }
    const at::Tensor h = at::cat(hidden);
    model.loss(h, labels).loss.backward();
    std::vector<at::Tensor> results{h.detach()};
    for (const at::Tensor& tensor : model.parameters().tensors()) {
      if (tensor.requires_grad()) results.push_back(tensor.grad().clone());
    }
    return results;
  };
  const auto packed = run(true);
  const auto separate = run(false);
  for (size_t i = 0; i < packed.size(); ++i)
    RC_ASSERT(largest_difference(packed[i], separate[i]) < 1e-11);
}

RC_GTEST_PROP(TransformerProperty, FutureTokensChangeNothing, ()) {
  Transformer model = draw_model();
  const int64_t length = *rc::gen::inRange<int64_t>(2, 24);
  const int64_t cut = *rc::gen::inRange<int64_t>(1, length);
  const int64_t vocab = model.spec().embedding.vocab_size;
  at::NoGradGuard no_grad;
  const at::Tensor ids = draw_ids(length, vocab);
  at::Tensor other = ids.clone();
  other.narrow(0, cut, length - cut).copy_(draw_ids(length - cut, vocab));
  const auto sequences = ops::equal_sequences(1, length);
  const at::Tensor a = model.forward(ids, sequences).narrow(0, 0, cut);
  const at::Tensor b = model.forward(other, sequences).narrow(0, 0, cut);
  RC_ASSERT(largest_difference(a, b) < 1e-12);
}

TEST(TransformerProperty, AnalyticEqualsNumericGradientOfEveryParameter) {
  constexpr double kStep = 1e-6;  // third derivatives reach 1e4
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    Transformer model(spec, at::kDouble);
    model.parameters().initialise(11);
    const int64_t vocab = spec.embedding.vocab_size;
    const at::Tensor ids = at::arange(0, 14, at::kLong).mul(5).add(2).remainder(vocab);
    const at::Tensor labels = at::arange(0, 14, at::kLong).mul(3).add(1).remainder(vocab);
    const auto sequences = ops::packed_sequences({0, 9, 14});
    ForwardOptions options;
    options.context.random = RandomStream{3, 5, 1};  // what is dropped does not change
    const auto loss = [&] {
      return model.loss(model.forward(ids, sequences, options), labels, {1e-3}).loss;
    };
    loss().backward();
    for (size_t i = 0; i < model.parameters().tensors().size(); ++i) {
      at::Tensor tensor = model.parameters().tensors()[i];
      if (!tensor.requires_grad()) continue;
      const at::Tensor grad = tensor.grad().flatten();
      at::NoGradGuard no_grad;
      at::Tensor values = tensor.detach().view({-1});
      for (int64_t probe = 0; probe < 3; ++probe) {
        const int64_t at = (probe * 131 + 7) % values.numel();
        // Row 1 of the Step embedding is the padding row: no lookup gradient by definition.
        if (spec.embedding.padding_id && model.parameters().specs()[i].name == "embedding.weight")
          continue;
        const double before = values[at].item<double>();
        values[at] = before + kStep;
        const double up = loss().item<double>();
        values[at] = before - kStep;
        const double down = loss().item<double>();
        values[at] = before;
        EXPECT_NEAR(grad[at].item<double>(), (up - down) / (2 * kStep), 1e-8)
            << model.parameters().specs()[i].name << " element " << at;
      }
    }
  }
}

}  // namespace
}  // namespace headway::nn
