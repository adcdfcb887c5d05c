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

using NativesByName = std::map<std::string, const NativeTensor*>;

bool is_stack(const MapRule& rule) { return rule.native.front().find("{*}") != std::string::npos; }

/// Adds the native tensors of one number (or of a rule without `{*}`); false when one is missing.
bool bind_natives(const MapRule& rule, const std::vector<std::string>& numbers, int64_t star,
                  const NativesByName& by_name, Binding& binding) {
  std::vector<NativeTensor> found;
  for (const std::string& pattern : rule.native) {
    const auto tensor = by_name.find(with_numbers(with_star(pattern, star), numbers));
    if (tensor == by_name.end()) return false;
    found.push_back(*tensor->second);
  }
  binding.native.insert(binding.native.end(), found.begin(), found.end());
  return true;
}

/// The binding that `rule` makes with `native` as its first tensor; nothing when it does not apply.
std::optional<Binding> apply(const MapRule& rule, const NativeTensor& native,
                             const NativesByName& by_name, const Family& family,
                             const TensorSource* held) {
  const auto numbers = match_numbers(with_star(rule.native.front(), 0), native.name);
  if (!numbers) return std::nullopt;
  Binding binding;
  binding.transform = rule.transform;
  if (!bind_natives(rule, *numbers, 0, by_name, binding)) return std::nullopt;
  for (int64_t star = 1; is_stack(rule); ++star) {
    if (!bind_natives(rule, *numbers, star, by_name, binding)) break;
  }
  std::vector<Shape> shapes;
  for (const NativeTensor& bound : binding.native) shapes.push_back(bound.shape);
  const std::vector<Shape> disk_shapes = rule.transform->disk_shapes(shapes);
  for (size_t i = 0; i < rule.disk.size(); ++i) {
    const std::string name = family.disk_name(with_numbers(rule.disk[i], *numbers));
    binding.disk.push_back({name, disk_shapes.at(i)});
  }
  if (!rule.alternative) return binding;
  const bool is_held =
      held != nullptr && std::ranges::all_of(binding.disk, [&](const auto& disk) {
        // A name that the ordinary layout has too: the shape tells them apart.
        return held->contains(disk.name) &&
               (!by_name.contains(disk.name) || held->info(disk.name).shape == disk.shape);
      });
  return is_held ? std::optional(binding) : std::nullopt;
}

}  // namespace

std::vector<Binding> layout(const spec::ModelSpec& spec, const Family& family,
                            const TensorSource* held) {
  const std::vector<NativeTensor> natives = native_tensors(spec);
  std::map<std::string, const NativeTensor*> unbound;
  for (const NativeTensor& native : natives) unbound[native.name] = &native;
  const std::vector<Rule> rules = family.rules(spec);
  std::vector<Binding> bindings;
  for (const NativeTensor& native : natives) {
    if (!unbound.contains(native.name)) continue;
    std::optional<Binding> binding;
    for (const Rule& rule : rules) {
      const auto* map = std::get_if<MapRule>(&rule);
      if (map != nullptr) binding = apply(*map, native, unbound, family, held);
      if (binding) break;
    }
    if (!binding) {
      binding = Binding{{native}, {{family.disk_name(native.name), native.shape}}, &kCopy};
    }
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
