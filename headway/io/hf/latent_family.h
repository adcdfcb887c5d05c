// What deepseek_v3, deepseek_v32 and glm_moe_dsa share: latent attention in every layer, dense MLPs
// and sigmoid-routed experts with shared ones. Each family adds how its layers choose keys.
// Not for: block-scaled FP8 weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/io/hf/family.h"
#include "headway/io/hf/reasons.h"
#include "headway/spec/latent_attention.h"

namespace headway::io {

/// What the reference fills in for absent keys, and what sets a family apart.
struct LatentForm {
  int64_t max_positions = 4096;
  double norm_eps = 1e-6;
  int64_t groups = 8;
  int64_t kept_groups = 4;
  bool needs_q_latent = false;                   // q_lora_rank null is not part of the family
  bool rope_interleave_key = false;              // rope_interleave may say half
  std::optional<spec::RopeLayout> index_layout;  // of families with an indexer
  bool own_mtp_head = true;                      // next-token layers have heads of their own
  bool shares_choices = false;                   // some layers take an earlier one's keys
};

/// The model, an indexer in every layer of families that have one.
spec::ModelSpec read_latent_decoder(ConfigReader& config, const LatentForm& form);

/// Everything that such a family cannot say, beyond what `form` allows.
void latent_reasons(const spec::ModelSpec& spec, const LatentForm& form, Reasons& reasons);

/// The keys that read_latent_decoder reads.
Json write_latent_decoder(const spec::ModelSpec& spec, const LatentForm& form);

std::vector<Rule> latent_rules(const spec::ModelSpec& spec);

}  // namespace headway::io
