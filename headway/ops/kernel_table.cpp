// Chooses a kernel: forced by name, else the first that supports the call. Not for: kernels.
#include "headway/ops/kernel_table.h"

#include <algorithm>
#include <cstdlib>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/ops/cpu/targets.h"

namespace headway::ops {
namespace {

[[noreturn]] void throw_target(std::string_view target) {
  throw UnsupportedError("[HEADWAY_KERNEL] target = '" + std::string(target) + "', allowed " +
                         join(supported_targets(), " | ") + " on this machine");
}

[[noreturn]] void throw_malformed(std::string_view entry) {
  throw ConfigError("[HEADWAY_KERNEL] entry = '" + std::string(entry) +
                    "', allowed op:kernel or op:kernel@target");
}

ForcedKernel parse_entry(std::string_view entry) {
  const size_t colon = entry.find(':');
  if (colon == std::string_view::npos || colon == 0) throw_malformed(entry);
  const size_t at = entry.find('@', colon);
  const std::string_view kernel = entry.substr(
      colon + 1, at == std::string_view::npos ? std::string_view::npos : at - colon - 1);
  const std::string_view target =
      at == std::string_view::npos ? std::string_view() : entry.substr(at + 1);
  if (kernel.empty() || (at != std::string_view::npos && target.empty())) throw_malformed(entry);
  return {std::string(entry.substr(0, colon)), std::string(kernel), std::string(target)};
}

std::vector<ForcedKernel> parse_environment() {
  std::vector<ForcedKernel> entries;
  const char* value = std::getenv("HEADWAY_KERNEL");
  std::string_view rest = value == nullptr ? std::string_view() : std::string_view(value);
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    entries.push_back(parse_entry(rest.substr(0, comma)));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return entries;
}

const std::vector<ForcedKernel>& environment_entries() {
  static const std::vector<ForcedKernel> entries = parse_environment();
  return entries;
}

std::vector<ForcedKernel>& scoped_entries() {
  static std::vector<ForcedKernel> entries;
  return entries;
}

std::vector<KernelList>& mutable_lists() {
  static std::vector<KernelList> lists;
  return lists;
}

}  // namespace

std::optional<ForcedKernel> forced_kernel(std::string_view op) {
  const auto& scoped = scoped_entries();
  for (auto entry = scoped.rbegin(); entry != scoped.rend(); ++entry) {
    if (entry->op == op) return *entry;
  }
  for (const ForcedKernel& entry : environment_entries()) {
    if (entry.op == op) return entry;
  }
  return std::nullopt;
}

ScopedKernel::ScopedKernel(std::string op, std::string kernel, std::string target) {
  scoped_entries().push_back({std::move(op), std::move(kernel), std::move(target)});
}

ScopedKernel::~ScopedKernel() { scoped_entries().pop_back(); }

std::vector<std::string> supported_targets() { return cpu::target_names(); }

TargetScope::TargetScope(std::string_view target) : active_(!target.empty()) {
  if (!active_ || cpu::restrict_target(target)) return;
  throw_target(target);
}

TargetScope::~TargetScope() {
  if (active_) cpu::lift_restriction();
}

std::string forced_target(std::string_view op) {
  const auto forced = forced_kernel(op);
  return forced ? forced->target : std::string();
}

void throw_unknown_kernel(std::string_view op, std::string_view kernel,
                          const std::string& allowed) {
  throw ConfigError("[HEADWAY_KERNEL] " + std::string(op) + " = '" + std::string(kernel) +
                    "', allowed " + allowed);
}

void throw_forced_refused(std::string_view op, std::string_view kernel, const std::string& reason) {
  throw UnsupportedError("[" + std::string(op) + "] forced kernel '" + std::string(kernel) +
                         "' cannot run: " + reason);
}

void throw_no_kernel(std::string_view op, const std::string& reasons) {
  throw UnsupportedError("[" + std::string(op) + "] no kernel takes these arguments: " + reasons);
}

const std::vector<KernelList>& kernel_lists() { return mutable_lists(); }

void check_environment() {
  for (const ForcedKernel& entry : environment_entries()) {
    std::vector<std::string> ops;
    const KernelList* list = nullptr;
    for (const KernelList& candidate : kernel_lists()) {
      ops.push_back(candidate.op);
      if (candidate.op == entry.op) list = &candidate;
    }
    if (list == nullptr) {
      throw ConfigError("[HEADWAY_KERNEL] op = '" + entry.op + "', allowed " + join(ops, " | "));
    }
    const auto& kernels = list->kernels;
    if (std::find(kernels.begin(), kernels.end(), entry.kernel) == kernels.end()) {
      throw_unknown_kernel(entry.op, entry.kernel, join(kernels, " | "));
    }
    const std::vector<std::string> targets = supported_targets();
    if (!entry.target.empty() &&
        std::find(targets.begin(), targets.end(), entry.target) == targets.end()) {
      throw_target(entry.target);
    }
  }
}

bool register_kernels(std::string op, std::vector<std::string> kernels) {
  mutable_lists().push_back({std::move(op), std::move(kernels)});
  return true;
}

}  // namespace headway::ops
