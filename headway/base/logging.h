// The library's only way to say something that is not an error: a hook the program may install.
// Not for: errors (throw), results, or anything printed by the library itself; it is silent by
// default.
#pragma once

#include <functional>
#include <string_view>

namespace headway {

enum class LogLevel { kDebug, kInfo, kWarning };

/// Called with one line without a newline, from any thread, one call at a time.
using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Installs `sink` for the whole process; an empty function restores silence.
void set_log_sink(LogSink sink);

/// Hands `line` to the sink, if there is one.
void log(LogLevel level, std::string_view line);

}  // namespace headway
