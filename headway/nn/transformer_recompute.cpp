// Whole layers as one node that computes them again: what enters and leaves it besides the stream.
// Not for: the node (recompute.h) or the ordinary pass (transformer.cpp).
#include <cstddef>
#include <map>
#include <utility>

#include "headway/nn/transformer.h"
#include "headway/spec/kv_sharing.h"

namespace headway::nn {
namespace {

/// Keys and values that cross the borders of layers [first, last), by layer of their source.
struct Crossing {
  std::vector<int64_t> in;       // sources before, read inside
  std::vector<int64_t> out;      // sources inside, read behind
  std::vector<int64_t> readers;  // for every layer, how often it is read inside, and handed out
};

Crossing crossing_of(const spec::ModelSpec& spec, int64_t first, int64_t last) {
  Crossing crossing;
  crossing.readers.assign(spec.layers.size(), 0);
  std::map<int64_t, bool> in, out;
  for (int64_t i = first; i < static_cast<int64_t>(spec.layers.size()); ++i) {
    const auto source = spec::kv_source_of(spec.layers[static_cast<size_t>(i)]);
    if (!source || *source >= last) continue;
    if (i < last) {
      ++crossing.readers[static_cast<size_t>(*source)];
      if (*source < first) in[*source] = true;
    } else if (*source >= first) {
      out[*source] = true;
    }
  }
  for (const auto& [source, ignored] : in) crossing.in.push_back(source);
  for (const auto& [source, ignored] : out) {
    crossing.out.push_back(source);
    ++crossing.readers[static_cast<size_t>(source)];
  }
  return crossing;
}

/// Hands out tensors one after the other.
class Tray {
 public:
  explicit Tray(const std::vector<at::Tensor>& tensors) : tensors_(tensors) {}
  at::Tensor next() { return tensors_.at(taken_++); }
  std::vector<at::Tensor> next(size_t count) {
    std::vector<at::Tensor> several;
    while (several.size() < count) several.push_back(next());
    return several;
  }

 private:
  const std::vector<at::Tensor>& tensors_;
  size_t taken_ = 0;
};

KeysValues next_kv(Tray& tray) {
  KeysValues kv;
  kv.k_SGK = tray.next();
  kv.v_SGV = tray.next();
  return kv;
}

void add_kv(std::vector<at::Tensor>& tensors, const KeysValues& kv) {
  tensors.push_back(kv.k_SGK);
  tensors.push_back(kv.v_SGV);
}

}  // namespace

void Transformer::recompute_layers(Range layers, ResidualStream& stream, const BlockInput& shared,
                                   const LayerInputs& given) const {
  const auto first = static_cast<int64_t>(layers.first), last = static_cast<int64_t>(layers.last);
  std::vector<at::Tensor> parameters;
  for (size_t i = 0; i < parameters_.specs().size(); ++i) {
    const int64_t layer = parameters_.specs()[i].layer;
    const at::Tensor& tensor = parameters_.tensors()[i];
    if (layer >= first && layer < last && tensor.requires_grad()) parameters.push_back(tensor);
  }
  std::vector<at::Tensor> inputs = stream.parts();
  const size_t parts = inputs.size();
  ForwardContext kept = *shared.context;
  // A bias that learns is an input of every chunk: its gradients of all layers add up outside.
  const bool learns_bias = kept.attention_bias.defined() && kept.attention_bias.requires_grad();
  if (learns_bias) inputs.push_back(std::exchange(kept.attention_bias, at::Tensor()));
  const Crossing crossing = crossing_of(spec_, first, last);
  for (const int64_t source : crossing.in) add_kv(inputs, given.shared_kv->take(source));
  std::vector<bool> takes_part;
  for (size_t i = layers.first; i < layers.last; ++i) {
    takes_part.push_back(given.per_layer[i].defined());
    if (takes_part.back()) inputs.push_back(given.per_layer[i]);
  }
  const Block* blocks = blocks_.data();  // stays where it is when this object moves
  const TensorBody body = [=, sequences = shared.sequences](const std::vector<at::Tensor>& in) {
    Tray tray(in);
    ResidualStream inner(tray.next(parts));
    ForwardContext context = kept;
    if (learns_bias) context.attention_bias = tray.next();
    SharedKv shared_kv(crossing.readers);
    for (const int64_t source : crossing.in) shared_kv.put_from_outside(source, next_kv(tray));
    for (int64_t i = first; i < last; ++i) {
      const at::Tensor part =
          takes_part[static_cast<size_t>(i - first)] ? tray.next() : at::Tensor();
      blocks[i].forward(inner, {sequences, nullptr, &context, i, &shared_kv, part});
    }
    std::vector<at::Tensor> out = inner.parts();
    for (const int64_t source : crossing.out) add_kv(out, shared_kv.take(source));
    return out;
  };
  const std::vector<at::Tensor> results = recompute(body, inputs, parameters);
  Tray tray(results);
  stream = ResidualStream(tray.next(results.size() - 2 * crossing.out.size()));
  for (const int64_t source : crossing.out) {
    given.shared_kv->put_from_outside(source, next_kv(tray));
  }
}

}  // namespace headway::nn
