// Megatron's MLASelfAttention with a static inference context. Ours keeps latents; what upstream's
// keeps is expanded from them.
// Legend: S sequence, B batch, D hidden, R rotated channels.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/engine/probe_attention.h"
#include "headway/engine/probe_latent.h"

namespace headway::engine {
namespace {

/// Pairs (2i, 2i + 1) of the last `rotated` channels, first ones before second ones, as upstream
/// leaves them.
at::Tensor halves_apart(const at::Tensor& k_SHK, int64_t rotated) {
  const int64_t plain = k_SHK.size(2) - rotated;
  const at::Tensor turned = k_SHK.narrow(2, plain, rotated).unflatten(2, {rotated / 2, 2});
  return at::cat({k_SHK.narrow(2, 0, plain), turned.select(3, 0), turned.select(3, 1)}, 2);
}

}  // namespace

ProbeOutput probe_latent_cache(const ProbeInput& input) {
  const ProbedLatent probed = make_latent(input);
  ProbeOutput out = run_latent(input, probed);
  const at::Tensor hidden_SBD = hidden_states(input, probed.config);
  const at::NoGradGuard no_grad;
  const int64_t length = hidden_SBD.size(0), batch = hidden_SBD.size(1);
  std::vector<at::Tensor> columns, keys, values;
  for (int64_t b = 0; b < batch; ++b) {
    nn::LayerState state = nn::KvCache();
    std::vector<at::Tensor> rows;
    int64_t past = 0;
    for (const int64_t count : prefill_steps(input, length)) {
      const at::Tensor x_TD = hidden_SBD.select(1, b).narrow(0, past, count).contiguous();
      const ops::Sequences sequences = ops::continued_sequences({past}, {count});
      rows.push_back(probed.module->forward({x_TD, sequences, &state}).out_TD);
      past += count;
    }
    columns.push_back(at::cat(rows));
    const at::Tensor all_TD = hidden_SBD.select(1, b).contiguous();
    const ops::Sequences whole = ops::equal_sequences(1, length);
    const auto [k_SHK, v_SHV] = probed.module->expand(probed.module->cached_rows({all_TD, whole}));
    keys.push_back(halves_apart(k_SHK, probed.mixer.rope_head_dim));
    values.push_back(v_SHV);
  }
  out["out_incremental"] = at::stack(columns, 1);
  out["key_cache"] = at::stack(keys, 1);
  out["value_cache"] = at::stack(values, 1);
  return out;
}

}  // namespace headway::engine
