// Allocates, initialises and hands out the tensors of the inventory. Not for: files.
#include "headway/nn/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include "headway/base/error.h"

namespace headway::nn {
namespace {

/// FNV-1a over the seed and both names: a stream key that no other segment shares in practice.
uint64_t stream_key(uint64_t seed, const std::string& parameter, const std::string& segment) {
  uint64_t hash = 14695981039346656037ull;
  const auto mix = [&hash](unsigned char byte) { hash = (hash ^ byte) * 1099511628211ull; };
  for (int shift = 0; shift < 64; shift += 8) mix(static_cast<unsigned char>(seed >> shift));
  for (const char c : parameter) mix(static_cast<unsigned char>(c));
  mix(0);
  for (const char c : segment) mix(static_cast<unsigned char>(c));
  return hash;
}

void fill_segment(at::Tensor rows, const spec::InitRule& rule, uint64_t key) {
  switch (rule.kind) {
    case spec::InitKind::kZeros:
      rows.zero_();
      return;
    case spec::InitKind::kOnes:
      rows.fill_(1.0);
      return;
    case spec::InitKind::kConstant:
      rows.fill_(rule.value);
      return;
    case spec::InitKind::kUniform:
    case spec::InitKind::kLogUniform: {
      at::Generator generator = at::detail::createCPUGenerator(key);
      at::Tensor drawn =
          at::empty(rows.sizes(), at::kFloat).uniform_(rule.value, rule.high, generator);
      if (rule.kind == spec::InitKind::kLogUniform) drawn.log_();
      rows.copy_(drawn);
      return;
    }
    case spec::InitKind::kNormal: {
      at::Generator generator = at::detail::createCPUGenerator(key);
      rows.copy_(at::empty(rows.sizes(), at::kFloat).normal_(0.0, rule.value, generator));
      return;
    }
  }
  throw InternalError("[nn::Parameters] init rule is not in the enum");
}

std::vector<spec::TensorSpec> checked_tensors(const spec::ModelSpec& spec,
                                              const spec::AdapterSpec* adapter) {
  spec::validate(spec);
  if (adapter == nullptr) return spec::tensors(spec);
  return spec::adapted(spec::tensors(spec), *adapter);
}

}  // namespace

double rounded_scale(double scale, spec::ScaleRounding rounding, at::ScalarType dtype) {
  if (rounding == spec::ScaleRounding::kExact) return scale;
  return at::scalar_tensor(scale, at::kDouble).to(at::kFloat).to(dtype).item<double>();
}

Parameters::Parameters(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device,
                       std::shared_ptr<const spec::AdapterSpec> adapter)
    : Parameters(checked_tensors(spec, adapter.get()), dtype, device) {
  adapter_ = std::move(adapter);
}

Parameters::Parameters(std::vector<spec::TensorSpec> specs, at::ScalarType dtype, at::Device device)
    : specs_(std::move(specs)), dtype_(dtype), device_(device) {
  taken_.assign(specs_.size(), false);
  for (const spec::TensorSpec& tensor : specs_) {
    tensor.numel();  // throws if it does not fit
    if (!index_.emplace(tensor.name, tensors_.size()).second) {
      throw ConfigError("[nn::Parameters] tensor '" + tensor.name + "' is listed twice");
    }
    const bool widens = tensor.wide && at::elementSize(dtype) < at::elementSize(at::kFloat);
    const at::ScalarType type = widens ? at::kFloat : dtype;
    tensors_.push_back(at::empty(tensor.shape, at::dtype(type).device(device))
                           .set_requires_grad(tensor.trainable));
  }
}

void Parameters::draw(size_t index, uint64_t seed) {
  at::NoGradGuard no_grad;
  for (const spec::RowSegment& segment : specs_[index].segments) {
    fill_segment(tensors_[index].narrow(0, segment.begin, segment.rows), segment.init,
                 stream_key(seed, specs_[index].name, segment.name));
  }
}

void Parameters::initialise(uint64_t seed) {
  for (size_t i = 0; i < specs_.size(); ++i) draw(i, seed);
}

void Parameters::initialise_trained(uint64_t seed) {
  for (size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].trainable) draw(i, seed);
  }
}

size_t Parameters::index_of(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    throw InternalError("[nn::Parameters] the inventory has no tensor '" + name + "'");
  return found->second;
}

at::Tensor Parameters::take(const std::string& name) {
  const size_t index = index_of(name);
  taken_[index] = true;
  return tensors_[index];
}

const at::Tensor& Parameters::get(const std::string& name) const {
  return tensors_[index_of(name)];
}

const spec::TensorSpec& Parameters::spec_of(const std::string& name) const {
  return specs_[index_of(name)];
}

std::vector<std::string> Parameters::untaken() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < specs_.size(); ++i) {
    if (!taken_[i]) names.push_back(specs_[i].name);
  }
  return names;
}

std::vector<at::Tensor> ParameterScope::tensors() const {
  std::vector<at::Tensor> found;
  for (size_t i = 0; i < parameters_->specs().size(); ++i) {
    if (parameters_->specs()[i].name.starts_with(prefix_)) {
      found.push_back(parameters_->tensors()[i]);
    }
  }
  return found;
}

at::Tensor ParameterScope::take_optional(const std::string& name) const {
  return parameters_->contains(prefix_ + name) ? take(name) : at::Tensor();
}

}  // namespace headway::nn
