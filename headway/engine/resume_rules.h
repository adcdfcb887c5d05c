// Which parts of a run file may change between a run and its resumption.
// Not for: reading checkpoints (trainer_state.h).
#pragma once

#include "headway/base/json.h"

namespace headway::engine {

/// Compares two resolved run files as JSON (config::to_json): `before` of the checkpoint, `now`
/// given. Length, logging, evaluation, retention and place of the output may change; whatever
/// decides the weights of the steps already done may not. Errors: ConfigError with one line per
/// forbidden change.
void check_resumable(const Json& before, const Json& now);

}  // namespace headway::engine
