// The two halves of the Gemma 4 families. Not for: other families.
#pragma once

#include <vector>

#include "headway/io/rules.h"
#include "headway/spec/model_spec.h"

namespace headway::io::gemma4 {

/// Rules for folders of text models (`model.`) or of composite ones (`model.language_model.`).
/// Either layout, and those of other tools, is read where a folder has it.
std::vector<Rule> text_rules(const spec::ModelSpec& spec);
std::vector<Rule> composite_rules(const spec::ModelSpec& spec);

}  // namespace headway::io::gemma4
