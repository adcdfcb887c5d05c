// The choice of the next token from logits.
// Not for: stopping or text (generator.h).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::engine {

/// Applied in this order, as Hugging Face does: repetition penalty, temperature, top-k, top-p,
/// min-p.
struct SamplerOptions {
  double temperature = 1.0;  // 0 = the likeliest token, ties to the lowest id
  int64_t top_k = 0;         // 0 = all
  double top_p = 1.0;        // smallest set of likeliest tokens whose probabilities reach this sum
  double min_p = 0.0;        // tokens at least this part as likely as the likeliest
  double repetition_penalty =
      1.0;  // logits of tokens already there: divided if positive, multiplied if negative
};

/// What a draw depends on besides the logits: never on the batch it stands in.
struct DrawKey {
  uint64_t seed = 0;
  uint64_t request = 0;
  uint64_t position = 0;
};

/// Errors: ConfigError naming the option and its range.
void check_sampler(const SamplerOptions& options);

/// Next token. logits [V] of any float dtype and device; `history` are the tokens so far.
/// Arithmetic in double. Errors: as check_sampler; NonFiniteError if a logit is NaN or +inf, or all
/// are -inf. Test: tests/unit/engine/sampler_test.cpp
int64_t sample_token(const at::Tensor& logits_V, const std::vector<int64_t>& history,
                     const SamplerOptions& options, const DrawKey& key);

/// Probabilities sample_token draws from, in id order; temperature must be > 0.
std::vector<double> token_probabilities(const at::Tensor& logits_V,
                                        const std::vector<int64_t>& history,
                                        const SamplerOptions& options);

/// Uniform number in [0,1) that only depends on the key.
double uniform_draw(const DrawKey& key);

}  // namespace headway::engine
