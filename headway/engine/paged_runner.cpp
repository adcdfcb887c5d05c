// One forward for all requests of a context. Not for: who they are.
#include "headway/engine/paged_runner.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

namespace headway::engine {

PagedRunner::PagedRunner(nn::Transformer& model, int64_t block_size, const ContextOptions& options)
    : model_(&model),
      context_(plan_pages(model.spec(), block_size), options),
      storage_(context_.plan(), options.num_blocks, model.parameters().dtype(),
               model.parameters().device()) {}

at::Tensor PagedRunner::forward(const ContextStep& step) {
  const at::NoGradGuard no_grad;
  const ops::Sequences sequences = storage_.load(step);
  const at::Tensor ids = at::tensor(step.input_ids, at::kLong).to(model_->parameters().device());
  return model_->forward(ids, sequences, {&storage_.state(), nullptr});
}

at::Tensor PagedRunner::next_logits(const ContextStep& step, const at::Tensor& hidden_TD) const {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> last;
  int64_t end = 0;
  for (size_t n = 0; n < step.query_lengths.size(); ++n) {
    end += step.query_lengths[n];
    if (step.samples[n]) last.push_back(end - 1);
  }
  const at::Tensor rows = at::tensor(last, at::kLong).to(hidden_TD.device());
  return model_->logits(hidden_TD.index_select(0, rows));
}

std::vector<int64_t> PagedRunner::suspend(Suspend mode) {
  switch (mode) {
    case Suspend::kKeep: return {};
    case Suspend::kOffload:
      storage_.offload();
      context_.set_released(true);
      return {};
    case Suspend::kDrop: {
      storage_.drop();
      const std::vector<int64_t> left = context_.drop_all();
      context_.set_released(true);
      return left;
    }
  }
  throw InternalError("[paged runner] suspend mode is not in the enum");
}

void PagedRunner::resume() {
  storage_.restore();
  context_.set_released(false);
}

}  // namespace headway::engine
