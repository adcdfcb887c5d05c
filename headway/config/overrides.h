// `a.b=value` on a parsed document.
// Not for: knowing which keys exist; reading the document afterwards reports those.
#pragma once

#include <string>
#include <vector>

#include "headway/base/json.h"
#include "headway/base/problems.h"

namespace headway::config {

/// Sets one value per override, in order, and notes its source. "a.b=v", "a.0=v" and "a[0]=v" reach
/// into mappings and existing list entries; missing mappings are made. Problems are collected in
/// `lines`.
void apply_overrides(const std::vector<std::string>& overrides, Json& document, Sources& sources,
                     std::vector<std::string>& lines);

}  // namespace headway::config
