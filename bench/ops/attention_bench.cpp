// Attention against at::scaled_dot_product_attention in the same run, interleaved A B A B.
// Not for: correctness (tests/kernels). Usage: attention_bench [--json] [NAME-PART]
// Prints minimum and median in ms of both, and the ratio of the minima (above 1: ours is faster).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/attention.h"

namespace {

using headway::ops::AttentionOptions;
using headway::ops::Sequences;

struct Timing {
  double minimum, median;
};

Timing summarize(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

double milliseconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

struct Program {
  bool json = false;
  std::string filter;

  void compare(const std::string& name, const std::function<void()>& ours,
               const std::function<void()>& theirs) const {
    if (name.find(filter) == std::string::npos) return;
    ours();
    theirs();
    std::vector<double> a, b;
    double spent = 0;
    // At least 5 rounds, then until 3 s are spent.
    for (int round = 0; round < 5 || (spent < 3000 && round < 400); ++round) {
      a.push_back(milliseconds(ours));
      b.push_back(milliseconds(theirs));
      spent += a.back() + b.back();
    }
    const Timing x = summarize(a), y = summarize(b);
    std::printf(json ? "{\"name\": \"%s\", \"headway_min_ms\": %.4f, \"headway_median_ms\": %.4f, "
                       "\"sdpa_min_ms\": %.4f, \"sdpa_median_ms\": %.4f, \"ratio\": %.3f}\n"
                     : "%-34s headway %9.3f (median %9.3f)   sdpa %9.3f (median %9.3f)   x%.2f\n",
                name.c_str(), x.minimum, x.median, y.minimum, y.median, y.minimum / x.minimum);
    std::fflush(stdout);
  }
};

struct Shape {
  int64_t heads, groups, dim;
};

/// Ours takes packed tokens, theirs a padded batch [N, heads, length, dim].
struct Inputs {
  at::Tensor q, k, v;
  Inputs(at::IntArrayRef q_sizes, at::IntArrayRef k_sizes, bool grad)
      : q(at::randn(q_sizes).set_requires_grad(grad)),
        k(at::randn(k_sizes).set_requires_grad(grad)),
        v(at::randn(k_sizes).set_requires_grad(grad)) {}
  void step(const at::Tensor& out, const at::Tensor& d_out) {
    out.backward(d_out);
    for (at::Tensor* x : {&q, &k, &v}) x->mutable_grad() = at::Tensor();
  }
};

struct Setup {
  std::string name;
  Shape shape;
  Sequences sequences;
  AttentionOptions options;
  at::Tensor mask;  // for theirs; undefined: is_causal
};

void run(const Program& program, const Setup& setup, bool backward) {
  const auto [heads, groups, dim] = setup.shape;
  const Sequences& s = setup.sequences;
  Inputs packed({s.cu_q.back(), heads, dim}, {s.cu_k.back(), groups, dim}, backward);
  Inputs padded({s.num_sequences(), heads, s.max_q, dim}, {s.num_sequences(), groups, s.max_k, dim},
                backward);
  const at::Tensor d_packed = at::randn({s.cu_q.back(), heads, dim});
  const at::Tensor d_padded = at::randn({s.num_sequences(), heads, s.max_q, dim});
  AttentionOptions options = setup.options;
  options.scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const auto ours = [&] {
    return headway::ops::attention(packed.q, packed.k, packed.v, {}, s, options);
  };
  const auto theirs = [&] {
    const std::optional<at::Tensor> mask =
        setup.mask.defined() ? std::optional<at::Tensor>(setup.mask) : std::nullopt;
    return at::scaled_dot_product_attention(padded.q, padded.k, padded.v, mask, 0.0,
                                            !mask.has_value(), options.scale, heads != groups);
  };
  const std::string name = setup.name + " H" + std::to_string(heads) + " G" +
                           std::to_string(groups) + " D" + std::to_string(dim) +
                           (backward ? " fwd+bwd" : " fwd");
  if (backward) {
    program.compare(
        name, [&] { packed.step(ours(), d_packed); }, [&] { padded.step(theirs(), d_padded); });
  } else {
    const at::NoGradGuard no_grad;
    program.compare(name, ours, theirs);
  }
}

void run_causal(const Program& program) {
  for (const Shape& shape : {Shape{8, 2, 64}, Shape{8, 8, 64}, Shape{8, 2, 128}, Shape{8, 8, 32}}) {
    for (const int64_t length : {512, 2048}) {
      const int64_t batch = length == 512 ? 2 : 1;
      Setup setup{"causal " + std::to_string(batch) + "x" + std::to_string(length),
                  shape,
                  headway::ops::equal_sequences(batch, length),
                  {},
                  {}};
      run(program, setup, false);
      run(program, setup, true);
    }
  }
}

void run_window(const Program& program) {
  const int64_t length = 4096, window = 256;
  for (const Shape& shape : {Shape{8, 2, 64}, Shape{8, 2, 128}}) {
    Setup setup{"window256 1x4096", shape, headway::ops::equal_sequences(1, length), {}, {}};
    setup.options.rule.left = window - 1;
    const at::Tensor distance = at::arange(length).unsqueeze(1) - at::arange(length).unsqueeze(0);
    setup.mask = (distance >= 0).logical_and(distance < window);
    run(program, setup, false);
    run(program, setup, true);
  }
}

void run_packed(const Program& program) {
  std::vector<int64_t> cu{0};
  for (int64_t i = 0; i < 64; ++i) cu.push_back(cu.back() + 64 * (1 + i % 16));
  Setup setup{"packed 64 documents", {8, 2, 64}, headway::ops::packed_sequences(cu), {}, {}};
  run(program, setup, false);
  run(program, setup, true);
  setup.shape.dim = 128;
  run(program, setup, true);
}

void run_decode(const Program& program) {
  std::vector<int64_t> past, ones;
  for (int64_t i = 0; i < 32; ++i) {
    past.push_back((16 << (i % 9)) - 1);
    ones.push_back(1);
  }
  for (const int64_t dim : {64, 128}) {
    Setup setup{
        "decode 32 sequences", {8, 2, dim}, headway::ops::continued_sequences(past, ones), {}, {}};
    at::Tensor mask = at::zeros({32, 1, 1, setup.sequences.max_k}, at::kBool);
    for (int64_t i = 0; i < 32; ++i) mask[i].narrow(2, 0, past[i] + 1).fill_(true);
    setup.mask = mask;
    run(program, setup, false);
  }
  Setup one{"decode 1x512", {8, 8, 32}, headway::ops::continued_sequences({511}, {1}), {}, {}};
  one.mask = at::ones({1, 1, 1, 512}, at::kBool);
  run(program, one, false);
}

}  // namespace

int main(int argc, char** argv) {
  Program program;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      program.json = true;
    } else {
      program.filter = argument;
    }
  }
  if (!program.json) std::printf("%d threads, float32\n", at::get_num_threads());
  run_causal(program);
  run_window(program);
  run_packed(program);
  run_decode(program);
  return 0;
}
