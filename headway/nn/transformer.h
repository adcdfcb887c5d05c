// The decoder: embedding, blocks, final norm, head.
// Not for: optimisation, files or token choice (engine does those).
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/block.h"
#include "headway/nn/mtp.h"
#include "headway/nn/parameters.h"
#include "headway/nn/per_layer_embedding.h"
#include "headway/ops/linear_cross_entropy.h"
#include "headway/ops/sequences.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

struct ForwardOptions {
  ModelState* state = nullptr;                // generation: the sequences continue this state
  std::vector<at::Tensor>* hidden = nullptr;  // receives the residual stream after every layer
  ForwardContext context{};
  /// Receives what multi-token prediction goes on from, for a model that has it.
  at::Tensor* mtp_hidden = nullptr;
};

struct LossOptions {
  double z_loss = 0.0;
  int64_t divisor = 0;  // 0 = number of counted tokens
  at::Tensor head{};    // [V,D] instead of the model's; undefined = that
};

/// Decoder built from a ModelSpec. Handles of its parameters live in parameters().
class Transformer {
 public:
  /// Allocates parameters uninitialised: call parameters().initialise(seed) or load into them.
  /// With an adapter its tensors stand beside the projections and train alone. Errors: ConfigError
  /// from spec::validate.
  explicit Transformer(spec::ModelSpec spec, at::ScalarType dtype = at::kFloat,
                       at::Device device = at::kCPU,
                       std::shared_ptr<const spec::AdapterSpec> adapter = nullptr);
  Transformer(Transformer&&) = default;

  /// Final hidden states, normed: ids int64 [T] -> [T,D].
  at::Tensor forward(const at::Tensor& ids_T, const ops::Sequences& sequences,
                     const ForwardOptions& options = {});

  /// Embedding of ids, scaled: int64 [T] -> [T,D].
  at::Tensor embed(const at::Tensor& ids_T) const;

  /// Logits of chosen rows of forward()'s result, soft cap applied: [T,D] -> [T,V]. `head` [V,D]
  /// instead of the model's if defined.
  at::Tensor logits(const at::Tensor& hidden_TD, const at::Tensor& head = {}) const;

  /// Mean cross-entropy of labels (already shifted, -100 ignored) without holding all logits.
  ops::CrossEntropyResult loss(const at::Tensor& hidden_TD, const at::Tensor& labels_T,
                               const LossOptions& options = {}) const;

  /// What forward passes that record gradients forget from now on; results keep their bits. Whole
  /// layers are those of the stack, parts of layers also those of multi-token prediction.
  void set_recompute(const RecomputePlan& plan);

  /// Whether the gradient of the per-layer table holds only the rows of the tokens, as a sparse
  /// tensor; dense otherwise.
  void set_row_sparse_gradients(bool on);

  /// Whether backward passes leave the weight gradients of projections (not of embedding and head)
  /// waiting for backward_dw(), one set a micro-batch.
  void set_delay_wgrad(bool on);
  /// Adds the weight gradients that the oldest backward pass left waiting; with none it does
  /// nothing.
  void backward_dw() const;
  /// Forgets all weight gradients that wait.
  void drop_dw() const;

  /// Looks at every forward pass from now on; null = at none. `checks` must outlive its use here.
  void set_checks(RealtimeChecks* checks);

  const spec::ModelSpec& spec() const { return spec_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  /// Block by its number of spec::block_at.
  const Block& block_at(int64_t index) const;
  /// Multi-token prediction; null without.
  const Mtp* mtp() const { return mtp_ ? &*mtp_ : nullptr; }
  /// The weight of the head [V,D], which may be the embedding's.
  const at::Tensor& head() const { return head_; }
  /// Model-level rotary tables; null when every layer owns its own (rope_per_layer).
  const SharedRotary* rotary() const { return rotary_.get(); }

 private:
  /// What single layers take besides the stream.
  struct LayerInputs {
    SharedKv* shared_kv;
    std::vector<at::Tensor> per_layer;  // [T,P] for every layer that takes part
  };
  struct Range {
    size_t first;
    size_t last;
  };
  std::shared_ptr<RotaryTable> rotary_of(const spec::LayerSpec& layer) const;
  std::vector<at::Tensor> per_layer_inputs(const at::Tensor& ids_T,
                                           const at::Tensor& embedded_TD) const;
  void recompute_layers(Range layers, ResidualStream& stream, const BlockInput& shared,
                        const LayerInputs& given) const;

  spec::ModelSpec spec_;
  Parameters parameters_;
  std::unique_ptr<SharedRotary> rotary_;
  at::Tensor embedding_;
  std::vector<Block> blocks_;
  std::optional<Norm> final_norm_;
  at::Tensor head_;
  std::optional<Mtp> mtp_;
  double embedding_scale_;
  std::optional<PerLayerEmbedding> per_layer_;
  std::vector<int64_t> kv_readers_;
  RecomputePlan recompute_;
  RealtimeChecks* checks_ = nullptr;
};

}  // namespace headway::nn
