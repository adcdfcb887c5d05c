// How much a template may do: steps, bytes, depth. Templates come from strangers.
// Not for: time; the limits bound it well enough and give the same answer on every machine.
#pragma once

#include <cstdint>

namespace headway::text::jinja {

struct Limits {
  std::int64_t steps = 5'000'000;           // statements, expressions and 256-byte blocks of text
  std::int64_t memory = 256 << 20;          // bytes of all values made, not only those alive
  std::int64_t memory_per_input_byte = 64;  // added for long conversations
  std::int64_t output = 64 << 20;           // bytes of the rendered text, and of any one string
  int depth = 2000;                         // of statements and expressions inside one another
  int calls = 200;                          // of macros and recursive loops
  int nesting = 400;                        // of lists in lists
};

/// Counts what one rendering uses. The active one is per thread: values charge it as they are made.
class Budget {
 public:
  Budget(const Limits& limits, std::int64_t input_bytes);
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// The budget of the rendering this thread is in, or null.
  static Budget* active();

  /// Errors (all three): TemplateError of kind runtime, naming the limit.
  void step(std::int64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) fail_steps();
  }
  /// Work on, and memory for, a value of so many bytes.
  void charge(std::int64_t bytes);
  void check_size(std::int64_t bytes) const;

  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] void fail_steps() const;

  Limits limits_;
  std::int64_t memory_limit_;
  std::int64_t steps_ = 0;
  std::int64_t bytes_ = 0;
  Budget* outer_;
};

/// Charges the active budget, if there is one, before so many bytes are made.
void charge(std::int64_t bytes);

}  // namespace headway::text::jinja
