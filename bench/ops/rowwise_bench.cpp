// Row-wise ops beside the composed ATen expression they replace, forward and forward + backward.
// Argument: 0 the op's first kernel, 1 its reference, 2 composed ATen under autograd. Bytes per
// second count what a single pass must touch, so they compare with the machine's memory bandwidth.
// Not for: correctness (tests/kernels).
#include <functional>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <benchmark/benchmark.h>

#include "headway/ops/activation.h"
#include "headway/ops/gate.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/norm.h"
#include "headway/ops/rope.h"

namespace headway::ops {
namespace {

constexpr int64_t kTokens = 2048, kHidden = 1024, kHeads = 16, kChannels = 64;

enum Mode { kFast, kReference, kComposed };

at::Tensor leaf(at::IntArrayRef sizes, at::ScalarType type) {
  return at::randn(sizes, at::kFloat).to(type).requires_grad_();
}

/// One op: how it is called, how it is composed, what it touches per element of `out`.
struct Subject {
  const char* op;
  std::function<at::Tensor()> fused;
  std::function<at::Tensor()> composed;
  double forward_bytes;
  double backward_bytes;
  std::vector<at::Tensor> leaves;
};

void measure(benchmark::State& state, const Subject& subject, bool backward) {
  const auto mode = static_cast<Mode>(state.range(0));
  std::optional<ScopedKernel> forced;
  if (mode == kReference) forced.emplace(subject.op, "reference");
  const auto& call = mode == kComposed ? subject.composed : subject.fused;
  at::Tensor cotangent;
  {
    const at::NoGradGuard off;
    cotangent = at::randn_like(call());
  }
  for (auto _ : state) {
    const at::AutoGradMode grad(backward);
    const at::Tensor out = call();
    if (backward) out.backward(cotangent);
    // Else the next round would add to them.
    for (const at::Tensor& leaf : subject.leaves) leaf.mutable_grad().reset();
    benchmark::DoNotOptimize(out.const_data_ptr());
  }
  const double bytes = subject.forward_bytes + (backward ? subject.backward_bytes : 0.0);
  state.SetBytesProcessed(static_cast<int64_t>(bytes * state.iterations()));
  state.SetLabel(mode == kFast ? "fused" : mode == kReference ? "reference" : "composed ATen");
}

double bytes_of(const at::Tensor& x, double times) {
  return times * static_cast<double>(x.numel()) * x.element_size();
}

Subject norm_subject(at::IntArrayRef sizes, at::ScalarType type) {
  const at::Tensor x = leaf(sizes, type), weight = leaf({sizes.back()}, type);
  return {"norm",
          [=] { return rms_norm(x, weight, 1e-6, NormFlavour::kPlain); },
          [=] {
            const at::Tensor wide = x.to(at::kFloat);
            const at::Tensor scale = (wide.square().mean(-1, true) + 1e-6).rsqrt();
            return (wide * scale).to(x.scalar_type()) * weight;
          },
          bytes_of(x, 2),
          bytes_of(x, 3),
          {x, weight}};
}

Subject add_norm_subject(at::ScalarType type) {
  const at::Tensor x = leaf({kTokens, kHidden}, type), delta = leaf({kTokens, kHidden}, type);
  const at::Tensor weight = leaf({kHidden}, type);
  return {"norm",
          [=] { return add_rms_norm(x, delta, weight, 1e-6, NormFlavour::kPlain).second; },
          [=] {
            const at::Tensor wide = (x + delta).to(at::kFloat);
            const at::Tensor scale = (wide.square().mean(-1, true) + 1e-6).rsqrt();
            return (wide * scale).to(x.scalar_type()) * weight;
          },
          bytes_of(x, 4),
          bytes_of(x, 3),
          {x, delta, weight}};
}

Subject rope_subject(at::ScalarType type, bool interleaved) {
  const at::Tensor x = leaf({kTokens, kHeads, kChannels}, type);
  const at::Tensor cos = at::randn({kTokens, kChannels / 2}), sin = at::randn_like(cos);
  const at::Tensor positions = at::arange(kTokens);
  return {"rope",
          [=] { return rope(x, cos, sin, positions, interleaved); },
          [=] {
            const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
            const auto halves = x.chunk(2, -1);
            return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1)
                .to(x.scalar_type());
          },
          bytes_of(x, 2),
          bytes_of(x, 2),
          {x}};
}

Subject gate_subject(at::ScalarType type, bool head_wise) {
  const at::Tensor x = leaf({kTokens, kHeads, kChannels}, type);
  const at::Tensor gate =
      head_wise ? leaf({kTokens, kHeads}, type) : leaf({kTokens, kHeads, kChannels}, type);
  const double extra = head_wise ? 0 : 1;
  return {"sigmoid_gate",
          [=] { return sigmoid_gate(x, gate); },
          [=] { return x * (head_wise ? gate.unsqueeze(-1) : gate).sigmoid(); },
          bytes_of(x, 2 + extra),
          bytes_of(x, 3 + 2 * extra),
          {x, gate}};
}

Subject gated_subject(at::ScalarType type, ActivationKind kind) {
  const at::Tensor x = leaf({kTokens, 4 * kHidden}, type);
  return {"activation",
          [=] { return gated_activation(x, kind); },
          [=] {
            const auto halves = x.chunk(2, -1);
            const bool silu = kind == ActivationKind::kSilu;
            return (silu ? at::silu(halves[0]) : at::gelu(halves[0], "tanh")) * halves[1];
          },
          bytes_of(x, 1.5),
          bytes_of(x, 2.5),
          {x}};
}

void add(const std::string& name, const std::function<Subject(at::ScalarType)>& make) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const bool backward : {false, true}) {
      const std::string full = name + "/" + c10::toString(type) + (backward ? "/train" : "/infer");
      benchmark::RegisterBenchmark(
          full.c_str(), [=](benchmark::State& state) { measure(state, make(type), backward); })
          ->Arg(kFast)
          ->Arg(kReference)
          ->Arg(kComposed)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

/// What memory gives: a copy of the same size as the norms' input.
void copy(benchmark::State& state) {
  const at::Tensor from = at::randn({kTokens, kHidden}), to = at::empty_like(from);
  for (auto _ : state) to.copy_(from);
  state.SetBytesProcessed(static_cast<int64_t>(bytes_of(from, 2) * state.iterations()));
}
BENCHMARK(copy)->UseRealTime()->Unit(benchmark::kMicrosecond);

[[maybe_unused]] const bool kAdded = [] {
  add("rms_norm", [](auto type) { return norm_subject({kTokens, kHidden}, type); });
  add("head_norm", [](auto type) { return norm_subject({kTokens, kHeads, kChannels}, type); });
  add("add_rms_norm", [](auto type) { return add_norm_subject(type); });
  add("rope_half", [](auto type) { return rope_subject(type, false); });
  add("rope_interleaved", [](auto type) { return rope_subject(type, true); });
  add("gate_head_wise", [](auto type) { return gate_subject(type, true); });
  add("gate_element_wise", [](auto type) { return gate_subject(type, false); });
  add("silu_gated", [](auto type) { return gated_subject(type, ActivationKind::kSilu); });
  add("gelu_gated", [](auto type) { return gated_subject(type, ActivationKind::kGeluTanh); });
  return true;
}();

}  // namespace
}  // namespace headway::ops
