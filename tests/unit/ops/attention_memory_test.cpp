// Memory of attention grows with the number of tokens, not with its square.
// Not for: what a whole step holds (headway bench attention reports it).
#include <algorithm>
#include <memory>

#include <ATen/Functions.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "headway/ops/attention.h"

namespace headway::ops {
namespace {

/// Bytes that libtorch's CPU allocator has given out on this thread.
class Bytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    held_ += size;
    peak_ = std::max(peak_, held_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t held_ = 0;
  int64_t peak_ = 0;
};

int64_t peak_of(int64_t tokens, AttentionOptions options) {
  const auto heads = [&](int64_t count) { return at::rand({tokens, count, 16}).requires_grad_(); };
  const at::Tensor q = heads(4), k = heads(1), v = heads(1);
  const at::Tensor d_out = at::rand({tokens, 4, 16});
  const Sequences sequences = equal_sequences(1, tokens);
  options.scale = 0.25;
  const auto bytes = std::make_shared<Bytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);
  attention(q, k, v, {}, sequences, options).backward(d_out);
  return bytes->peak();
}

TEST(AttentionMemory, IsLinearInTheTokens) {
  AttentionOptions causal, windowed, dropping;
  windowed.rule.left = 63;
  dropping.dropout = {0.1, 1};
  for (const AttentionOptions& options : {causal, windowed, dropping}) {
    const int64_t small = peak_of(1024, options), large = peak_of(4096, options);
    EXPECT_GT(small, 1024 * 4 * 16 * 4) << "at least the output";
    EXPECT_LT(large, 4.2 * static_cast<double>(small));
    EXPECT_LT(large, int64_t{4096} * 4096) << "far below a byte a score";
  }
}

}  // namespace
}  // namespace headway::ops
