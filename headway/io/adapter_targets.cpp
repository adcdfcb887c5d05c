// Names to row segments. Not for: the tensors these get (spec/adapter.cpp).
#include "headway/io/adapter_targets.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/tensor_layout.h"

namespace headway::io {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string stem_of(const std::string& name) {
  return name.substr(0, name.size() - kWeight.size());
}

std::string last_part(const std::string& module) {
  const size_t dot = module.rfind('.');
  return dot == std::string::npos ? module : module.substr(dot + 1);
}

/// The family whose names the adapter's file uses.
const Family& published_family(const Checkpoint& checkpoint) {
  return checkpoint.origin ? find_family(checkpoint.origin->family) : *checkpoint.family;
}

struct Candidates {
  AdapterModules modules;       // native rows -> published module
  std::set<std::string> other;  // last parts of published matrices that cannot be adapted
};

Candidates candidates_of(const Checkpoint& checkpoint) {
  std::set<std::string> rows;
  for (const spec::TensorSpec& tensor : spec::tensors(checkpoint.spec)) {
    // Depths of multi-token prediction are no part of the model that PEFT adapts.
    const bool in_stack = tensor.layer < static_cast<int64_t>(checkpoint.spec.layers.size());
    if (!tensor.projection || !in_stack) continue;
    for (const spec::RowSegment& segment : tensor.segments) rows.insert(segment.disk_name);
  }
  Candidates result;
  for (const Binding& binding : layout(checkpoint.spec, published_family(checkpoint))) {
    const bool single = binding.native.size() == 1 && binding.transform == &kCopy &&
                        rows.contains(binding.native.front().name);
    for (const DiskTensor& disk : binding.disk) {
      if (!disk.name.ends_with(kWeight)) continue;
      if (single) {
        result.modules[binding.native.front().name] = stem_of(disk.name);
      } else {
        result.other.insert(last_part(stem_of(disk.name)));
      }
    }
  }
  return result;
}

bool names(const std::string& target, const std::string& module) {
  if (target.find('*') != std::string::npos) return matches_glob(target, module);
  return module == target || module.ends_with("." + target);
}

[[noreturn]] void fail_unmatched(const std::string& target, const Candidates& candidates) {
  std::set<std::string> ends;
  for (const auto& [rows, module] : candidates.modules) ends.insert(last_part(module));
  throw ConfigError(fmt::format(
      "model.adapter.targets: \"{}\" names no projection that can be adapted; allowed * | {}, "
      "longer names, or globs over whole names",
      shorten(target), join({ends.begin(), ends.end()}, " | ")));
}

/// The ends of names where they mean exactly these modules, else the names themselves.
std::vector<std::string> short_targets(const AdapterModules& chosen, const Candidates& candidates) {
  std::set<std::string> ends, whole;
  for (const auto& [rows, module] : chosen) {
    ends.insert(last_part(module));
    whole.insert(module);
  }
  for (const auto& [rows, module] : candidates.modules) {
    if (ends.contains(last_part(module)) && !whole.contains(module)) {
      return {whole.begin(), whole.end()};
    }
  }
  for (const std::string& end : candidates.other) {
    if (ends.contains(end)) return {whole.begin(), whole.end()};
  }
  return {ends.begin(), ends.end()};
}

}  // namespace

AdapterTargets find_targets(const config::AdapterConfig& config, const Checkpoint& checkpoint) {
  const Candidates candidates = candidates_of(checkpoint);
  AdapterTargets result;
  result.adapter.kind = config.kind;
  result.adapter.rank = config.rank;
  result.adapter.alpha = config.alpha;
  result.adapter.rank_stabilized = config.rank_stabilized;
  for (const std::string& target : config.targets) {
    bool any = false;
    for (const auto& [rows, module] : candidates.modules) {
      if (!names(target, module)) continue;
      any = true;
      result.adapter.segments.insert(rows);
      result.modules[rows] = module;
    }
    if (!any) fail_unmatched(target, candidates);
  }
  result.targets = short_targets(result.modules, candidates);
  return result;
}

}  // namespace headway::io
