// Multi-token prediction in families: layers read behind the stack, and where their tensors lie.
// Not for: families without it.
#pragma once

#include <vector>

#include "headway/io/hf/config_reader.h"
#include "headway/io/rules.h"
#include "headway/spec/model_spec.h"

namespace headway::io {

/// Makes the last `count` layers of `model` depths of multi-token prediction with norms like the
/// final one; nothing for 0.
void split_mtp(spec::ModelSpec& model, size_t count);

/// A key that counts next-token layers, of which the family holds at most one; 0 when absent.
size_t read_one_mtp_layer(ConfigReader& config, std::string_view key);

/// `rules` and, before them, the same for the one depth of `spec` in a scope of its own:
/// mtp.layers.0.*, mtp.fc, mtp.norm and mtp.pre_fc_norm_{embedding,hidden}. Without a depth,
/// tensors of that scope are left out.
std::vector<Rule> with_mtp_scope(const spec::ModelSpec& spec, const std::vector<Rule>& rules);

}  // namespace headway::io
