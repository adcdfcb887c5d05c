// object[start:stop:step] of texts, lists, tuples and ranges. Not for: single items.
#pragma once

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

struct SliceParts {
  Value start;  // None: from the end that the step's sign says
  Value stop;
  Value step;
};

/// Errors: TemplateError of kind type (no slices of this, parts that are no integers), value (step
/// 0), undefined.
Value slice(const Value& object, const SliceParts& parts);

}  // namespace headway::text::jinja
