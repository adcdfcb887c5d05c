// Names of error kinds. Not for: messages, which each place writes itself.
#include "headway/text/jinja/error.h"

namespace headway::text::jinja {

std::string_view error_kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kRaised:
      return "raise_exception";
    case ErrorKind::kSyntax:
      return "syntax";
    case ErrorKind::kUndefined:
      return "undefined";
    case ErrorKind::kType:
      return "type";
    case ErrorKind::kValue:
      return "value";
    case ErrorKind::kSecurity:
      return "security";
    case ErrorKind::kRuntime:
      return "runtime";
    case ErrorKind::kArithmetic:
      return "arithmetic";
    case ErrorKind::kRecursion:
      return "recursion";
  }
  return "?";
}

void fail(ErrorKind kind, const std::string& message) { throw TemplateError(kind, message); }
void fail_type(const std::string& message) { throw TemplateError(ErrorKind::kType, message); }

}  // namespace headway::text::jinja
