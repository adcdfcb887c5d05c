// A model and the pages it generates with: many requests in one forward.
// Not for: queues, sampling and text (batch_generator.h).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/engine/dynamic_context.h"
#include "headway/engine/page_storage.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// What stays of the pages while a context is suspended.
enum class Suspend { kKeep, kOffload, kDrop };

/// Megatron's DynamicInferenceContext with its buffers: `context()` says who runs, `forward` runs
/// them. Records no autograd. Test: tests/unit/engine/paged_runner_test.cpp
class PagedRunner {
 public:
  /// Pages of the model's dtype on its device. Errors: ConfigError as for DynamicContext.
  PagedRunner(nn::Transformer& model, int64_t block_size, const ContextOptions& options);

  DynamicContext& context() { return context_; }
  const DynamicContext& context() const { return context_; }
  PageStorage& storage() { return storage_; }

  /// Final hidden states [T,D] of `step` (as context().begin_step() gives it), keys and values
  /// kept.
  at::Tensor forward(const ContextStep& step);

  /// Logits [R,V] that follow the last tokens of the R rows of `step` that sample, in order.
  at::Tensor next_logits(const ContextStep& step, const at::Tensor& hidden_TD) const;

  /// Until `resume`, kOffload and kDrop refuse requests and steps with kReleased. Returns the ids
  /// of the requests that left (kDrop): they begin again from their prompts.
  std::vector<int64_t> suspend(Suspend mode);
  void resume();

 private:
  nn::Transformer* model_;
  DynamicContext context_;
  PageStorage storage_;
};

}  // namespace headway::engine
