// Linear + cross-entropy on the CPU: chunks of tokens times blocks of the vocabulary. The product
// of a block is formed by one thread and used while it is in that thread's cache: first for the
// statistics of the softmax, then, all blocks known, for the gradient and both of its products.
// Not for: arithmetic on logits (cross_entropy_kernels.cpp).
// Legend: C tokens of a chunk, V vocabulary, B columns of a block, D hidden.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/cpu/cross_entropy_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/linear_cross_entropy_kernel.h"

namespace headway::ops::internal {
namespace {

// Columns of a block: with 256 tokens half a megabyte of logits, less than a second-level cache.
constexpr int64_t kBlock = 512;
// Partial sums of dx, each over consecutive blocks; a fixed number, so that no result depends on
// the number of threads.
constexpr int64_t kSlices = 16;
// Multiplications below which threads cost more than they bring.
constexpr int64_t kWorthThreads = 1 << 20;

class BlockedHead {
 public:
  explicit BlockedHead(const CrossEntropyArguments& arguments);
  CrossEntropySums run();

 private:
  int64_t width(int64_t block) const { return std::min(kBlock, vocabulary_ - block * kBlock); }
  at::Tensor weight_rows(const at::Tensor& x_VD, int64_t block) const {
    return x_VD.narrow(0, block * kBlock, width(block));
  }
  at::Tensor logits_of(int64_t block) const;
  cpu::LogitBlock describe(int64_t block) const;
  void form_logits();
  void combine_blocks();
  void form_gradients();
  void form_slice(int64_t slice, at::Tensor& scratch);
  void add_dx(at::Tensor& partial, const at::Tensor& d_logits, const at::Tensor& weight) const;

  const CrossEntropyArguments& a_;
  at::Tensor x_TD_, weight_VD_;
  const int64_t vocabulary_, blocks_, slices_, step_;
  int64_t first_ = 0, count_ = 0, grain_ = 1;
  at::Tensor x_CD_;
  at::Tensor logits_;             // blocks one after the other, each [C,B] contiguous
  at::Tensor dx_parts_;           // [slices,C,D], fp32
  std::vector<float> peaks_;      // [blocks,C]
  std::vector<double> partials_;  // [blocks,C]
  std::vector<double> label_logit_, lse_, factor_;
  CrossEntropySums sums_;
};

BlockedHead::BlockedHead(const CrossEntropyArguments& arguments)
    : a_(arguments),
      // Worker threads do not know that gradients are off here.
      x_TD_(arguments.x.detach()),
      weight_VD_(arguments.weight.detach()),
      vocabulary_(weight_VD_.size(0)),
      blocks_((vocabulary_ + kBlock - 1) / kBlock),
      slices_(std::min(kSlices, blocks_)),
      step_(chunk_tokens(x_TD_.size(0), vocabulary_, x_TD_.element_size())) {
  const int64_t width_D = x_TD_.size(1);
  logits_ = at::empty({step_ * vocabulary_}, x_TD_.options());
  if (a_.wants_dx) {
    dx_parts_ = at::empty({slices_, step_, width_D}, x_TD_.options().dtype(at::kFloat));
    sums_.dx = at::empty(x_TD_.sizes(), x_TD_.options());
  }
  if (a_.wants_dw) sums_.dw = at::empty(weight_VD_.sizes(), weight_VD_.options());
  peaks_.resize(blocks_ * step_);
  partials_.resize(blocks_ * step_);
  for (auto* values : {&label_logit_, &lse_, &factor_}) values->resize(step_);
  if (step_ * vocabulary_ * width_D < kWorthThreads) grain_ = blocks_;
}

at::Tensor BlockedHead::logits_of(int64_t block) const {
  return logits_.narrow(0, block * kBlock * count_, width(block) * count_)
      .view({count_, width(block)});
}

cpu::LogitBlock BlockedHead::describe(int64_t block) const {
  return {cpu::element_of(logits_),
          logits_of(block).const_data_ptr(),
          count_,
          width(block),
          block * kBlock,
          a_.softcap,
          a_.labels.const_data_ptr<int64_t>() + first_};
}

void BlockedHead::form_logits() {
  at::parallel_for(0, blocks_, grain_, [this](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      at::Tensor logits = logits_of(block);
      at::mm_out(logits, x_CD_, weight_rows(weight_VD_, block).t());
      cpu::block_statistics(
          describe(block),
          {peaks_.data() + block * step_, partials_.data() + block * step_, label_logit_.data()});
    }
  });
}

void BlockedHead::combine_blocks() {
  for (int64_t t = 0; t < count_; ++t) {
    double peak = -std::numeric_limits<double>::infinity(), sum = 0.0;
    for (int64_t block = 0; block < blocks_; ++block) {
      const double value = peaks_[block * step_ + t];
      if (!(value <= peak)) peak = value;  // a NaN stays
      if (std::isnan(value)) break;
    }
    for (int64_t block = 0; block < blocks_; ++block) {
      sum += partials_[block * step_ + t] * std::exp(peaks_[block * step_ + t] - peak);
    }
    lse_[t] = peak + std::log(sum);
    factor_[t] = (1.0 + 2.0 * a_.z_loss * lse_[t]) / a_.divisor;
    sums_.ce += lse_[t] - label_logit_[t];
    sums_.z2 += lse_[t] * lse_[t];
  }
}

/// partial += d_logits · weight, in float32 whatever the dtype of the factors.
void BlockedHead::add_dx(at::Tensor& partial, const at::Tensor& d_logits,
                         const at::Tensor& weight) const {
  if (weight.scalar_type() == at::kFloat) {
    partial.addmm_(d_logits, weight);
  } else {
    partial.add_(at::mm(d_logits, weight));
  }
}

void BlockedHead::form_slice(int64_t slice, at::Tensor& scratch) {
  at::Tensor partial;
  if (a_.wants_dx) partial = dx_parts_[slice].narrow(0, 0, count_).zero_();
  for (int64_t block = slice * blocks_ / slices_; block < (slice + 1) * blocks_ / slices_;
       ++block) {
    at::Tensor d_logits = scratch.narrow(0, 0, count_ * width(block)).view({count_, width(block)});
    cpu::block_gradient(describe(block),
                        {lse_.data(), factor_.data(), a_.divisor, d_logits.data_ptr()});
    if (a_.wants_dx) add_dx(partial, d_logits, weight_rows(weight_VD_, block));
    if (!a_.wants_dw) continue;
    at::Tensor dw = weight_rows(sums_.dw, block);
    if (first_ == 0) {
      at::mm_out(dw, d_logits.t(), x_CD_);
    } else {
      dw.addmm_(d_logits.t(), x_CD_);
    }
  }
}

void BlockedHead::form_gradients() {
  at::parallel_for(0, slices_, std::min(grain_, slices_), [this](int64_t begin, int64_t end) {
    at::Tensor scratch = at::empty({count_ * std::min(kBlock, vocabulary_)}, logits_.options());
    for (int64_t slice = begin; slice < end; ++slice) form_slice(slice, scratch);
  });
  if (a_.wants_dx) {
    sums_.dx.narrow(0, first_, count_).copy_(dx_parts_.narrow(1, 0, count_).sum(0));
  }
}

CrossEntropySums BlockedHead::run() {
  at::NoGradGuard no_grad;
  for (first_ = 0; first_ < x_TD_.size(0); first_ += step_) {
    count_ = std::min(step_, x_TD_.size(0) - first_);
    x_CD_ = x_TD_.narrow(0, first_, count_);
    form_logits();
    combine_blocks();
    if (a_.wants_dx || a_.wants_dw) form_gradients();
  }
  return std::move(sums_);
}

}  // namespace

Support cross_entropy_simd_supports(const CrossEntropyArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

CrossEntropySums cross_entropy_simd(const CrossEntropyArguments& arguments) {
  const TargetScope scope(forced_target("linear_cross_entropy"));
  return BlockedHead(arguments).run();
}

}  // namespace headway::ops::internal
