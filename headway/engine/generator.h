// Continues a prompt token by token with the layers' caches; records no autograd.
// Not for: scoring given tokens (evaluator.h) or many prompts in one batch (batch_generator.h).
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "headway/engine/conversation.h"
#include "headway/engine/generation.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

class Generator {
 public:
  /// `tokenizer` may be null: then there is no text and stop strings are refused.
  Generator(nn::Transformer& model, std::shared_ptr<const text::Tokenizer> tokenizer)
      : model_(&model), tokenizer_(std::move(tokenizer)) {}

  /// Continues `prompt`. With a conversation, only what it has not read yet is read, and it goes on
  /// from there the next time. With draft tokens (engine/speculation.h) several tokens may come out
  /// of one pass. Same tokens in all cases.
  /// Errors: ConfigError (empty prompt, ids outside the vocabulary, options out of range);
  /// UnsupportedError (draft tokens with a conversation or a state that cannot go back).
  GenerateResult run(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                     const TextCallback& on_text = nullptr,
                     Conversation* conversation = nullptr) const;

 private:
  nn::Transformer* model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

}  // namespace headway::engine
