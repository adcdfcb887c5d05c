// Which argument names exist: aliases, fields without effect here, and switches of features that
// this build lacks. Not for: typed fields (megatron_config.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headway/base/json.h"
#include "headway/base/problems.h"

namespace headway::spec {

/// `arguments` with aliases replaced and fields without effect removed. Unknown keys, and aliases
/// that contradict each other, become problems; a switched-on feature that is not built adds a line
/// to `unsupported`.
Json typed_arguments(const Json& arguments, const std::string& path, Problems& problems,
                     std::vector<std::string>& unsupported);

}  // namespace headway::spec
