// Argument checks of attention, forced kernels, and that tasks really run on several threads.
// Not for: numbers (tests/kernels).
#include "headway/ops/attention.h"

#include <chrono>
#include <limits>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/internal/tasks.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops {
namespace {

struct Arguments {
  at::Tensor q = at::zeros({6, 4, 8}), k = at::zeros({6, 2, 8}), v = at::zeros({6, 2, 5}), sinks;
  Sequences sequences = packed_sequences({0, 4, 6});
  AttentionOptions options;
};

template <class E>
std::string error_of(const Arguments& a) {
  try {
    attention(a.q, a.k, a.v, a.sinks, a.sequences, a.options);
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

TEST(AttentionArguments, AcceptedAndShaped) {
  const Arguments a;
  EXPECT_EQ(attention(a.q, a.k, a.v, a.sinks, a.sequences, a.options).sizes(),
            (std::vector<int64_t>{6, 4, 5}));
}

TEST(AttentionArguments, Undefined) {
  Arguments a;
  a.k = at::Tensor();
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] k = undefined, allowed a tensor");
}

TEST(AttentionArguments, Dimensions) {
  Arguments a;
  a.q = at::zeros({6, 32});
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] q = [6, 32], allowed 3 dimensions [tokens, heads, channels]");
  a = {};
  a.v = at::zeros({6, 2, 0});
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] v = [6, 2, 0], allowed at least one head and channel");
}

TEST(AttentionArguments, Strides) {
  Arguments a;
  a.q = at::zeros({6, 8, 4}).transpose(1, 2);
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] q = [32, 1, 4], allowed strides with a contiguous last dimension");
}

TEST(AttentionArguments, Dtypes) {
  Arguments a;
  a.k = a.k.to(at::kDouble);
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] k = Double, allowed Float, the dtype of q");
  a = {};
  a.q = a.q.to(at::kLong);
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] q = Long, allowed float32, float64, bfloat16 or float16");
}

TEST(AttentionArguments, HeadDims) {
  Arguments a;
  a.k = at::zeros({6, 2, 7});
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] k = [6, 2, 7], allowed head dim 8 of q");
  a.k = at::zeros({6, 3, 8});
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] k = [6, 3, 8], allowed a number of heads that divides the 4 of q");
  a = {};
  a.v = at::zeros({6, 4, 5});
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] v = [6, 4, 5], allowed [6, 2, V] as k");
}

TEST(AttentionArguments, Sinks) {
  Arguments a;
  a.sinks = at::zeros({2});
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] sinks = [2], allowed [4], one per head of q");
  a.sinks = at::zeros({4}, at::kLong);
  EXPECT_EQ(error_of<ShapeError>(a), "[attention] sinks = Long, allowed a floating dtype");
}

TEST(AttentionArguments, Boundaries) {
  Arguments a;
  a.sequences = packed_sequences({0, 4});
  EXPECT_EQ(
      error_of<ShapeError>(a),
      "[attention] sequences.cu_q = ends at 4, allowed non-decreasing boundaries from 0 to 6");
  a.sequences = packed_sequences({0, 4, 6});
  a.sequences.cu_k = {0, 6};
  EXPECT_EQ(error_of<ShapeError>(a),
            "[attention] sequences.cu_k has 2 boundaries, allowed as many as cu_q (= 3)");
}

TEST(AttentionArguments, Options) {
  Arguments a;
  a.options.scale = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(error_of<ConfigError>(a), "[attention] options.scale = nan, allowed a finite number");
  a = {};
  a.options.softcap = -1;
  EXPECT_EQ(error_of<ConfigError>(a),
            "[attention] options.softcap = -1, allowed 0 (off) or a positive finite number");
  a = {};
  a.options.rule.left = -2;
  EXPECT_EQ(error_of<ConfigError>(a), "[attention] options.rule.left = -2, allowed >= -1");
  a = {};
  a.options.rule.right = -2;
  EXPECT_EQ(error_of<ConfigError>(a), "[attention] options.rule.right = -2, allowed >= -1");
}

TEST(AttentionKernels, ForcedKernelThatCannotRunSaysWhy) {
  Arguments a;
  for (at::Tensor* x : {&a.q, &a.k, &a.v}) *x = x->to(at::kDouble);
  const ScopedKernel force("attention", "cpu");
  EXPECT_EQ(
      error_of<UnsupportedError>(a),
      "[attention] forced kernel 'cpu' cannot run: float64 is computed by the reference only");
}

TEST(AttentionKernels, UnknownKernelNamesTheTable) {
  const ScopedKernel force("attention", "fast");
  EXPECT_EQ(error_of<ConfigError>(Arguments()),
            "[HEADWAY_KERNEL] attention = 'fast', allowed cpu | reference");
}

TEST(AttentionKernels, ReferenceHasNoTargets) {
  const ScopedKernel force("attention", "reference", "AVX2");
  EXPECT_EQ(
      error_of<UnsupportedError>(Arguments()),
      "[attention] forced kernel 'reference' cannot run: it is not compiled per target (@AVX2)");
}

TEST(AttentionKernels, NoTapeIsRecordedWithoutNeed) {
  const Arguments a;
  EXPECT_EQ(attention(a.q, a.k, a.v, {}, a.sequences, a.options).grad_fn(), nullptr);
  const at::Tensor q = a.q.clone().requires_grad_();
  EXPECT_NE(attention(q, a.k, a.v, {}, a.sequences, a.options).grad_fn(), nullptr);
  const at::NoGradGuard no_grad;
  EXPECT_EQ(attention(q, a.k, a.v, {}, a.sequences, a.options).grad_fn(), nullptr);
}

/// Threads that at::parallel_for of the library uses: without -fopenmp it would be one.
TEST(Tasks, RunOnSeveralThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  std::set<int64_t> workers, tasks;
  internal::run_tasks(2, 20, [&](int64_t worker, int64_t task) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
    workers.insert(worker);
    tasks.insert(task);
  });
  at::set_num_threads(threads);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(workers, (std::set<int64_t>{0, 1}));
  EXPECT_EQ(tasks.size(), 20u);
}

TEST(Tasks, NestedCallsUseOneWorker) {
  at::parallel_for(0, 2, 1, [](int64_t, int64_t) {
    EXPECT_EQ(internal::num_workers(), 1);
    int64_t done = 0;
    internal::run_tasks(2, 3, [&](int64_t worker, int64_t) {
      EXPECT_EQ(worker, 0);
      ++done;
    });
    EXPECT_EQ(done, 3);
  });
}

TEST(Tasks, NoneIsFine) {
  internal::run_tasks(2, 0, [](int64_t, int64_t) { FAIL(); });
}

}  // namespace
}  // namespace headway::ops
