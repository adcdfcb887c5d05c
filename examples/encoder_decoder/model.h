// A small encoder-decoder made of Headway's layers: what a library user writes to build a model
// that is not a decoder alone.
// Not for: real tasks; one layer of each kind is enough to turn sequences around.
// Legend: S source tokens, T target tokens, D hidden, V vocabulary.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/attention.h"
#include "headway/nn/cross_attention.h"
#include "headway/nn/mlp.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"

namespace example {

struct Shape {
  int64_t vocab_size = 11;
  int64_t hidden_size = 32;
  int64_t num_heads = 2;
  int64_t head_dim = 16;
  int64_t intermediate_size = 64;
  int64_t num_layers = 1;
};

/// What decoding keeps of one source: a context and a cache of its own keys for every layer.
struct DecodeState {
  std::vector<headway::nn::CrossContext> contexts;
  std::vector<headway::nn::LayerState> caches;
  int64_t num_tokens = 0;
};

class EncoderDecoder {
 public:
  EncoderDecoder(const Shape& shape, at::ScalarType dtype);

  /// Source ids int64 [S] of packed sequences -> states [S,D]; every token sees its whole sequence.
  at::Tensor encode(const at::Tensor& ids_S, const headway::ops::Sequences& sources) const;

  /// Keys and values of every decoder layer's cross-attention, projected once. Their positions
  /// count from the end of each source, so that target token t of a reversed sequence stands where
  /// its source token does.
  std::vector<headway::nn::CrossContext> contexts(const at::Tensor& states_SD,
                                                  const headway::ops::Sequences& sources) const;

  /// Target ids int64 [T] -> hidden states [T,D] for the head; token t sees targets up to itself.
  at::Tensor decode(const at::Tensor& ids_T, const headway::ops::Sequences& targets,
                    const std::vector<headway::nn::CrossContext>& contexts) const;

  /// The state of source `index` before its first target token.
  DecodeState start(const std::vector<headway::nn::CrossContext>& contexts, int64_t index) const;
  /// The next target tokens of one sequence: its encoder is not asked again.
  at::Tensor decode_step(const at::Tensor& ids_T, DecodeState& state) const;

  /// [T,D] -> [T,V].
  at::Tensor logits(const at::Tensor& hidden_TD) const;
  /// Mean cross-entropy of the labels int64 [T].
  at::Tensor loss(const at::Tensor& hidden_TD, const at::Tensor& labels_T) const;

  headway::nn::Parameters& parameters() { return parameters_; }

 private:
  struct Layer {
    std::optional<headway::nn::Norm> self_norm, cross_norm, mlp_norm;
    headway::nn::Attention self;
    std::optional<headway::nn::CrossAttention> cross;  // decoder layers only
    headway::nn::DenseMlp mlp;
  };
  struct Stack {
    at::Tensor embedding;
    std::vector<Layer> layers;
    std::optional<headway::nn::Norm> final_norm;
  };
  Stack make_stack(const std::string& prefix, bool decoder);
  at::Tensor run(const Stack& stack, const at::Tensor& ids, const headway::ops::Sequences& tokens,
                 const std::vector<headway::nn::CrossContext>* contexts,
                 std::vector<headway::nn::LayerState>* caches) const;

  Shape shape_;
  headway::nn::Parameters parameters_;
  Stack encoder_;
  Stack decoder_;
};

}  // namespace example
