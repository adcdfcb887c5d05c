// Binding of arguments to names. Not for: *args and **kwargs of natives, which read Args
// themselves.
#include "headway/text/jinja/params.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/operators.h"

namespace headway::text::jinja {

Params::Params(const Args& args, std::string_view function,
               std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) {
    fail_type(fmt::format("{}() takes {} positional arguments but {} were given", function,
                          names.size(), args.positional.size()));
  }
  for (std::size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.keyword) {
    const auto* at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) {
      fail_type(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    }
    const auto i = static_cast<std::size_t>(at - names.begin());
    if (values_[i] != nullptr) {
      fail_type(fmt::format("{}() got multiple values for argument '{}'", function, name));
    }
    values_[i] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] != nullptr) continue;
    fail_type(fmt::format("{}() missing 1 required positional argument: '{}'", function,
                          names.begin()[i]));
  }
}

bool Params::flag(std::size_t i, bool otherwise) const {
  return has(i) ? truth(*values_[i]) : otherwise;
}

std::int64_t Params::integer(std::size_t i, std::int64_t otherwise) const {
  return has(i) ? to_index(*values_[i], function_) : otherwise;
}

const std::string& Params::text(std::size_t i) const {
  if (!values_[i]->is_str()) {
    fail_type(fmt::format("{}() argument must be str, not {}", function_, type_name(*values_[i])));
  }
  return values_[i]->text();
}

}  // namespace headway::text::jinja
