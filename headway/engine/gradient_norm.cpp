// Not for: anything but gradient_norm.h.
#include "headway/engine/gradient_norm.h"

#include <algorithm>
#include <cmath>

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

namespace headway::engine {
namespace {

constexpr int64_t kBlock = int64_t{1} << 16;
constexpr int64_t kLanes = 8;

/// Run of elements of one tensor.
struct Block {
  size_t tensor;
  int64_t begin;
  int64_t end;
};

template <class T>
double sum_of_squares(const T* values, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(values[i + lane]);
      lanes[lane] += value * value;
    }
  }
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  for (; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

double block_sum(const at::Tensor& tensor, const Block& block) {
  double sum = 0.0;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kBFloat16, at::kHalf, tensor.scalar_type(), "gradient_norm", [&] {
        sum = sum_of_squares(tensor.const_data_ptr<scalar_t>() + block.begin,
                             block.end - block.begin);
      });
  return sum;
}

}  // namespace

double gradient_norm(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> tensors;
  std::vector<Block> blocks;
  double total = 0.0;
  for (const at::Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    if (!gradient.device().is_cpu()) {
      total += gradient.to(at::kDouble).square().sum().item<double>();
      continue;
    }
    tensors.push_back(gradient.contiguous());
    for (int64_t begin = 0; begin < gradient.numel(); begin += kBlock) {
      blocks.push_back({tensors.size() - 1, begin, std::min(begin + kBlock, gradient.numel())});
    }
  }
  std::vector<double> sums(blocks.size());
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = block_sum(tensors[blocks[i].tensor], blocks[i]);
  });
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

}  // namespace headway::engine
