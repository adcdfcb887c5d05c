// Experts on the CPU: blocks of rows of one expert, every block a chain of products by one thread
// while its rows are in the cache; then weight gradients, strip by strip of each expert's weight.
// Not for: row loops (cpu/expert_rows.cpp) or few tokens (cpu/experts_few.cpp).
// Legend: as in internal/experts_kernel.h; B rows of a block.
#include <vector>

#include <ATen/core/grad_mode.h>

#include "headway/ops/cpu/experts_parts.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

// Rows of a block: enough for the products to run at full speed.
constexpr int64_t kBlock = 128;
// Rows of a sum over tokens; fixed, so that no bit depends on the number of threads.
constexpr int64_t kSumBlock = 512;
// Rows of a weight whose gradient one task forms.
constexpr int64_t kStrip = 512;

struct Block {
  int64_t expert, begin, count;
};

std::vector<Block> blocks_of(const ExpertOrder& order) {
  std::vector<Block> blocks;
  for (size_t e = 0; e + 1 < order.offsets.size(); ++e) {
    const int64_t rows = order.offsets[e + 1] - order.offsets[e];
    const int64_t pieces = (rows + kBlock - 1) / kBlock;
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t begin = i * rows / pieces, end = (i + 1) * rows / pieces;
      blocks.push_back({static_cast<int64_t>(e), order.offsets[e] + begin, end - begin});
    }
  }
  return blocks;
}

/// Handles without gradients: worker threads do not know that they are off here.
ExpertArguments detached(const ExpertArguments& a) {
  const auto bare = [](const at::Tensor& x) { return x.defined() ? x.detach() : x; };
  const auto rows = [&](const at::Tensor& x) { return x.defined() ? bare(x).contiguous() : x; };
  return {
      bare(a.x),
      bare(a.weights),
      a.experts,
      {rows(a.expert.up), rows(a.expert.up_bias), rows(a.expert.down), rows(a.expert.down_bias)},
      a.options};
}

/// One buffer per worker and kind of row.
class Scratch {
 public:
  Scratch(int64_t rows, int64_t width, const at::Tensor& like)
      : all_(at::empty({num_workers(), rows, width}, like.options())) {}
  at::Tensor rows(int64_t worker, int64_t count) const { return all_[worker].narrow(0, 0, count); }

 private:
  at::Tensor all_;
};

std::vector<float> pair_weights(const ExpertArguments& a, const ExpertOrder& order) {
  const float* weights = a.weights.const_data_ptr<float>();
  std::vector<float> sorted(order.pairs.size());
  for (size_t row = 0; row < sorted.size(); ++row) sorted[row] = weights[order.pairs[row]];
  return sorted;
}

class Forward {
 public:
  Forward(const ExpertArguments& given, const ExpertOrder& order, bool keep_up)
      : a_(detached(given)),
        order_(order),
        width_up_(a_.up_rows()),
        width_F_(a_.expert.down.size(1)),
        outputs_(a_.down_rows()),
        weights_(pair_weights(a_, order)),
        x_(kBlock, a_.x.size(1), a_.x),
        up_(kBlock, keep_up ? 0 : width_up_, a_.x),
        h_(kBlock, width_F_, a_.x),
        rows_(at::empty({order.rows(), outputs_}, a_.x.options())) {
    if (keep_up) kept_ = at::empty({order.rows(), width_up_}, a_.x.options());
  }

  ExpertsForward run() {
    const std::vector<Block> blocks = blocks_of(order_);
    run_tasks(num_workers(), static_cast<int64_t>(blocks.size()),
              [&](int64_t worker, int64_t task) { form(blocks[task], worker); });
    ExpertsForward result{at::empty({a_.x.size(0), outputs_}, a_.x.options()), kept_};
    combine_tokens(order_, rows_, result.y);
    return result;
  }

 private:
  void form(const Block& block, int64_t worker) {
    at::Tensor x = x_.rows(worker, block.count), h = h_.rows(worker, block.count);
    at::Tensor up =
        kept_.defined() ? kept_.narrow(0, block.begin, block.count) : up_.rows(worker, block.count);
    gather_tokens(order_, block.begin, a_.x, x);
    at::mm_out(up, x, expert_rows(a_.expert.up, block.expert, width_up_).t());
    if (a_.expert.up_bias.defined()) {
      up.add_(expert_rows(a_.expert.up_bias, block.expert, width_up_));
    }
    expert_activate(a_.options, up, h);
    cpu::scale_expert_rows(cpu::element_of(h), h.data_ptr(), block.count, width_F_,
                           weights_.data() + block.begin);
    at::Tensor z = rows_.narrow(0, block.begin, block.count);
    at::mm_out(z, h, expert_rows(a_.expert.down, block.expert, outputs_).t());
    if (a_.expert.down_bias.defined()) {
      const at::Tensor w =
          at::from_blob(weights_.data() + block.begin, {block.count, 1}, at::kFloat);
      z.add_((w * expert_rows(a_.expert.down_bias, block.expert, outputs_)).to(z.scalar_type()));
    }
  }

  const ExpertArguments a_;
  const ExpertOrder& order_;
  const int64_t width_up_, width_F_, outputs_;
  std::vector<float> weights_;
  Scratch x_, up_, h_;
  at::Tensor rows_, kept_;
};

class Backward {
 public:
  Backward(const ExpertArguments& given, const ExpertOrder& order, const at::Tensor& up_rows,
           const at::Tensor& d_y, const ExpertsWanted& wanted)
      : a_(detached(given)),
        order_(order),
        up_(up_rows.detach()),
        d_y_(d_y.detach()),
        wanted_(wanted),
        width_up_(a_.up_rows()),
        width_F_(a_.expert.down.size(1)),
        outputs_(a_.down_rows()),
        weights_(pair_weights(a_, order)),
        d_weights_(order.pairs.size()),
        dy_(kBlock, outputs_, a_.x),
        d_h_(kBlock, width_F_, a_.x),
        gathered_(kSumBlock, std::max(a_.x.size(1), outputs_), a_.x),
        weighted_(at::empty({order.rows(), width_F_}, a_.x.options())),
        d_up_(at::empty({order.rows(), width_up_}, a_.x.options())) {
    if (wanted.x) rows_dx_ = at::empty({order.rows(), a_.x.size(1)}, a_.x.options());
  }

  ExpertsGradients run() {
    const std::vector<Block> blocks = blocks_of(order_);
    run_tasks(num_workers(), static_cast<int64_t>(blocks.size()),
              [&](int64_t worker, int64_t task) { form_rows(blocks[task], worker); });
    ExpertsGradients result;
    if (wanted_.x) {
      result.x = at::empty(a_.x.sizes(), a_.x.options());
      combine_tokens(order_, rows_dx_, result.x);
    }
    if (wanted_.weights) result.weights = scattered_weights();
    form_weights(result);
    form_biases(result);
    return result;
  }

 private:
  void form_rows(const Block& block, int64_t worker) {
    const auto element = cpu::element_of(a_.x);
    at::Tensor dy = dy_.rows(worker, block.count), d_h = d_h_.rows(worker, block.count);
    const auto own = [&](const at::Tensor& all) { return all.narrow(0, block.begin, block.count); };
    at::Tensor h = own(weighted_), d_up = own(d_up_);
    gather_tokens(order_, block.begin, d_y_, dy);
    at::mm_out(d_h, dy, expert_rows(a_.expert.down, block.expert, outputs_));
    expert_activate(a_.options, own(up_), h);
    float* d_weights = d_weights_.data() + block.begin;
    cpu::dot_expert_rows(element, d_h.const_data_ptr(), h.const_data_ptr(), block.count, width_F_,
                         d_weights);
    if (a_.expert.down_bias.defined()) {
      const at::Tensor bias = expert_rows(a_.expert.down_bias, block.expert, outputs_);
      at::from_blob(d_weights, {block.count}, at::kFloat)
          .add_(at::mv(dy.to(at::kFloat), bias.to(at::kFloat)));
    }
    const float* weights = weights_.data() + block.begin;
    cpu::scale_expert_rows(element, h.data_ptr(), block.count, width_F_, weights);
    cpu::scale_expert_rows(element, d_h.data_ptr(), block.count, width_F_, weights);
    expert_deactivate(a_.options, own(up_), d_h, d_up);
    if (!wanted_.x) return;
    at::Tensor dx = own(rows_dx_);
    at::mm_out(dx, d_up, expert_rows(a_.expert.up, block.expert, width_up_));
  }

  at::Tensor scattered_weights() const {
    at::Tensor result = at::zeros(a_.weights.sizes(), a_.weights.options());
    float* out = result.data_ptr<float>();
    for (size_t row = 0; row < d_weights_.size(); ++row) out[order_.pairs[row]] = d_weights_[row];
    return result;
  }

  /// A run of rows of one expert's up or down weight.
  struct Strip {
    int64_t expert, begin, count;
    bool is_up;
  };

  void form_weights(ExpertsGradients& result) {
    std::vector<Strip> strips;
    const auto cut = [&](bool is_up, int64_t rows) {
      for (int64_t e = 0; e < a_.options.num_experts; ++e) {
        for (int64_t begin = 0; begin < rows; begin += kStrip) {
          strips.push_back({e, begin, std::min(kStrip, rows - begin), is_up});
        }
      }
    };
    if (wanted_.up) {
      result.up = at::empty(a_.expert.up.sizes(), a_.x.options());
      cut(true, width_up_);
    }
    if (wanted_.down) {
      result.down = at::empty(a_.expert.down.sizes(), a_.x.options());
      cut(false, outputs_);
    }
    run_tasks(num_workers(), static_cast<int64_t>(strips.size()),
              [&](int64_t worker, int64_t task) { form_strip(strips[task], worker, result); });
  }

  /// left[rows, strip]ᵀ · right[rows], one block of rows after another.
  void form_strip(const Strip& strip, int64_t worker, ExpertsGradients& result) {
    const int64_t first = order_.offsets[strip.expert], last = order_.offsets[strip.expert + 1];
    at::Tensor out = expert_rows(strip.is_up ? result.up : result.down, strip.expert,
                                 strip.is_up ? width_up_ : outputs_)
                         .narrow(0, strip.begin, strip.count);
    if (first == last) {
      out.zero_();
      return;
    }
    const bool widens = out.scalar_type() != at::kFloat && last - first > kSumBlock;
    at::Tensor sum = widens ? at::zeros(out.sizes(), out.options().dtype(at::kFloat)) : out;
    for (int64_t begin = first; begin < last; begin += kSumBlock) {
      const int64_t count = std::min(kSumBlock, last - begin);
      const at::Tensor& source = strip.is_up ? a_.x : d_y_;
      at::Tensor tokens =
          gathered_.rows(worker, kSumBlock).flatten().narrow(0, 0, count * source.size(1));
      tokens = tokens.view({count, source.size(1)});
      gather_tokens(order_, begin, source, tokens);
      const at::Tensor& kept = strip.is_up ? d_up_ : weighted_;
      const at::Tensor rows = kept.narrow(0, begin, count);
      const at::Tensor left = (strip.is_up ? rows : tokens).narrow(1, strip.begin, strip.count);
      add_product(sum, left, strip.is_up ? tokens : rows, begin == first);
    }
    if (widens) out.copy_(sum);
  }

  static void add_product(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right,
                          bool is_first) {
    if (left.scalar_type() != sum.scalar_type()) {
      sum.add_(at::mm(left.t(), right));
    } else if (is_first) {
      at::mm_out(sum, left.t(), right);
    } else {
      sum.addmm_(left.t(), right);
    }
  }

  void form_biases(ExpertsGradients& result) {
    if (!wanted_.up_bias && !wanted_.down_bias) return;
    if (wanted_.up_bias) result.up_bias = at::zeros(a_.expert.up_bias.sizes(), a_.x.options());
    if (wanted_.down_bias) {
      result.down_bias = at::zeros(a_.expert.down_bias.sizes(), a_.x.options());
    }
    for (int64_t e = 0; e < a_.options.num_experts; ++e) {
      const int64_t begin = order_.offsets[e], count = order_.offsets[e + 1] - begin;
      if (count == 0) continue;
      if (wanted_.up_bias) {
        expert_rows(result.up_bias, e, width_up_).copy_(d_up_.narrow(0, begin, count).sum(0));
      }
      if (!wanted_.down_bias) continue;
      at::Tensor dy = at::empty({count, outputs_}, a_.x.options());
      gather_tokens(order_, begin, d_y_, dy);
      const at::Tensor w = at::from_blob(weights_.data() + begin, {count, 1}, at::kFloat);
      expert_rows(result.down_bias, e, outputs_).copy_((dy * w).sum(0));
    }
  }

  const ExpertArguments a_;
  const ExpertOrder& order_;
  const at::Tensor up_, d_y_;
  const ExpertsWanted wanted_;
  const int64_t width_up_, width_F_, outputs_;
  std::vector<float> weights_, d_weights_;
  Scratch dy_, d_h_, gathered_;
  at::Tensor weighted_, d_up_, rows_dx_;
};

}  // namespace

Support experts_blocks_supports(const ExpertArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

ExpertsForward experts_blocks_forward(const ExpertArguments& arguments, bool keep_up) {
  at::NoGradGuard no_grad;
  const TargetScope scope(forced_target("experts"));
  const ExpertOrder order = expert_order(arguments.experts, arguments.options.num_experts);
  if (!keep_up && takes_few_tokens(arguments)) {
    return {experts_few_tokens(arguments, order), at::Tensor()};
  }
  return Forward(arguments, order, keep_up).run();
}

ExpertsGradients experts_blocks_backward(const ExpertArguments& arguments,
                                         const at::Tensor& up_rows, const at::Tensor& d_y,
                                         const ExpertsWanted& wanted) {
  at::NoGradGuard no_grad;
  const TargetScope scope(forced_target("experts"));
  const ExpertOrder order = expert_order(arguments.experts, arguments.options.num_experts);
  return Backward(arguments, order, up_rows, d_y, wanted).run();
}

}  // namespace headway::ops::internal
