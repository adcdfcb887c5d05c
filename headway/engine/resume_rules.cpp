// The list of fields that may change.
// Not for: values that are wrong in themselves (config/load.h).
#include "headway/engine/resume_rules.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

/// `train.steps` also moves the schedule of the steps to come, as the user asked. Recompute and
/// delayed gradients change no bit.
constexpr auto kMayChange = std::to_array<std::string_view>(
    {"train.steps", "train.checkpoint_every", "train.keep_checkpoints", "train.evaluate_every",
     "train.log_every", "train.recompute", "train.delay_wgrad", "output"});

/// `path` is one of them or below one.
bool may_change(std::string_view path) {
  return std::any_of(kMayChange.begin(), kMayChange.end(), [path](std::string_view allowed) {
    if (!path.starts_with(allowed)) return false;
    const std::string_view rest = path.substr(allowed.size());
    return rest.empty() || rest.front() == '.' || rest.front() == '[';
  });
}

}  // namespace

void check_resumable(const Json& before, const Json& now) {
  std::vector<std::string> problems;
  for (const std::string& line : json_diff(before, now)) {
    const std::string_view path = std::string_view(line).substr(0, line.find(':'));
    if (may_change(path)) continue;
    problems.push_back(fmt::format(
        "{}: a resumed run must keep it; hint: start anew in another output folder", line));
  }
  if (!problems.empty()) throw ConfigError(std::move(problems));
}

}  // namespace headway::engine
