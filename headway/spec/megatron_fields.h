// Which argument names exist: aliases, fields without effect here, and switches of features that
// this build lacks. Not for: typed fields (megatron_config.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headway/base/field_rule.h"
#include "headway/base/json.h"
#include "headway/base/problems.h"

namespace headway::spec {

/// `arguments` with aliases replaced and fields without effect removed. Unknown keys, and aliases
/// that contradict each other, become problems; a switched-on feature that is not built adds a line
/// to `unsupported`.
Json typed_arguments(const Json& arguments, const std::string& path, Problems& problems,
                     std::vector<std::string>& unsupported);

/// Reports a key that is no known name of a Megatron argument, with the nearest one.
void check_megatron_name(const std::string& key, const std::string& path, Problems& problems);

/// Visitor that collects the names of a field list.
struct FieldNames {
  std::vector<std::string> names;
  template <class M, class C>
  void field(std::string_view name, M C::*, std::string_view, const Rule& = {}) {
    names.emplace_back(name);
  }
};

template <class T>
std::vector<std::string> field_names() {
  FieldNames visitor;
  T::fields(visitor);
  return visitor.names;
}

}  // namespace headway::spec
