// The indexer's divergence, block by block, with its gradient. Not for: attention itself.
// Legend: B query rows of a block, U keys of it, N index heads, D channels of an index head, H
// heads.
#include "headway/ops/index_loss.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/index_blocks.h"

namespace headway::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "index_loss";
constexpr double kLeast = 1e-10;

/// All tensors in the accumulation type; gradients add up in fields of the same name.
struct Problem {
  IndexInputs index;
  IndexTarget target;
  at::Tensor chosen_TJ;
  bool relu = true;
};

/// One block of queries with the keys they compare: the same U rows for all (rows [U,·]), or chosen
/// ones for each (rows [B,U,·]).
struct BlockKeys {
  at::Tensor hidden_BU;  // true = not in Ω
  at::Tensor index_k;    // [U,D] or [B,U,D]
  at::Tensor target_kv;  // [U,K] or [B,U,K]
  at::Tensor place;      // rows of k, flat; undefined for one run
  int64_t first_key = 0;
};

BlockKeys keys_in_sight(const Problem& p, const internal::IndexBlock& block) {
  BlockKeys keys;
  keys.first_key = block.first_key;
  keys.index_k = p.index.k_SD.narrow(0, block.first_key, block.keys);
  keys.target_kv = p.target.kv_SK.narrow(0, block.first_key, block.keys);
  const auto options = at::dtype(at::kLong).device(p.index.k_SD.device());
  const at::Tensor last_B1 = at::arange(block.rows, options).unsqueeze(1) + (block.seen - 1);
  keys.hidden_BU = at::arange(block.keys, options).unsqueeze(0) > last_B1;
  return keys;
}

BlockKeys keys_chosen(const Problem& p, const internal::IndexBlock& block) {
  BlockKeys keys;
  const at::Tensor chosen_BU =
      p.chosen_TJ.narrow(0, block.row, block.rows).to(p.index.k_SD.device());
  keys.hidden_BU = chosen_BU < 0;
  keys.place = chosen_BU.clamp_min(0).flatten();
  keys.index_k = p.index.k_SD.index_select(0, keys.place).unflatten(0, chosen_BU.sizes());
  keys.target_kv = p.target.kv_SK.index_select(0, keys.place).unflatten(0, chosen_BU.sizes());
  return keys;
}

/// x [B,H,C] · rows -> [B,H,U].
at::Tensor compare(const at::Tensor& x_BHC, const at::Tensor& rows) {
  if (rows.dim() == 3) return at::bmm(x_BHC, rows.transpose(1, 2));
  return at::matmul(x_BHC.flatten(0, 1), rows.t()).unflatten(0, x_BHC.sizes().slice(0, 2));
}

/// log softmax over the last axis; hidden entries hold finite values that mean nothing.
at::Tensor masked_log_softmax(const at::Tensor& z, const at::Tensor& hidden) {
  // Not -inf: a row that sees nothing must stay a number.
  const double low = z.scalar_type() == at::kDouble ? -1e300 : -1e30;
  return at::log_softmax(z.masked_fill(hidden, low), -1);
}

struct Sums {
  at::Tensor loss;
  IndexInputs grad;
};

void add_block(const Problem& p, const internal::IndexBlock& block, const BlockKeys& keys,
               Sums& sums) {
  const auto rows = [&](const at::Tensor& x) { return x.narrow(0, block.row, block.rows); };
  const at::Tensor hidden_B1U = keys.hidden_BU.unsqueeze(1);
  at::Tensor p_BU =
      masked_log_softmax(compare(rows(p.target.q_THK), keys.target_kv) * p.target.scale, hidden_B1U)
          .exp_()
          .masked_fill_(hidden_B1U, 0.0)
          .sum(1);
  p_BU = p_BU / p_BU.sum(-1, true).clamp_min(kLeast);

  const at::Tensor q_BND = rows(p.index.q_TND), w_BN = rows(p.index.w_TN);
  const at::Tensor s_BNU = compare(q_BND, keys.index_k);
  const at::Tensor r_BNU = p.relu ? s_BNU.relu() : s_BNU;
  const at::Tensor scores_BU = at::bmm(w_BN.unsqueeze(1), r_BNU).squeeze(1);
  const at::Tensor log_BU = masked_log_softmax(scores_BU, keys.hidden_BU);
  const at::Tensor terms_BU = p_BU * (p_BU.clamp_min(kLeast).log() - log_BU);
  sums.loss += terms_BU.masked_fill(keys.hidden_BU, 0.0).sum();

  // A query that sees no key has no target: its hidden entries hold p = 0 and are set to 0 here.
  const at::Tensor d_BU = (log_BU.exp() - p_BU).masked_fill(keys.hidden_BU, 0.0);
  rows(sums.grad.w_TN).copy_(at::bmm(r_BNU, d_BU.unsqueeze(2)).squeeze(2));
  at::Tensor ds_BNU = d_BU.unsqueeze(1) * w_BN.unsqueeze(2);
  if (p.relu) ds_BNU = ds_BNU * (s_BNU > 0);
  if (keys.place.defined()) {
    rows(sums.grad.q_TND).copy_(at::bmm(ds_BNU, keys.index_k));
    const at::Tensor dk_BUD = at::bmm(ds_BNU.transpose(1, 2), q_BND);
    sums.grad.k_SD.index_add_(0, keys.place, dk_BUD.flatten(0, 1));
    return;
  }
  const at::Tensor flat = ds_BNU.flatten(0, 1);
  rows(sums.grad.q_TND).copy_(at::matmul(flat, keys.index_k).view_as(q_BND));
  sums.grad.k_SD.narrow(0, block.first_key, block.keys)
      .add_(at::matmul(flat.t(), q_BND.flatten(0, 1)));
}

Sums run(const Problem& p, const Sequences& sequences) {
  Sums sums{
      at::zeros({}, p.index.q_TND.options()),
      {at::zeros_like(p.index.q_TND), at::zeros_like(p.index.k_SD), at::zeros_like(p.index.w_TN)}};
  const int64_t width = p.index.q_TND.size(1) + p.target.q_THK.size(1);
  for (const internal::IndexBlock& block : internal::index_blocks(sequences, width)) {
    add_block(p, block, p.chosen_TJ.defined() ? keys_chosen(p, block) : keys_in_sight(p, block),
              sums);
  }
  return sums;
}

void check_arguments(const IndexInputs& index, const IndexTarget& target, const at::Tensor& chosen,
                     const Sequences& sequences) {
  internal::check_index(kOp, index, sequences);
  internal::check_dims(kOp, "q", target.q_THK, 3, "[T,H,K]");
  internal::check_dims(kOp, "kv", target.kv_SK, 2, "[S,K]");
  internal::check_like(kOp, "q", target.q_THK, "index q", index.q_TND);
  internal::check_like(kOp, "kv", target.kv_SK, "index q", index.q_TND);
  if (target.q_THK.size(0) != index.q_TND.size(0)) {
    internal::throw_shape(kOp, "q", target.q_THK.sizes(), "the tokens of index q");
  }
  if (target.kv_SK.size(0) != index.k_SD.size(0) || target.kv_SK.size(1) != target.q_THK.size(2)) {
    internal::throw_shape(kOp, "kv", target.kv_SK.sizes(),
                          "the tokens of index k and the channels of q");
  }
  if (!chosen.defined()) return;
  internal::check_dims(kOp, "chosen", chosen, 2, "[T,J]");
  if (chosen.size(0) != index.q_TND.size(0) || chosen.scalar_type() != at::kLong) {
    internal::throw_shape(kOp, "chosen", chosen.sizes(), "int64 [T,J], the tokens of index q");
  }
}

class IndexLossFunction : public torch::autograd::Function<IndexLossFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& w, const Problem& problem,
                            const Sequences& sequences) {
    Problem p = problem;
    p.index = {q, k, w};
    const Sums sums = run(p, sequences);
    context->save_for_backward({sums.grad.q_TND, sums.grad.k_SD, sums.grad.w_TN});
    return sums.loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor none;
    return {saved[0] * grads[0], saved[1] * grads[0], saved[2] * grads[0], none, none};
  }
};

}  // namespace

at::Tensor index_loss(const IndexInputs& index, const IndexTarget& target,
                      const at::Tensor& chosen_TJ, const Sequences& sequences, bool relu) {
  check_arguments(index, target, chosen_TJ, sequences);
  const at::ScalarType wide = internal::accumulate_type(index.q_TND);
  const Problem problem{
      {},
      {target.q_THK.detach().to(wide), target.kv_SK.detach().to(wide), target.scale},
      chosen_TJ,
      relu};
  return IndexLossFunction::apply(index.q_TND.to(wide), index.k_SD.to(wide), index.w_TN.to(wide),
                                  problem, sequences);
}

}  // namespace headway::ops
