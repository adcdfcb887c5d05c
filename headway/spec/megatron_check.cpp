// Rules over several Megatron fields, in the order of the specification's table.
// Not for: building the spec.
#include "headway/spec/megatron_check.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/config/part_checks.h"
#include "headway/config/recompute_config.h"

namespace headway::spec {
namespace {

class Checker {
 public:
  Checker(const MegatronConfig& config, const std::string& path, Problems& problems,
          std::vector<std::string>& unsupported)
      : c_(config), path_(path), problems_(problems), unsupported_(unsupported) {}

  void run() {
    check_heads();
    check_gates();
    check_low_precision();
    check_layer_lists();
    check_positions();
    check_megatron_latent(c_, path_, problems_, unsupported_);
    check_megatron_runtime(c_, path_, problems_);
    check_megatron_moe(c_, path_, problems_, unsupported_);
    check_megatron_linear(c_, path_, problems_, unsupported_);
    refuse_missing();
  }

 private:
  void problem(std::string_view field, const std::string& text) {
    problems_.add(join_path(path_, field), text);
  }
  void missing(std::string_view field, const std::string& got, std::string_view feature) {
    unsupported_.push_back(
        fmt::format("{} = {}: {} not in this build", join_path(path_, field), got, feature));
  }

  void check_heads() {  // V2-V4
    const int64_t ranks = c_.tensor_model_parallel_size;
    const int64_t heads = c_.num_attention_heads;
    const int64_t groups = c_.query_groups();
    if (heads % ranks != 0) {
      problem("num_attention_heads", fmt::format("num_attention_heads (= {}) must be a multiple of "
                                                 "tensor_model_parallel_size (= {})",
                                                 heads, ranks));
    }
    if (groups % ranks != 0 && ranks % groups != 0) {
      problem("num_query_groups",
              fmt::format("num_query_groups (= {}) must be a multiple or divisor of "
                          "tensor_model_parallel_size (= {})",
                          groups, ranks));
    }
    if (heads % groups != 0) {
      problem("num_query_groups", fmt::format("num_query_groups = {}: allowed a divisor of "
                                              "num_attention_heads (= {})",
                                              groups, heads));
    }
    if (c_.head_dim() <= 0) {
      problem("kv_channels",
              fmt::format("kv_channels = hidden_size / num_attention_heads = {} / {} "
                          "= 0: allowed an integer >= 1",
                          c_.hidden_size, heads));
    }
    if (c_.sequence_parallel && ranks <= 1) {  // V20
      problem("sequence_parallel", fmt::format("sequence_parallel = true: allowed only with "
                                               "tensor_model_parallel_size > 1 (= {})",
                                               ranks));
    }
  }

  void check_gates() {  // V5, V7, V9, V29
    if (c_.attention_output_gate && c_.head_wise_attn_gate) {
      problem("head_wise_attn_gate",
              "attention_output_gate = true and head_wise_attn_gate = true "
              "cannot both be enabled");
    }
    if (c_.head_wise_attn_gate && c_.query_groups() < c_.tensor_model_parallel_size) {
      problem("num_query_groups",
              fmt::format("num_query_groups (= {}) must be at least tensor_model_parallel_size "
                          "(= {}) with head_wise_attn_gate = true",
                          c_.query_groups(), c_.tensor_model_parallel_size));
    }
    const bool gated = c_.attention_output_gate || c_.head_wise_attn_gate;
    if (c_.fused_single_qkv_rope && gated) {
      problem(
          "fused_single_qkv_rope",
          fmt::format("fused_single_qkv_rope = true: not allowed with {} = true",
                      c_.head_wise_attn_gate ? "head_wise_attn_gate" : "attention_output_gate"));
    }
    if (c_.qk_layernorm && c_.qk_l2_norm) {
      problem("qk_l2_norm", "qk_layernorm = true and qk_l2_norm = true: allowed one of them");
    }
    check_gate_init();
  }

  void check_gate_init() {
    const std::string& text = c_.head_wise_attn_gate_init;
    GateSpec gate;
    if (!parse_gate_init(text, gate)) {
      problems_.add_value(join_path(path_, "head_wise_attn_gate_init"), shorten(text),
                          "normal | zero | constant:c with a number c");
    } else if (gate.init != GateInit::kNormal && !c_.head_wise_attn_gate) {
      problems_.add_value(join_path(path_, "head_wise_attn_gate_init"), text,
                          "normal without head_wise_attn_gate");
    } else if (gate.init == GateInit::kConstant && !c_.qkv_bias()) {
      problem("head_wise_attn_gate_init",
              fmt::format("head_wise_attn_gate_init = {}: needs a bias (add_qkv_bias = false, "
                          "add_bias_linear = false)",
                          text));
    }
  }

  void check_low_precision() {  // V1, V8
    if (c_.fp16 && c_.bf16) problem("fp16", "fp16 = true and bf16 = true: allowed one of them");
    if (asks_for(c_.fp8) && asks_for(c_.fp4)) {
      problem("fp8", fmt::format("fp8 = {} and fp4 = {}: allowed one of them", json_summary(c_.fp8),
                                 json_summary(c_.fp4)));
    }
    if (!c_.head_wise_attn_gate || !(asks_for(c_.fp8) || asks_for(c_.fp4))) return;
    const int64_t rows =
        (c_.num_attention_heads + 2 * c_.query_groups()) * c_.head_dim() + c_.num_attention_heads;
    const int64_t per_rank = rows / c_.tensor_model_parallel_size;
    const bool four = asks_for(c_.fp4);
    const int64_t unit = four ? 32 : 16;
    if (per_rank % unit == 0) return;
    problem("head_wise_attn_gate",
            fmt::format("head_wise_attn_gate = true with {}: rows of linear_qkv per rank (= {}) "
                        "must be a multiple of {}",
                        four ? "fp4" : "fp8", per_rank, unit));
  }

  /// An integer >= 1, or a list of L entries (mtp layers may have theirs), each 0 or 1.
  void check_layer_list(std::string_view name, const Json& value, std::string_view invalid) {
    if (value.is_null()) return;
    if (value.is_number_integer() && value.get<int64_t>() >= 1) return;
    if (!value.is_array()) {
      return problem(name, fmt::format("{} {} {}: allowed an integer >= 1 or a list", invalid,
                                       type_name(value), shorten(value.dump())));
    }
    const int64_t layers = c_.num_layers;
    const int64_t with_mtp = layers + c_.mtp_num_layers.value_or(0);
    const auto length = static_cast<int64_t>(value.size());
    if (length != layers && length != with_mtp) {
      problem(name, fmt::format("{} length ({}) must equal num_layers ({})", name, length, layers));
    }
    for (const Json& entry : value) {
      const bool fits = entry.is_boolean() || entry == 0 || entry == 1;
      if (fits) continue;
      return problem(name, fmt::format("{} {} {}: allowed 0 or 1 for each layer", invalid,
                                       type_name(entry), shorten(entry.dump())));
    }
  }

  static std::string type_name(const Json& value) {
    if (value.is_string()) return "str";
    if (value.is_boolean()) return "bool";
    if (value.is_number_integer()) return "int";
    if (value.is_number()) return "float";
    return value.is_array() ? "list" : "mapping";
  }

  void check_layer_lists() {  // V13, V16, V17
    check_layer_list("window_attn_skip_freq", c_.window_attn_skip_freq,
                     "Invalid `window_attn_skip_freq`:");
    check_layer_list("no_rope_freq", c_.no_rope_freq, "Invalid `no_rope_freq`:");
    if (c_.window_size == std::nullopt && !c_.window_attn_skip_freq.is_null()) {
      problem("window_attn_skip_freq", fmt::format("window_attn_skip_freq = {}: allowed only with "
                                                   "window_size (= none)",
                                                   json_summary(c_.window_attn_skip_freq)));
    }
    if (c_.no_rope_freq.is_number_integer()) {
      const int64_t every = c_.no_rope_freq.get<int64_t>();
      if (every >= 1 && c_.num_layers % every != 0) {
        problem("no_rope_freq", fmt::format("no_rope_freq = {}: allowed a divisor of num_layers "
                                            "(= {})",
                                            every, c_.num_layers));
      }
    }
    if (!c_.no_rope_freq.is_null() && c_.flash_decode) {
      problem("flash_decode", fmt::format("flash_decode cannot be used with no_rope (flash_decode "
                                          "= true, no_rope_freq = {})",
                                          json_summary(c_.no_rope_freq)));
    }
  }

  void check_positions() {  // V14, V15, V18, V19
    const std::string type(enum_name(c_.position_embedding_type));
    const bool rotates = c_.position_embedding_type == PositionType::kRope ||
                         c_.position_embedding_type == PositionType::kYarn ||
                         c_.position_embedding_type == PositionType::kMrope;
    if (c_.rotary_base_per_layer) {
      const int64_t layers = c_.num_layers + c_.mtp_num_layers.value_or(0);
      config::check_base_count(c_.rotary_base_per_layer->size(), layers,
                               join_path(path_, "rotary_base_per_layer"), problems_);
      if (!rotates || c_.multi_latent_attention) {
        unsupported_.push_back(fmt::format(
            "{}: rotary_base_per_layer is only supported with \"rope\", \"yarn\" and \"mrope\" and "
            "without multi-latent attention (position_embedding_type = \"{}\", "
            "multi_latent_attention = {})",
            join_path(path_, "rotary_base_per_layer"), type, c_.multi_latent_attention));
      }
    }
    if (!rotates || c_.multi_latent_attention) return;
    const auto width = static_cast<int64_t>(static_cast<double>(c_.head_dim()) * c_.rotary_percent);
    if (width < 2 || width % 2 != 0) {
      problem("rotary_percent",
              fmt::format("rotary_percent = {}: int(kv_channels x rotary_percent) = int({} x {}) = "
                          "{}, allowed an even number >= 2",
                          format_double(c_.rotary_percent), c_.head_dim(),
                          format_double(c_.rotary_percent), width));
    }
    const bool sections = c_.mrope_section || c_.mrope_interleaved;
    if (sections && c_.position_embedding_type != PositionType::kMrope) {
      problem("mrope_section", fmt::format("mrope_section and mrope_interleaved: allowed only with "
                                           "position_embedding_type = mrope (= {})",
                                           type));
    }
    if (c_.position_embedding_type == PositionType::kYarn) check_yarn();
    if (c_.position_embedding_type == PositionType::kMrope) check_sections(width / 2);
  }

  void check_yarn() {
    if (c_.rotary_interleaved) {
      problem("rotary_interleaved",
              "rotary_interleaved = true: not allowed with "
              "position_embedding_type = yarn");
    }
    if (!c_.yarn_rotary_scaling_factor) {
      problem("yarn_rotary_scaling_factor",
              "missing; position_embedding_type = yarn needs a number > 0");
    }
  }

  void check_sections(int64_t pairs) {
    if (!c_.mrope_section) {
      return problem("mrope_section",
                     "missing; position_embedding_type = mrope needs mrope_section");
    }
    const std::vector<int64_t>& given = *c_.mrope_section;
    const std::string text = fmt::format("mrope_section = {}", Json(given).dump());
    const bool negative = std::any_of(given.begin(), given.end(), [](int64_t n) { return n < 0; });
    if (given.size() != 3 || negative || given[0] > pairs || given[1] > pairs || given[2] > pairs ||
        given[0] + given[1] + given[2] != pairs) {
      return problem("mrope_section", fmt::format("{}: allowed three integers >= 0 whose sum is "
                                                  "half the rotated channels (= {})",
                                                  text, pairs));
    }
    const std::array<int64_t, 3> even = config::even_sections(pairs);
    if (c_.mrope_interleaved && !std::equal(even.begin(), even.end(), given.begin())) {
      problem("mrope_section",
              fmt::format("{}: allowed {} with mrope_interleaved = true", text, Json(even).dump()));
    }
  }

  void refuse_missing() {
    const auto size = [&](std::string_view name, int64_t ranks, std::string_view feature) {
      if (ranks > 1) missing(name, std::to_string(ranks), feature);
    };
    size("tensor_model_parallel_size", c_.tensor_model_parallel_size, "tensor parallelism is");
    size("pipeline_model_parallel_size", c_.pipeline_model_parallel_size,
         "pipeline parallelism is");
    size("context_parallel_size", c_.context_parallel_size, "context parallelism is");
    size("expert_model_parallel_size", c_.expert_model_parallel_size, "expert parallelism is");
    if (asks_for(c_.fp8)) missing("fp8", json_summary(c_.fp8), "fp8 is");
    if (asks_for(c_.fp4)) missing("fp4", json_summary(c_.fp4), "fp4 is");
    if (c_.hidden_dropout > 0) {
      missing("hidden_dropout", format_double(c_.hidden_dropout),
              "dropout of the residual stream is");
    }
    if (c_.use_mup && c_.mup_width_mult != 1.0) {
      missing("mup_width_mult", format_double(c_.mup_width_mult),
              "muP's learning rates and multipliers are");
    }
    if (c_.flash_decode) missing("flash_decode", "true", "static flash decode is");
    if (c_.batch_invariant_mode) missing("batch_invariant_mode", "true", "batch invariance is");
    if (c_.cpu_offloading) missing("cpu_offloading", "true", "offloading of activations is");
    if (c_.recompute_granularity == "selective") {
      for (const std::string& module : c_.recompute_modules.value_or(std::vector<std::string>{})) {
        if (enum_parse<config::RecomputeModule>(module)) continue;
        missing("recompute_modules", module, "recomputing this module is");
      }
    }
    const bool layer_norm = c_.normalization == MegatronNorm::kLayer;
    if (layer_norm && c_.layernorm_zero_centered_gamma) {
      missing("layernorm_zero_centered_gamma", "true", "a zero-centred weight of LayerNorm is");
    }
    refuse_positions();
  }

  void refuse_positions() {
    const std::string type(enum_name(c_.position_embedding_type));
    switch (c_.position_embedding_type) {
      case PositionType::kMrope:
        if (c_.rope_scaling) {
          missing("rope_scaling", "true",
                  "Llama-3 scaling with position_embedding_type = mrope is");
        }
        break;
      case PositionType::kLearnedAbsolute:
      case PositionType::kRelative:
        missing("position_embedding_type", type, "positions other than rotary are");
        break;
      case PositionType::kRope:
      case PositionType::kYarn:
      case PositionType::kNone:
        break;
    }
    const bool scaled = c_.rotary_scaling_factor && *c_.rotary_scaling_factor != 1.0;
    if (c_.position_embedding_type == PositionType::kRope && scaled && c_.rope_scaling) {
      missing("rope_scaling", "true",
              fmt::format("Llama-3 scaling together with rotary_scaling_factor = {} is",
                          format_double(*c_.rotary_scaling_factor)));
    }
  }

  const MegatronConfig& c_;
  const std::string& path_;
  Problems& problems_;
  std::vector<std::string>& unsupported_;
};

}  // namespace

bool parse_gate_init(const std::string& text, GateSpec& gate) {
  if (text == "normal") return true;
  if (text == "zero") {
    gate.init = GateInit::kZero;
    return true;
  }
  constexpr std::string_view kPrefix = "constant:";
  if (!text.starts_with(kPrefix)) return false;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + kPrefix.size(), end, gate.init_value);
  gate.init = GateInit::kConstant;
  return read.ec == std::errc() && read.ptr == end && std::abs(gate.init_value) < 1e300;
}

void check_megatron(const MegatronConfig& config, const std::string& path, Problems& problems,
                    std::vector<std::string>& unsupported) {
  Checker(config, path, problems, unsupported).run();
}

}  // namespace headway::spec
