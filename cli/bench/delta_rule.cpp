// The gated delta rule against the same chunks by library calls.
// Not for: transformers as a baseline (tools/compare_delta_rule.py).
#include "headway/ops/delta_rule.h"

#include <cmath>
#include <memory>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/kernel_table.h"

#include "cli/bench/harness.h"

namespace headway::cli::bench {
namespace {

struct Shape {
  int64_t length, key_heads, heads, dim;
  bool channels = false;
};

struct Work {
  ops::DeltaRuleInputs in;
  ops::Sequences sequences;
  ops::DeltaRuleOptions options;
  at::Tensor cotangent;
};

std::shared_ptr<Work> make_work(const Shape& shape) {
  const auto leaf = [](const at::Tensor& x) { return x.detach().set_requires_grad(true); };
  auto work = std::make_shared<Work>();
  std::vector<int64_t> gates{shape.length, shape.heads};
  work->in.q_TGK = leaf(at::randn({shape.length, shape.key_heads, shape.dim}));
  work->in.k_TGK = leaf(at::randn({shape.length, shape.key_heads, shape.dim}));
  work->in.v_THV = leaf(at::randn({shape.length, shape.heads, shape.dim}));
  work->in.beta_TH = leaf(at::randn(gates).sigmoid());
  if (shape.channels) gates.push_back(shape.dim);
  work->in.log_decay = leaf(-at::rand(gates));
  work->sequences = ops::equal_sequences(1, shape.length);
  work->options = {1.0 / std::sqrt(static_cast<double>(shape.dim)), true, 1e-6};
  work->cotangent = at::randn({shape.length, shape.heads, shape.dim});
  return work;
}

void forward_backward(Work& work) {
  ops::gated_delta_rule(work.in, work.sequences, work.options).out_THV.backward(work.cotangent);
  for (at::Tensor* x :
       {&work.in.q_TGK, &work.in.k_TGK, &work.in.v_THV, &work.in.beta_TH, &work.in.log_decay}) {
    x->mutable_grad().reset();
  }
}

/// Multiplications and additions of the chunked form, forward and backward; n = 64.
double flops_of(const Shape& shape) {
  const double n = 64, d = static_cast<double>(shape.dim);
  const double chunks = static_cast<double>(shape.length) / n * static_cast<double>(shape.heads);
  return chunks * 2 * (10 * n * d * d + 13 * n * n * d);
}

Case training_case(const Shape& shape, bool with_baseline) {
  const auto work = make_work(shape);
  Case result;
  result.name = std::string(shape.channels ? "decay per channel" : "decay per head") +
                " S=" + std::to_string(shape.length) + " " + std::to_string(shape.key_heads) + ":" +
                std::to_string(shape.heads) + "x" + std::to_string(shape.dim) + " forward+backward";
  result.ours = [work] { forward_backward(*work); };
  if (with_baseline) {
    result.baseline_name = "library calls";
    result.baseline = [work] {
      const ops::ScopedKernel forced("gated_delta_rule", "composed");
      forward_backward(*work);
    };
  }
  result.flops = flops_of(shape);
  result.tokens = static_cast<double>(shape.length);
  return result;
}

Case decode_case(const Shape& shape) {
  const auto work = make_work(shape);
  const at::Tensor states = at::zeros({1, shape.heads, shape.dim, shape.dim});
  Case result;
  result.name = "decode one token " + std::to_string(shape.heads) + "x" + std::to_string(shape.dim);
  result.ours = [work, states] {
    const at::NoGradGuard no_grad;
    for (int i = 0; i < 100; ++i) {
      ops::gated_delta_step(work->in, states, {0}, work->sequences, work->options);
    }
  };
  result.tokens = 100;
  return result;
}

}  // namespace

std::vector<Case> delta_rule_cases() {
  return {training_case({2048, 32, 32, 128}, true), training_case({2048, 16, 32, 128}, false),
          training_case({2048, 32, 32, 128, true}, false), decode_case({1, 16, 32, 128})};
}

}  // namespace headway::cli::bench
