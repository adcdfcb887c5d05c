// See drafter.h. Not for: the layers (nn/mtp.cpp).
#include "headway/engine/drafter.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/nn/mtp_loss.h"

namespace headway::engine {

Drafter::Drafter(const nn::Transformer& model, int64_t depths) : model_(&model) {
  if (model.mtp() == nullptr) {
    throw ConfigError("[generate] --draft-tokens = " + std::to_string(depths) +
                      ", allowed 0 for a model without multi-token prediction");
  }
  for (int64_t k = 0; k < depths; ++k) {
    const spec::LayerSpec& layer = model.mtp()->layer(k);
    depths_.push_back({nn::make_state(layer), 0, {}});
    if (nn::can_drop(depths_.back().state)) continue;
    throw UnsupportedError("[generate] --draft-tokens = " + std::to_string(depths) +
                           ": the layer of multi-token prediction (block " + layer.block +
                           ") keeps a state that cannot forget tokens; allowed 0");
  }
}

void Drafter::append(at::Tensor& rows_TD, const at::Tensor& more_TD) {
  rows_TD = rows_TD.defined() ? at::cat({rows_TD, more_TD}) : more_TD;
}

void Drafter::extend(const at::Tensor& hidden_TD) {
  read_ += hidden_TD.size(0);
  append(depths_.front().hidden_TD, hidden_TD);
}

/// One depth over the rows that it does not keep. `unsure_TD`: input of the rows that rest on
/// guesses of the depth before, then the output of its own such rows. Returns logits [V] of the
/// last row.
at::Tensor Drafter::run(int64_t depth, const std::vector<int64_t>& tokens, at::Tensor& unsure_TD) {
  Depth& held = depths_[static_cast<size_t>(depth)];
  at::Tensor input_TD = held.hidden_TD;
  if (unsure_TD.defined()) append(input_TD, unsure_TD);
  const int64_t rows = read_ - held.kept;
  const auto first = tokens.begin() + held.kept + depth + 1;
  const at::Tensor ids =
      at::tensor(std::vector<int64_t>(first, first + rows), at::kLong).to(input_TD.device());
  const ops::Sequences sequences = nn::next_tokens(held.kept, rows);
  const at::Tensor embedding_TD = model_->embed(ids);
  const nn::MtpOutput output =
      model_->mtp()->forward(depth, {embedding_TD, input_TD, sequences, &held.state, nullptr});
  const int64_t unsure = std::min(depth, read_), sure = rows - unsure;
  nn::drop_last(held.state, unsure);
  held.kept += sure;
  // What is kept of the input: the rows that were unsure here although they no longer change.
  const int64_t settled = held.hidden_TD.defined() ? held.hidden_TD.size(0) - sure : 0;
  held.hidden_TD = settled > 0 ? held.hidden_TD.narrow(0, sure, settled) : at::Tensor();
  const bool is_last = static_cast<size_t>(depth) + 1 == depths_.size();
  if (!is_last && sure > 0) {
    append(depths_[static_cast<size_t>(depth) + 1].hidden_TD, output.hidden_TD.narrow(0, 0, sure));
  }
  unsure_TD = unsure > 0 ? output.hidden_TD.narrow(0, sure, unsure) : at::Tensor();
  const at::Tensor last_TD = output.normed_TD.narrow(0, rows - 1, 1);
  return model_->logits(last_TD, nn::mtp_head(*model_, depth)).select(0, 0);
}

std::vector<int64_t> Drafter::draft(const std::vector<int64_t>& tokens, int64_t count,
                                    const Pick& pick) {
  const auto known = static_cast<int64_t>(tokens.size());
  if (known != read_ + 1 || count > static_cast<int64_t>(depths_.size())) {
    throw InternalError("[engine::Drafter] tokens = " + std::to_string(known) + ", drafts = " +
                        std::to_string(count) + ", allowed " + std::to_string(read_ + 1) +
                        " tokens and up to " + std::to_string(depths_.size()) + " drafts");
  }
  std::vector<int64_t> extended = tokens;
  at::Tensor unsure_TD;
  for (int64_t depth = 0; depth < count; ++depth) {
    const at::Tensor logits = run(depth, extended, unsure_TD);
    extended.push_back(pick(logits, extended));
  }
  return {extended.begin() + known, extended.end()};
}

int64_t Drafter::bytes() const {
  int64_t total = 0;
  for (const Depth& depth : depths_) {
    total += std::visit([](const auto& state) { return state.bytes(); }, depth.state);
    if (depth.hidden_TD.defined()) total += static_cast<int64_t>(depth.hidden_TD.nbytes());
  }
  return total;
}

}  // namespace headway::engine
