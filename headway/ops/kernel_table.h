// Tables of kernels and the choice among them: priority order, reasons, forcing by HEADWAY_KERNEL.
// Not for: the kernels themselves.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headway::ops {

/// Why a kernel can or cannot take given arguments; an empty reason means it can.
struct Support {
  std::string reason;
  bool ok() const { return reason.empty(); }
  static Support yes() { return {}; }
  static Support no(std::string why) { return {std::move(why)}; }
};

/// One row of an op's table. `Functions` holds the op's forward and backward function pointers.
template <class Arguments, class Functions>
struct Kernel {
  using ArgumentsType = Arguments;
  std::string_view name;
  bool simd = false;  // compiled by Highway for several targets; accepts @target
  Support (*supports)(const Arguments&) = nullptr;
  Functions run{};
};

/// HEADWAY_KERNEL=op:kernel[@target],… as parsed; at most one entry per op.
struct ForcedKernel {
  std::string op;
  std::string kernel;
  std::string target;  // Highway target name (AVX2, AVX3, SSE4, …) or empty
};

/// The forced entry of `op`, from the innermost ScopedKernel or the environment. ConfigError if the
/// variable is malformed.
std::optional<ForcedKernel> forced_kernel(std::string_view op);

/// Checks every entry of HEADWAY_KERNEL against the tables and this machine, so that a program can
/// refuse it before any work. Errors: ConfigError (malformed, unknown op or kernel);
/// UnsupportedError (a target this machine or build lacks).
void check_environment();

/// Forces a kernel for the lifetime of the object (tests, benchmarks). Not for concurrent use from
/// several threads.
class ScopedKernel {
 public:
  ScopedKernel(std::string op, std::string kernel, std::string target = "");
  ~ScopedKernel();
  ScopedKernel(const ScopedKernel&) = delete;
  ScopedKernel& operator=(const ScopedKernel&) = delete;
};

/// Highway targets this machine can run and this build holds, best first.
std::vector<std::string> supported_targets();

/// Restricts Highway's dynamic dispatch to one target while alive; does nothing for an empty name.
/// UnsupportedError if the machine or build lacks it.
class TargetScope {
 public:
  explicit TargetScope(std::string_view target);
  ~TargetScope();
  TargetScope(const TargetScope&) = delete;
  TargetScope& operator=(const TargetScope&) = delete;

 private:
  bool active_;
};

/// Target forced for `op`, or empty. Kernels open `TargetScope scope(forced_target("attention"))`
/// around their call.
std::string forced_target(std::string_view op);

[[noreturn]] void throw_unknown_kernel(std::string_view op, std::string_view kernel,
                                       const std::string& allowed);
[[noreturn]] void throw_forced_refused(std::string_view op, std::string_view kernel,
                                       const std::string& reason);
[[noreturn]] void throw_no_kernel(std::string_view op, const std::string& reasons);

/// First kernel of `table` that supports `arguments`; a forced one must, or UnsupportedError gives
/// its reason.
template <class K, size_t N>
const K& select_kernel(std::string_view op, const K (&table)[N],
                       const typename K::ArgumentsType& arguments) {
  if (const auto forced = forced_kernel(op)) {
    std::string names;
    for (const K& kernel : table) {
      if (kernel.name == forced->kernel) {
        const Support support = kernel.supports(arguments);
        if (!support.ok()) throw_forced_refused(op, kernel.name, support.reason);
        if (!forced->target.empty() && !kernel.simd) {
          throw_forced_refused(op, kernel.name,
                               "it is not compiled per target (@" + forced->target + ")");
        }
        return kernel;
      }
      names += (names.empty() ? "" : " | ") + std::string(kernel.name);
    }
    throw_unknown_kernel(op, forced->kernel, names);
  }
  std::string reasons;
  for (const K& kernel : table) {
    const Support support = kernel.supports(arguments);
    if (support.ok()) return kernel;
    reasons +=
        std::string(reasons.empty() ? "" : "; ") + std::string(kernel.name) + ": " + support.reason;
  }
  throw_no_kernel(op, reasons);
}

/// What `headway doctor` prints: op, kernel names in priority order.
struct KernelList {
  std::string op;
  std::vector<std::string> kernels;
};
/// Registered by each op's .cpp through `register_kernels`.
const std::vector<KernelList>& kernel_lists();
bool register_kernels(std::string op, std::vector<std::string> kernels);

template <class K, size_t N>
bool register_table(std::string op, const K (&table)[N]) {
  std::vector<std::string> names;
  for (const K& kernel : table) names.emplace_back(kernel.name);
  return register_kernels(std::move(op), std::move(names));
}

}  // namespace headway::ops
