// Stages of latent attention in the order they run. Not for: arithmetic (ops).
#include "headway/nn/latent_attention.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/nn/recompute.h"
#include "headway/ops/linear.h"
#include "headway/ops/sparse_attention.h"

namespace headway::nn {
namespace {

std::optional<Indexer> indexer_of(const spec::LatentAttentionSpec& spec,
                                  const ParameterScope& scope) {
  if (!spec.indexer) return std::nullopt;
  return std::optional<Indexer>(std::in_place, *spec.indexer, scope.child("indexer"));
}

std::optional<Linear> query_up(const spec::LatentAttentionSpec& spec, const ParameterScope& scope) {
  if (!spec.q_lora_rank) return std::nullopt;
  return std::optional<Linear>(std::in_place, scope.child("q_up"));
}

at::Tensor apply(const std::optional<Norm>& norm, const at::Tensor& x) {
  return norm ? norm->forward(x) : x;
}

/// The first `first` and the other channels of every head: [T,H·W] -> [T,H,first], [T,H,W - first].
std::pair<at::Tensor, at::Tensor> split_heads(const at::Tensor& x, int64_t heads, int64_t first) {
  const int64_t width = x.size(1) / heads;
  const auto parts = ops::split_columns(x.reshape({-1, width}), {first, width - first});
  return {parts[0].unflatten(0, {-1, heads}), parts[1].unflatten(0, {-1, heads})};
}

[[noreturn]] void refuse(const std::string& what) {
  throw UnsupportedError("[nn::LatentAttention] " + what + " in this build");
}

}  // namespace

LatentAttention::LatentAttention(const spec::LatentAttentionSpec& spec, const ParameterScope& scope,
                                 std::shared_ptr<RotaryTable> rotary)
    : spec_(spec),
      widths_(spec),
      down_(scope.child("down")),
      q_norm_(spec.q_lora_rank ? make_norm(spec.latent_norm, scope, "q_norm") : std::nullopt),
      q_up_(query_up(spec, scope)),
      kv_norm_(make_norm(spec.latent_norm, scope, "kv_norm")),
      kv_up_(scope.child("kv_up")),
      out_(scope.child("out")),
      indexer_(indexer_of(spec, scope)),
      rotary_(std::move(rotary)) {
  options_.scale = spec::latent_scale(spec);
  options_.rule.right = 0;
  options_.dropout.probability = spec.dropout;
}

bool LatentAttention::needs_index(const MixerInput& input) const {
  if (!indexer_) return false;
  if (input.state != nullptr || indexer_->learns(input)) return true;
  const bool reads_all = input.context != nullptr && input.context->index_warmup;
  return !reads_all && input.sequences.max_k > spec_.indexer->top_k;
}

LatentAttention::Parts LatentAttention::project(const MixerInput& input) const {
  const std::vector<at::Tensor> down = down_.forward_segments(input.x_TD);
  const at::Tensor q_latent = q_up_ ? apply(q_norm_, down[0]) : at::Tensor();
  const auto q =
      split_heads(q_up_ ? q_up_->forward(q_latent) : down[0], spec_.num_heads, spec_.nope_head_dim);
  const auto kv = ops::split_columns(down[1], {spec_.kv_lora_rank, spec_.rope_head_dim});
  Parts parts{q.first, q.second, apply(kv_norm_, kv[0]), kv[1], {}};
  std::optional<RotaryTable::Rows> turns;
  if (rotary_) {
    turns = rotary_->rows_of(input.sequences,
                             input.context == nullptr ? at::Tensor() : input.context->positions_3T);
    parts.q_THR = rotary_->rotate(parts.q_THR, *turns);
    parts.key_TR = rotary_->rotate(parts.key_TR.unsqueeze(1), *turns).squeeze(1);
  }
  if (needs_index(input)) {
    const at::AutoGradMode record(indexer_->learns(input));
    parts.index =
        indexer_->project(input.x_TD, q_up_ ? q_latent : input.x_TD, turns ? &*turns : nullptr);
  }
  return parts;
}

at::Tensor LatentAttention::choose(const std::optional<ops::IndexInputs>& index,
                                   const ops::Sequences& sequences, const MixerInput& input) const {
  KeyChoice* held = input.context == nullptr ? nullptr : input.context->choice;
  if (input.context != nullptr && input.context->index_warmup) return {};
  if (spec_.shared_choice) {
    if (held == nullptr || !held->made) {
      throw InternalError("[nn::LatentAttention] layer " + std::to_string(input.layer) +
                          ": shared_choice without a choice of an earlier layer");
    }
    return held->chosen_TJ;
  }
  if (!indexer_) return {};
  at::Tensor chosen;
  if (sequences.max_k > spec_.indexer->top_k) {
    chosen = ops::select_keys(index.value(), sequences, indexer_->options());
  }
  if (held != nullptr) *held = {true, chosen};
  return chosen;
}

at::Tensor LatentAttention::rows_of(const Parts& parts) const {
  return at::cat({parts.latent_TC, parts.key_TR}, 1);
}

at::Tensor LatentAttention::absorbed_queries(const Parts& parts) const {
  const at::Tensor up = kv_up_.weight().unflatten(0, {spec_.num_heads, -1});
  const at::Tensor q_HTC =
      at::bmm(parts.q_THN.transpose(0, 1), up.narrow(1, 0, spec_.nope_head_dim));
  return at::cat({q_HTC.transpose(0, 1), parts.q_THR}, 2);
}

at::Tensor LatentAttention::values_of(const at::Tensor& core_THC) const {
  const at::Tensor up = kv_up_.weight()
                            .unflatten(0, {spec_.num_heads, -1})
                            .narrow(1, spec_.nope_head_dim, spec_.v_head_dim);
  return at::bmm(core_THC.transpose(0, 1), up.transpose(1, 2)).transpose(0, 1);
}

std::pair<at::Tensor, at::Tensor> LatentAttention::expand(const at::Tensor& rows_SK) const {
  const auto parts = ops::split_columns(rows_SK, {spec_.kv_lora_rank, spec_.rope_head_dim});
  const auto [k_SHN, v_SHV] =
      split_heads(kv_up_.forward(parts[0]), spec_.num_heads, spec_.nope_head_dim);
  const at::Tensor shared_SHR = parts[1].unsqueeze(1).expand({-1, spec_.num_heads, -1});
  return {at::cat({k_SHN, shared_SHR}, 2), v_SHV};
}

ops::AttentionOptions LatentAttention::options_for(const MixerInput& input) const {
  ops::AttentionOptions options = options_;
  options.dropout = dropout_for(input, spec_.dropout);
  if (input.context == nullptr) return options;
  options.mask = input.context->attention_mask;
  options.bias = input.context->attention_bias;
  return options;
}

at::Tensor LatentAttention::attend_expanded(const Parts& parts, const MixerInput& input) const {
  const at::Tensor q_THK = at::cat({parts.q_THN, parts.q_THR}, 2);
  const auto [k_THK, v_THV] = expand(rows_of(parts));
  const ops::AttentionOptions options = options_for(input);
  if (!is_replaying()) max_logit_->add(q_THK, k_THK, input.sequences, options);
  const at::Tensor core_THV = ops::attention(q_THK, k_THK, v_THV, {}, input.sequences, options);
  if (checks_ != nullptr) {
    checks_->tensor("q", q_THK, {input.x_TD.size(0), spec_.num_heads, widths_.head});
    checks_->tensor("core output", core_THV,
                    {input.x_TD.size(0), spec_.num_heads, spec_.v_head_dim});
  }
  const at::Tensor out_TD = out_.forward(core_THV.flatten(1));
  if (!recompute_core_ || input.state != nullptr) return out_TD;
  discard_until_backward(
      {core_THV}, out_TD,
      [q = q_THK.detach(), k = k_THK.detach(), v = v_THV.detach(), sequences = input.sequences,
       options] {
        return std::vector<at::Tensor>{ops::attention(q, k, v, {}, sequences, options)};
      });
  return out_TD;
}

at::Tensor LatentAttention::attend_chosen(const Parts& parts, const at::Tensor& chosen_TJ,
                                          const MixerInput& input) const {
  if (max_logit_->observes()) refuse("logits are not observed over chosen keys");
  const bool masked = input.context != nullptr && (input.context->attention_mask.defined() ||
                                                   input.context->attention_bias.defined());
  if (masked) refuse("chosen keys take no masks or biases given as tensors");
  const at::Tensor q_THK = absorbed_queries(parts), rows_SK = rows_of(parts);
  const at::Tensor core_THC =
      ops::sparse_attention(q_THK, rows_SK, chosen_TJ, spec_.kv_lora_rank, options_.scale);
  if (checks_ != nullptr) {
    checks_->tensor("core output", core_THC,
                    {input.x_TD.size(0), spec_.num_heads, spec_.kv_lora_rank});
  }
  const at::Tensor out_TD = out_.forward(values_of(core_THC).flatten(1));
  if (!recompute_core_) return out_TD;
  discard_until_backward(
      {core_THC}, out_TD,
      [q = q_THK.detach(), rows = rows_SK.detach(), chosen_TJ, width = spec_.kv_lora_rank,
       scale = options_.scale] {
        return std::vector<at::Tensor>{ops::sparse_attention(q, rows, chosen_TJ, width, scale)};
      });
  return out_TD;
}

at::Tensor LatentAttention::attend_absorbed(const Parts& parts, const Keys& keys) const {
  const at::Tensor q_THK = absorbed_queries(parts);
  if (keys.chosen_TJ.defined()) {
    return values_of(ops::sparse_attention(q_THK, keys.rows_SK, keys.chosen_TJ, spec_.kv_lora_rank,
                                           options_.scale));
  }
  const at::Tensor k_S1K = keys.rows_SK.unsqueeze(1);
  ops::AttentionOptions options = options_;
  options.dropout = {};
  return values_of(ops::attention(q_THK, k_S1K, k_S1K.narrow(2, 0, spec_.kv_lora_rank), {},
                                  keys.sequences, options));
}

at::Tensor LatentAttention::continue_one(const Parts& parts, const MixerInput& input,
                                         KvCache& cache) const {
  if (input.sequences.num_sequences() != 1) {
    throw ShapeError(
        "[nn::LatentAttention] sequences = " + std::to_string(input.sequences.num_sequences()) +
        ", allowed 1 when a state is given");
  }
  const int64_t past = cache.length();
  const at::Tensor rows_T1K = rows_of(parts).unsqueeze(1);
  const at::Tensor index_T1I =
      parts.index ? parts.index->k_SD.unsqueeze(1) : rows_T1K.narrow(2, 0, 0);
  const KvCache::View view = cache.append(rows_T1K, index_T1I);
  Keys keys{view.k_SGK.squeeze(1), {}, input.sequences};
  keys.sequences.cu_k = {0, keys.rows_SK.size(0)};
  keys.sequences.max_k = keys.rows_SK.size(0);
  std::optional<ops::IndexInputs> index = parts.index;
  if (index) index->k_SD = view.v_SGV.squeeze(1);
  keys.chosen_TJ = choose(index, keys.sequences, input);
  if (past == 0 && !keys.chosen_TJ.defined()) return attend_expanded(parts, input);
  if (max_logit_->observes()) refuse("logits are not observed with a state");
  return out_.forward(attend_absorbed(parts, keys).flatten(1));
}

at::Tensor LatentAttention::continue_many(const Parts& parts, const MixerInput& input,
                                          PagedKv& pages) const {
  if (max_logit_->observes()) refuse("logits are not observed through pages");
  const at::Tensor rows_T1K = rows_of(parts).unsqueeze(1);
  const at::Tensor index_T1I =
      parts.index ? parts.index->k_SD.unsqueeze(1) : rows_T1K.narrow(2, 0, 0);
  ops::PagedKeys paged = pages.append(rows_T1K, index_T1I);
  const bool sparse = (spec_.indexer || spec_.shared_choice);
  if (!sparse) {
    paged.v_PBGV = paged.k_PBGK.narrow(3, 0, spec_.kv_lora_rank);
    ops::AttentionOptions options = options_;
    options.dropout = {};
    const at::Tensor core_THC =
        ops::paged_attention(absorbed_queries(parts), paged, {}, input.sequences, options);
    return out_.forward(values_of(core_THC).flatten(1));
  }
  std::vector<ops::PageRows> all;
  for (int64_t n = 0; n < input.sequences.num_sequences(); ++n) {
    all.push_back({n, 0, input.sequences.cu_k[n + 1] - input.sequences.cu_k[n]});
  }
  const auto gathered = [&](const at::Tensor& held) {
    return ops::gather_pages(held, paged.block_table_NM, all).squeeze(1);
  };
  Keys keys{gathered(paged.k_PBGK), {}, input.sequences};
  std::optional<ops::IndexInputs> index = parts.index;
  if (index) index->k_SD = gathered(paged.v_PBGV);
  keys.chosen_TJ = choose(index, keys.sequences, input);
  return out_.forward(attend_absorbed(parts, keys).flatten(1));
}

void LatentAttention::learn(const Parts& parts, const at::Tensor& chosen_TJ,
                            const MixerInput& input) const {
  if (!indexer_ || !indexer_->learns(input)) return;
  ops::IndexTarget target;
  {
    const at::NoGradGuard no_grad;
    target = {absorbed_queries(parts), rows_of(parts), options_.scale};
  }
  indexer_->learn(parts.index.value(), target, chosen_TJ, input);
}

MixerOutput LatentAttention::forward(const MixerInput& input) const {
  const Parts parts = project(input);
  if (input.state == nullptr) {
    const at::Tensor chosen = choose(parts.index, input.sequences, input);
    learn(parts, chosen, input);
    return {chosen.defined() ? attend_chosen(parts, chosen, input) : attend_expanded(parts, input)};
  }
  if (auto* pages = std::get_if<PagedKv>(input.state)) {
    return {continue_many(parts, input, *pages)};
  }
  return {continue_one(parts, input, std::get<KvCache>(*input.state))};
}

at::Tensor LatentAttention::cached_rows(const MixerInput& input) const {
  return rows_of(project(input));
}

}  // namespace headway::nn
