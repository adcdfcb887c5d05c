// See tensor_layout.h. Not for: comparing with a folder (account.cpp).
#include "headway/io/tensor_layout.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

std::vector<NativeTensor> native_tensors(const spec::ModelSpec& spec) {
  std::vector<NativeTensor> result;
  for (const spec::TensorSpec& tensor : spec::tensors(spec)) {
    for (const spec::RowSegment& segment : tensor.segments) {
      result.push_back(
          {segment.disk_name, tensor.segment_shape(segment), tensor.name, segment.begin});
    }
  }
  return result;
}

/// The binding that `rule` makes with `native` as its first tensor; nothing when it does not apply.
std::optional<Binding> apply(const MapRule& rule, const NativeTensor& native,
                             const std::map<std::string, const NativeTensor*>& by_name) {
  const auto layer = match_layer(rule.native.front(), native.name);
  if (!layer) return std::nullopt;
  Binding binding;
  binding.transform = rule.transform;
  std::vector<Shape> shapes;
  for (const std::string& pattern : rule.native) {
    const auto found = by_name.find(with_layer(pattern, *layer));
    if (found == by_name.end()) return std::nullopt;
    binding.native.push_back(*found->second);
    shapes.push_back(found->second->shape);
  }
  const std::vector<Shape> disk_shapes = rule.transform->disk_shapes(shapes);
  for (size_t i = 0; i < rule.disk.size(); ++i) {
    binding.disk.push_back({with_layer(rule.disk[i], *layer), disk_shapes.at(i)});
  }
  return binding;
}

}  // namespace

std::vector<Binding> layout(const spec::ModelSpec& spec, const Family& family) {
  const std::vector<NativeTensor> natives = native_tensors(spec);
  std::map<std::string, const NativeTensor*> unbound;
  for (const NativeTensor& native : natives) unbound[native.name] = &native;
  const std::vector<Rule> rules = family.rules_for(spec);
  std::vector<Binding> bindings;
  for (const NativeTensor& native : natives) {
    if (!unbound.contains(native.name)) continue;
    std::optional<Binding> binding;
    for (const Rule& rule : rules) {
      const auto* map = std::get_if<MapRule>(&rule);
      if (map != nullptr) binding = apply(*map, native, unbound);
      if (binding) break;
    }
    if (!binding) binding = Binding{{native}, {{native.name, native.shape}}, &kCopy};
    for (const NativeTensor& bound : binding->native) unbound.erase(bound.name);
    bindings.push_back(std::move(*binding));
  }
  return bindings;
}

NativeReader::NativeReader(const TensorSource& source, const std::vector<Binding>& bindings)
    : source_(source) {
  for (const Binding& binding : bindings) {
    for (size_t i = 0; i < binding.native.size(); ++i) {
      places_[binding.native[i].name] = {&binding, i};
    }
  }
}

Dtype NativeReader::dtype(const std::string& name) const {
  return source_.info(places_.at(name).binding->disk.front().name).dtype;
}

at::Tensor NativeReader::read(const std::string& name) const {
  const auto [binding, index] = places_.at(name);
  std::vector<at::Tensor> disk;
  for (const DiskTensor& tensor : binding->disk) disk.push_back(source_.view(tensor.name));
  std::vector<Shape> shapes;
  for (const NativeTensor& native : binding->native) shapes.push_back(native.shape);
  return binding->transform->to_native(disk, shapes).at(index);
}

DiskTable disk_table(const std::vector<Binding>& bindings, const NativeDtype& dtype,
                     const NativeProvider& read) {
  struct Place {
    const Binding* binding;
    size_t index;
  };
  const auto places = std::make_shared<std::map<std::string, Place>>();
  DiskTable table;
  for (const Binding& binding : bindings) {
    const Dtype type = dtype(binding.native.front().name);
    for (size_t i = 0; i < binding.disk.size(); ++i) {
      table.infos.push_back({binding.disk[i].name, type, binding.disk[i].shape});
      (*places)[binding.disk[i].name] = {&binding, i};
    }
  }
  table.provider = [places, read](const TensorInfo& info) {
    const auto [binding, index] = places->at(info.name);
    std::vector<at::Tensor> natives;
    for (const NativeTensor& native : binding->native) natives.push_back(read(native.name));
    return binding->transform->to_disk(natives).at(index);
  };
  return table;
}

}  // namespace headway::io
