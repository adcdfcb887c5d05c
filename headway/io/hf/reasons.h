// Collects why a model cannot be written as a family: each feature once, with its layers.
// Not for: problems of a config that is read (config_reader.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::io {

class Reasons {
 public:
  /// A feature of the whole model.
  void add(const std::string& feature) { layers_[feature]; }
  void add_if(bool condition, const std::string& feature) {
    if (condition) add(feature);
  }
  /// A feature of one layer.
  void add_layer(size_t layer, const std::string& feature) { layers_[feature].push_back(layer); }

  /// "layers 0, 2, 5: learnable sinks"
  std::vector<std::string> lines() const;

 private:
  std::map<std::string, std::vector<size_t>> layers_;
};

/// Layers of the stack and of multi-token prediction, as families number them (spec::block_at).
size_t block_count(const spec::ModelSpec& spec);

/// What none of the plain decoder families can say, in any layer or around the stack: sandwich
/// norms, layer scalars, soft caps, sinks, unequal value width, other scales, LayerNorms, …
/// `norm` is the family's flavour.
void common_reasons(const spec::ModelSpec& spec, spec::NormWeight norm, Reasons& reasons);

/// K^-0.5, and whether a scale is that but for rounding.
double default_scale(int64_t head_dim);
bool is_default_scale(double scale, int64_t head_dim);

}  // namespace headway::io
