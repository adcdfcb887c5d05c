// Turning sequences of digits around: batches, training, and greedy decoding with a kept encoder.
// Not for: the model (model.h).
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace example {

using Digits = std::vector<int64_t>;

/// Random digits 0-9, three to eight of them; equal for equal seed and index.
Digits source_of(uint64_t seed, int64_t index);

/// Sources packed end to end, with the decoder's inputs (a start token, then the answer) and
/// labels.
struct Batch {
  headway::ops::Sequences sequences;  // of sources and targets alike: the lengths are the same
  at::Tensor source_ids, target_ids, labels;
};
Batch make_batch(uint64_t seed, int64_t first, int64_t count);

/// Trains for `steps` steps of 32 sequences; returns the last loss.
double train(EncoderDecoder& model, int64_t steps, uint64_t seed);

/// Greedy answers, token by token: the encoder runs once for all sources, and every decoder step
/// reads its cached keys and values.
std::vector<Digits> answers(const EncoderDecoder& model, const std::vector<Digits>& sources);

/// How many of `count` sources that training never drew are reversed without a mistake.
int64_t count_reversed(const EncoderDecoder& model, int64_t count, uint64_t seed);

}  // namespace example
