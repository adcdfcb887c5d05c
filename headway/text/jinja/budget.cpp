// Counting and refusing. Not for: depth, which the interpreter counts where it recurses.
#include "headway/text/jinja/budget.h"

#include <fmt/format.h>

#include "headway/text/jinja/error.h"

namespace headway::text::jinja {
namespace {

thread_local Budget* active_budget = nullptr;
constexpr std::int64_t kBytesPerStep = 256;

}  // namespace

Budget::Budget(const Limits& limits, std::int64_t input_bytes)
    : limits_(limits),
      memory_limit_(limits.memory + limits.memory_per_input_byte * input_bytes),
      outer_(active_budget) {
  // Long conversations need more steps too; what a template can multiply stays bounded.
  limits_.steps += input_bytes / 16;
  active_budget = this;
}

Budget::~Budget() { active_budget = outer_; }

Budget* Budget::active() { return active_budget; }

void Budget::fail_steps() const {
  fail(ErrorKind::kRuntime,
       fmt::format("the template takes more than {} steps; does a loop never end?", limits_.steps));
}

void Budget::check_size(std::int64_t bytes) const {
  if (bytes <= limits_.output) return;
  fail(ErrorKind::kRuntime,
       fmt::format("a text or list of {} bytes, allowed at most {}", bytes, limits_.output));
}

void Budget::charge(std::int64_t bytes) {
  check_size(bytes);
  step(bytes / kBytesPerStep);
  bytes_ += bytes;
  if (bytes_ > memory_limit_) {
    fail(ErrorKind::kRuntime,
         fmt::format("the template makes more than {} bytes of values", memory_limit_));
  }
}

void charge(std::int64_t bytes) {
  if (active_budget != nullptr) active_budget->charge(bytes);
}

}  // namespace headway::text::jinja
