// A ModelSpec for people and for scripts: one row a layer, so that differences between layers are
// seen at a glance. Not for: exact round trips (spec_json.h).
#pragma once

#include <string>
#include <vector>

#include "headway/base/json.h"
#include "headway/spec/cost.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Letters for layers that are equal in everything: "A", "B", …, "Z", "A1", … in order of first
/// appearance.
std::vector<std::string> layer_kinds(const ModelSpec& spec);

/// The stack as runs of equal layers: "A Bx3 A Bx3".
std::string stack_line(const ModelSpec& spec);

/// Head lines, the stack line, and a table with one row per layer: kind, block, mixer, heads, head
/// size, window, rotary positions, gate, source of keys and values, MLP, norms, parameters, cached
/// state; then the totals. Test: tests/unit/spec/describe_test.cpp
std::string describe_text(const ModelSpec& spec, const CostOptions& options = {});

/// The same as {"hidden_size", …, "stack", "layers": [{…}], "totals": {…}, "spec": {…}}; numbers
/// stay numbers.
Json describe_json(const ModelSpec& spec, const CostOptions& options = {});

}  // namespace headway::spec
