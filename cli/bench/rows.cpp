// Row-wise ops against the same arithmetic composed of libtorch operators.
#include <ATen/Functions.h>

#include <memory>

#include "cli/bench/harness.h"
#include "headway/ops/activation.h"
#include "headway/ops/gate.h"
#include "headway/ops/linear_cross_entropy.h"
#include "headway/ops/norm.h"
#include "headway/ops/rope.h"

namespace headway::cli::bench {
namespace {

constexpr int64_t kTokens = 2048;
constexpr int64_t kHidden = 1024;

using Function = std::function<at::Tensor()>;

Case forward_backward(std::string name, Function ours, Function baseline,
                      std::vector<at::Tensor> leaves) {
  const auto run = [leaves](const Function& function) {
    function().sum().backward();
    for (const at::Tensor& leaf : leaves) leaf.mutable_grad().reset();
  };
  Case work;
  work.name = std::move(name) + " forward+backward";
  work.ours = [run, ours] { run(ours); };
  work.baseline_name = "libtorch";
  work.baseline = [run, baseline] { run(baseline); };
  work.tokens = kTokens;
  return work;
}

at::Tensor leaf(at::IntArrayRef shape) { return at::randn(shape).set_requires_grad(true); }

Case norm_case() {
  const at::Tensor x = leaf({kTokens, kHidden});
  const at::Tensor d = leaf({kTokens, kHidden});
  const at::Tensor w = leaf({kHidden});
  return forward_backward(
      "residual add + RMS norm",
      [=] { return ops::add_rms_norm(x, d, w, 1e-5, ops::NormFlavour::kPlain).second; },
      [=] {
        const at::Tensor h = x + d;
        return h * at::rsqrt(h.pow(2).mean(-1, true) + 1e-5) * w;
      },
      {x, d, w});
}

Case activation_case() {
  const at::Tensor x = leaf({kTokens, 2 * kHidden});
  return forward_backward(
      "gated SiLU", [=] { return ops::gated_activation(x, ops::ActivationKind::kSilu); },
      [=] { return at::silu(x.narrow(1, 0, kHidden)) * x.narrow(1, kHidden, kHidden); }, {x});
}

Case gate_case() {
  const at::Tensor x = leaf({kTokens, 16, 64});
  const at::Tensor g = leaf({kTokens, 16});
  return forward_backward(
      "head-wise sigmoid gate", [=] { return ops::sigmoid_gate(x, g); },
      [=] { return x * at::sigmoid(g).unsqueeze(2); }, {x, g});
}

Case rope_case() {
  const at::Tensor x = leaf({kTokens, 16, 64});
  const at::Tensor angles =
      at::outer(at::arange(kTokens).to(at::kFloat), at::arange(32).to(at::kFloat).div(-8).exp());
  const at::Tensor cos = at::cos(angles);
  const at::Tensor sin = at::sin(angles);
  const at::Tensor positions = at::arange(kTokens);
  return forward_backward(
      "rotation", [=] { return ops::rope(x, cos, sin, positions, false); },
      [=] {
        const at::Tensor c = at::cat({cos, cos}, 1).unsqueeze(1);
        const at::Tensor s = at::cat({sin, sin}, 1).unsqueeze(1);
        const at::Tensor turned = at::cat({-x.narrow(2, 32, 32), x.narrow(2, 0, 32)}, 2);
        return x * c + turned * s;
      },
      {x});
}

}  // namespace

std::vector<Case> row_op_cases() {
  return {norm_case(), activation_case(), gate_case(), rope_case()};
}

std::vector<Case> head_cases() {
  std::vector<Case> cases;
  for (const int64_t vocab : {8192, 65536}) {
    const at::Tensor x = leaf({1024, 256});
    const at::Tensor w = at::randn({vocab, 256}).mul_(0.02).set_requires_grad(true);
    const at::Tensor labels = at::randint(vocab, {1024}, at::kLong);
    Case work = forward_backward(
        "linear + cross-entropy, vocabulary " + std::to_string(vocab),
        [=] { return ops::linear_cross_entropy(x, w, labels, {}).loss; },
        [=] { return at::cross_entropy_loss(at::linear(x, w), labels); }, {x, w});
    work.tokens = 1024;
    work.flops = 6.0 * 1024 * 256 * static_cast<double>(vocab);
    cases.push_back(std::move(work));
  }
  return cases;
}

}  // namespace headway::cli::bench
