// What a checkpoint family is: how its config.json becomes a ModelSpec and back, and the rules
// between its tensor names and ours. One file per family defines one.
// Not for: opening files (checkpoint.h) or applying the rules (tensor_layout.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headway/io/hf/config_reader.h"
#include "headway/io/rules.h"
#include "headway/spec/model_spec.h"

namespace headway::io {

/// A named way of writing a model down. All members are plain functions: a family has no state.
struct Family {
  std::string_view name;          // model_type
  std::string_view architecture;  // architectures[0]
  /// config.json -> spec. Collects problems in the reader; UnsupportedError names what this build
  /// cannot run. The caller throws the problems and validates the spec.
  spec::ModelSpec (*read)(ConfigReader& config);
  /// Why a spec cannot be written as this family: one line per feature, with the layers.
  std::vector<std::string> (*inexpressible)(const spec::ModelSpec& spec);
  /// spec -> the keys that `read` reads. The spec is expressible. Null: the family is only read.
  Json (*write)(const spec::ModelSpec& spec);
  /// Differences between native tensor names and this family's; other names are the same.
  std::vector<Rule> (*rules)(const spec::ModelSpec& spec);
  /// Features that inexpressible and write know; a layer with another one is refused before them.
  struct Knows {
    bool experts = false;
    bool linear_attention = false;
    bool mtp = false;  // multi-token prediction
    bool latent_attention = false;
    bool attention = true;      // grouped-query attention
    bool layer_extras = false;  // per-layer inputs, hybrid MLPs, shared keys and values, …
  };
  Knows knows{};
  /// Key that counts next-token layers, of a family whose folders may hold one (mtp.*) that their
  /// config does not count.
  std::string_view mtp_key{};
  /// What the `model.` of our names is called on disk: a text model inside a composite one has
  /// more in front of its own names. Rules are written with `model.`.
  std::string_view model_scope = kModelScope;

  static constexpr std::string_view kModelScope = "model.";
  /// A name of ours or of a rule as it stands on disk.
  std::string disk_name(const std::string& name) const;
};

/// Where the config of a composite model holds that of its text model.
inline constexpr const char* kTextConfig = "text_config";

const Family& deepseek_v3_family();
const Family& deepseek_v32_family();
const Family& glm_moe_dsa_family();
const Family& headway_family();
const Family& gpt_oss_family();
const Family& kimi_linear_family();
const Family& gemma3_text_family();
const Family& gemma4_family();
const Family& gemma4_text_family();
const Family& gemma4_unified_family();
const Family& gemma4_unified_text_family();
const Family& llama_family();
const Family& mistral_family();
const Family& minimax_m2_family();
const Family& olmo_hybrid_family();
const Family& qwen2_family();
const Family& qwen3_family();
const Family& qwen3_moe_family();
const Family& qwen3_5_family();
const Family& qwen3_5_moe_family();
const Family& qwen3_5_text_family();
const Family& qwen3_5_moe_text_family();
const Family& qwen3_next_family();
const Family& step3p5_family();

/// By model_type; UnsupportedError listing the known ones.
const Family& find_family(std::string_view model_type);

/// inexpressible(spec), after kinds of layers that the family's functions do not know at all, or
/// that the family is only read.
std::vector<std::string> reasons_against(const Family& family, const spec::ModelSpec& spec);

/// `config.json` of a family as a checked spec. `file` names it in messages.
struct ReadConfig {
  spec::ModelSpec spec;
  std::vector<std::string> unknown_keys;  // preserved on export, without effect on the model
  std::vector<std::string> read_keys;     // top-level keys with an effect
};
ReadConfig read_config(const Family& family, const Json& config, const std::string& file);

/// What an export adds to the keys of the model.
struct ExportHints {
  /// Config of the same family from which the model came: unknown keys and key order are kept.
  const Json* original = nullptr;
  std::string dtype = "float32";
  Json token_ids = Json::object();  // bos_token_id, eos_token_id, pad_token_id as they were
};

/// config.json for a spec. UnsupportedError listing every reason when it is not expressible. The
/// result is read back and compared: a difference is an InternalError.
Json export_config(const Family& family, const spec::ModelSpec& spec, const ExportHints& hints);

/// The spec without what no family's config holds: block names, initialisation, and the difference
/// between one rotary table and equal ones per layer.
spec::ModelSpec canonical_spec(spec::ModelSpec spec);

}  // namespace headway::io
