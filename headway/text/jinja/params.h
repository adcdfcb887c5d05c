// Arguments of a native function by name, checked as Python checks them. Not for: macros
// (call.cpp).
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "headway/text/jinja/objects.h"

namespace headway::text::jinja {

/// Binds `args` to `names`; one that starts with '/' may be given by position only.
/// Errors: TemplateError of kind type for missing, surplus, unknown or repeated arguments.
class Params {
 public:
  Params(const Args& args, std::string_view function, std::initializer_list<std::string_view> names,
         std::size_t required);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  /// Given, and not None.
  bool is_set(std::size_t i) const { return has(i) && !values_[i]->is_none(); }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  const Value& get(std::size_t i, const Value& otherwise) const {
    return has(i) ? *values_[i] : otherwise;
  }
  bool flag(std::size_t i, bool otherwise = false) const;
  /// Errors: TemplateError of kind type if it is no integer.
  std::int64_t integer(std::size_t i, std::int64_t otherwise) const;
  /// Errors: TemplateError of kind type if it is no text.
  const std::string& text(std::size_t i) const;

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace headway::text::jinja
