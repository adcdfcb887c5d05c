// Less memory for more arithmetic: activations that are computed again in the backward pass.
// Not for: deciding what to recompute (config, by RecomputePlan).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::nn {

/// What a model forgets in a forward pass that records gradients. Parts of a layer and whole layers
/// are alternatives. Nothing of it changes a bit of any result.
struct RecomputePlan {
  bool core_attention = false;  // output of the softmax, before and after the gate
  bool norms = false;           // outputs of the norms before mixer and MLP
  bool mlp = false;             // everything inside the MLP
  int64_t chunk_layers = 0;     // > 0: whole layers, this many with one kept input
  int64_t first_layers = 0;     // of the first layers of the stack

  /// Layers [first, result) are one chunk; result == first where a layer is not recomputed.
  int64_t chunk_end(int64_t first, int64_t num_layers) const;
};

using TensorBody = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// body(inputs), as one autograd node that keeps only `inputs`: backward calls body again, then
/// back-propagates through what it recorded. Same values and gradients, bit for bit, if body is a
/// function of its inputs and of `parameters` alone (dropout: of a stream it carries along).
/// `parameters`: what else body reads that may need a gradient. Undefined tensors are not allowed
/// in either list. Whatever body refers to must outlive the graph.
/// Grad: inputs and parameters. Errors: UnsupportedError for gradients of gradients; InternalError
/// when body returns another number of tensors the second time.
/// Source: Chen et al. 2016, sublinear memory; spec/attention.md §6.1.
/// Test: tests/unit/nn/recompute_test.cpp, tests/property/nn/recompute_test.cpp
std::vector<at::Tensor> recompute(const TensorBody& body, const std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& parameters);

/// Frees the memory of `values` now, and fills it again with again() as soon as the gradient of
/// `user` is known: for activations that only operations between them and `user` have kept. Each
/// value must own its whole memory. Does nothing when `user` records no gradient or a value shares
/// its memory with a larger tensor.
/// again() must return tensors of the same sizes, in order; what it records is not kept.
/// Test: tests/unit/nn/recompute_test.cpp
void discard_until_backward(const std::vector<at::Tensor>& values, const at::Tensor& user,
                            const std::function<std::vector<at::Tensor>()>& again);

/// True while a forward pass is repeated for its gradients: what counts or tracks forward passes
/// asks this to count each once.
bool is_replaying();

}  // namespace headway::nn
