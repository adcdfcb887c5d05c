// Decoding with draft tokens: several tokens of one pass, the same as one by one.
// Not for: where drafts come from (drafter.h).
#pragma once

#include <vector>

#include "headway/engine/generation.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

/// Where the text of a request goes; both may be null.
struct TextTarget {
  const text::Tokenizer* tokenizer = nullptr;
  TextCallback on_text{};
};

/// Continues `prompt`, whose options are checked, with options.draft_tokens guesses a pass. The
/// stack reads the last token and the guesses together; the token behind each row is drawn as in
/// plain decoding, keyed by seed, request and position, and a guess is accepted iff it equals that
/// draw. Keys and values forget the rows of the first one that does not, and of those behind it;
/// with recurrent layers the stack goes back to its state before the pass instead and reads the
/// accepted tokens once more, with the next guesses. So the tokens are those of plain decoding
/// (docs/numerics.md, "What agrees only to a tolerance"). Guesses are drawn by the same keys from
/// the depths' logits.
/// Errors: ConfigError for a model without multi-token prediction; UnsupportedError for depths
/// whose own layers cannot forget tokens. Source: Leviathan et al. 2023, with shared draws in place
/// of rejection sampling. Test: tests/unit/engine/speculation_test.cpp
GenerateResult speculate(nn::Transformer& model, const std::vector<int64_t>& prompt,
                         const GenerateOptions& options, const TextTarget& target);

}  // namespace headway::engine
