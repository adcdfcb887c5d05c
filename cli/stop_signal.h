// SIGINT and SIGTERM as a flag that a training run looks at between steps.
// Not for: other signals, or commands that have nothing to save.
#pragma once

#include <atomic>

namespace headway::cli {

/// Installs handlers for SIGINT and SIGTERM and returns the flag they set. Further ones change
/// nothing, since `timeout` and shells send them twice; SIGQUIT (Ctrl-\) still ends the process at
/// once.
const std::atomic<bool>& stop_on_signals();

/// Installs a handler for SIGINT that sets the flag returned and breaks off a read from the
/// terminal. Whoever looks at the flag takes it back.
std::atomic<bool>& interrupt_flag();

}  // namespace headway::cli
