// What an action that should fail says. Not for: the exit codes of the program (program.h).
#pragma once

#include <string>

namespace headway::testing_support {

/// Text of the E that `action` throws; a complaint if it throws nothing. Other errors pass through.
template <class E, class F>
std::string message_of(F&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

}  // namespace headway::testing_support
