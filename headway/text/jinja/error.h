// What can go wrong in a template, by the kind of Python exception the reference raises.
// Not for: files or command lines; those are the classes of base/error.h.
#pragma once

#include <string>
#include <string_view>

#include "headway/base/error.h"

namespace headway::text::jinja {

enum class ErrorKind {
  kRaised,      // the template called raise_exception
  kSyntax,      // found before anything is rendered, unknown filters and tests included
  kUndefined,   // an undefined value was used
  kType,        // operand or argument of the wrong type
  kValue,       // right type, wrong value
  kSecurity,    // the sandbox refuses
  kRuntime,     // other rules of the language, and the limits on steps, memory and output
  kArithmetic,  // division by zero, overflow, a range too long
  kRecursion,   // nested too deeply
};

/// The name users see: raise_exception, syntax, undefined, …
std::string_view error_kind_name(ErrorKind kind);

/// Exit code as ConfigError: the template or its variables are what must change.
class TemplateError : public ConfigError {
 public:
  TemplateError(ErrorKind kind, const std::string& message) : ConfigError(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

[[noreturn]] void fail(ErrorKind kind, const std::string& message);
[[noreturn]] void fail_type(const std::string& message);

}  // namespace headway::text::jinja
