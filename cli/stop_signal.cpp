// The handler sets a lock-free flag, nothing else.
// Not for: saving (the trainer does that between steps).
#include "cli/stop_signal.h"

#include <signal.h>

namespace headway::cli {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int /*number*/) { stop_requested.store(true); }

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  return stop_requested;
}

std::atomic<bool>& interrupt_flag() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = 0;
  ::sigaction(SIGINT, &action, nullptr);
  return stop_requested;
}

}  // namespace headway::cli
