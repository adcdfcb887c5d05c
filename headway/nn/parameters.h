// The tensors of a model, allocated from the inventory and handed to the modules by name.
// Not for: files (engine joins this with io) or optimizer state.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/spec/adapter.h"
#include "headway/spec/model_spec.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::nn {

/// A factor as a model of `dtype` applies it: as it is, or rounded to float32, in which the
/// reference keeps it, and then to the weights' dtype.
double rounded_scale(double scale, spec::ScaleRounding rounding, at::ScalarType dtype);

/// Whether the weight gradients of linears wait, and where they do: every Linear adds its queue.
struct DelayedGradients {
  struct Waiting {
    std::function<void()> add_oldest;  // the oldest one that waits, if any
    std::function<void()> drop_all;
  };
  bool on = false;
  std::vector<Waiting> linears;
};

/// One tensor per TensorSpec of `tensors(spec)`, in that order. Handles are shared: modules,
/// optimizer and loader see the same storage, so loading writes in place.
class Parameters {
 public:
  /// Allocates every tensor (uninitialised) with gradients on for trainable ones.
  /// With an adapter: its tensors too, and gradients for them alone. Errors: ConfigError from
  /// validate(spec) and spec::adapted.
  Parameters(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device,
             std::shared_ptr<const spec::AdapterSpec> adapter = nullptr);

  /// The same for any list of tensors: modules of one's own, or several models side by side.
  /// Errors: ConfigError for two tensors of one name or sizes that do not fit 64 bits.
  Parameters(std::vector<spec::TensorSpec> specs, at::ScalarType dtype, at::Device device);

  /// Draws every row segment by its own rule and its own stream keyed by (seed, parameter name,
  /// segment name), so switching one segment on or off leaves all others bit-identical. Drawn in
  /// float32 on the CPU, then cast.
  void initialise(uint64_t seed);
  /// The same for the tensors that train: those of an adapter, where there is one.
  void initialise_trained(uint64_t seed);

  /// The tensor a module asks for; marks it as taken. InternalError if the inventory has no such
  /// name.
  at::Tensor take(const std::string& name);
  const at::Tensor& get(const std::string& name) const;
  bool contains(const std::string& name) const { return index_.contains(name); }
  const spec::TensorSpec& spec_of(const std::string& name) const;

  const std::vector<spec::TensorSpec>& specs() const { return specs_; }
  const std::vector<at::Tensor>& tensors() const { return tensors_; }
  /// Names of the inventory that no module took: empty for a correct model.
  std::vector<std::string> untaken() const;

  /// Shared with the modules, so that it outlives a move of this object.
  const std::shared_ptr<DelayedGradients>& delayed() const { return delayed_; }

  /// Null without one.
  const spec::AdapterSpec* adapter() const { return adapter_.get(); }

  at::ScalarType dtype() const { return dtype_; }
  at::Device device() const { return device_; }

 private:
  size_t index_of(const std::string& name) const;
  void draw(size_t index, uint64_t seed);

  std::vector<spec::TensorSpec> specs_;
  std::vector<at::Tensor> tensors_;
  std::vector<bool> taken_;
  std::unordered_map<std::string, size_t> index_;
  std::shared_ptr<DelayedGradients> delayed_ = std::make_shared<DelayedGradients>();
  std::shared_ptr<const spec::AdapterSpec> adapter_;
  at::ScalarType dtype_;
  at::Device device_;
};

/// A prefix into Parameters: `scope.child("mixer").take("qkv.weight")`.
class ParameterScope {
 public:
  ParameterScope(Parameters& parameters, std::string prefix)
      : parameters_(&parameters), prefix_(std::move(prefix)) {}
  ParameterScope child(const std::string& name) const {
    return {*parameters_, prefix_ + name + "."};
  }
  at::Tensor take(const std::string& name) const { return parameters_->take(prefix_ + name); }
  /// Every tensor below this scope, in inventory order.
  std::vector<at::Tensor> tensors() const;
  /// Undefined tensor when the inventory does not list it.
  at::Tensor take_optional(const std::string& name) const;
  const spec::TensorSpec& spec_of(const std::string& name) const {
    return parameters_->spec_of(prefix_ + name);
  }
  const Parameters& parameters() const { return *parameters_; }

 private:
  Parameters* parameters_;
  std::string prefix_;
};

}  // namespace headway::nn
