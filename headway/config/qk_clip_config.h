// The QK-Clip part of a run file.
// Not for: the arithmetic (nn/qk_clip.h).
#pragma once

#include <string_view>

#include "headway/base/field_rule.h"

namespace headway::config {

/// After every optimizer step, query and key projections of heads whose largest attention logit of
/// that step is above `threshold` shrink by threshold / logit: `alpha` of it (as an exponent) by
/// the queries, the rest by the keys.
struct QkClipConfig {
  static constexpr std::string_view kShorthand = "threshold";
  double threshold = 100.0;
  double alpha = 0.5;
  bool operator==(const QkClipConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("threshold", &QkClipConfig::threshold, "largest attention logit left alone", above(0));
    v.field("alpha", &QkClipConfig::alpha, "part of the correction that the queries take",
            between(0, 1));
  }
};

}  // namespace headway::config
