// The parts of a layer that a config and a ModelSpec hold alike, as nothing in them is derived:
// norms, rotary positions, gates, dense MLPs, initialisation, and the enums with their names.
// spec/model_spec.h uses them under its own names (RopeSpec = config::RopeConfig, …). Not for:
// values with defaults taken from elsewhere (those are optional in model_config.h, explicit in
// spec). Legend: H query heads, K head dim, D hidden, F ffn.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway::config {

/// Upper bounds that keep every product of sizes within 64 bits and every list within memory.
inline constexpr int64_t kMaxHeads = 65536;
inline constexpr int64_t kMaxHeadDim = 65536;
inline constexpr int64_t kMaxWidth = 1 << 24;  // hidden and intermediate sizes
inline constexpr int64_t kMaxLayers = 10000;
inline constexpr int64_t kMaxVocab = INT32_MAX;
inline constexpr int64_t kMaxTokens = int64_t{1} << 40;  // positions, windows, batches

enum class NormKind { kRms, kLayer };

/// How an RMS norm applies its weight w to x̂ = x·rsqrt(mean(x²)+eps):
///   plain        y = cast(x̂)·w          (product in the activation dtype)
///   zero_centered y = cast(x̂·(1+w))     (product in fp32)
///   fp32_weight  y = cast(x̂·w)          (product in fp32)
///   none         y = cast(x̂)            (owns no parameter)
enum class NormWeight { kPlain, kZeroCentered, kFp32, kNone };

/// Which keys a query may see besides its window: those up to itself, or all of its sequence.
enum class MaskKind { kCausal, kNone };

enum class RopeKind { kDefault, kLinear, kLlama3, kYarn, kProportional };
enum class RopeLayout { kHalf, kInterleaved };
enum class GateKind { kNone, kHeadWise, kElementWise };
enum class GateInit { kNormal, kZero, kConstant };

/// Norm of single query, key or value heads: none, one without a weight, or the block's kind.
enum class HeadNorm { kOff, kFixed, kLearned };

/// Extra softmax logit per head whose probability is dropped: none, fixed at 0, or a parameter.
enum class SinkKind { kNone, kOffByOne, kLearnable };

/// quick_gelu: x·σ(1.702 x).
enum class Activation { kSilu, kGeluTanh, kGelu, kRelu, kQuickGelu };
enum class ScaleRounding { kExact, kWeightDtype };

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::NormKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::NormKind>>(
      {{config::NormKind::kRms, "rms"}, {config::NormKind::kLayer, "layer"}});
};
template <>
struct EnumTable<config::NormWeight> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::NormWeight>>(
      {{config::NormWeight::kPlain, "plain"},
       {config::NormWeight::kZeroCentered, "zero_centered"},
       {config::NormWeight::kFp32, "fp32"},
       {config::NormWeight::kNone, "none"}});
};
template <>
struct EnumTable<config::MaskKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::MaskKind>>(
      {{config::MaskKind::kCausal, "causal"}, {config::MaskKind::kNone, "none"}});
};
template <>
struct EnumTable<config::RopeKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RopeKind>>(
      {{config::RopeKind::kDefault, "default"},
       {config::RopeKind::kLinear, "linear"},
       {config::RopeKind::kLlama3, "llama3"},
       {config::RopeKind::kYarn, "yarn"},
       {config::RopeKind::kProportional, "proportional"}});
};
template <>
struct EnumTable<config::RopeLayout> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RopeLayout>>(
      {{config::RopeLayout::kHalf, "half"}, {config::RopeLayout::kInterleaved, "interleaved"}});
};
template <>
struct EnumTable<config::GateKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::GateKind>>(
      {{config::GateKind::kNone, "none"},
       {config::GateKind::kHeadWise, "head_wise"},
       {config::GateKind::kElementWise, "element_wise"}});
};
template <>
struct EnumTable<config::GateInit> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::GateInit>>({{config::GateInit::kNormal, "normal"},
                                                  {config::GateInit::kZero, "zero"},
                                                  {config::GateInit::kConstant, "constant"}});
};
template <>
struct EnumTable<config::HeadNorm> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::HeadNorm>>({{config::HeadNorm::kOff, "off"},
                                                  {config::HeadNorm::kFixed, "fixed"},
                                                  {config::HeadNorm::kLearned, "learned"}});
};
template <>
struct EnumTable<config::SinkKind> {
  static constexpr std::string_view kUnknown = "Softmax type not supported";
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::SinkKind>>({{config::SinkKind::kNone, "none"},
                                                  {config::SinkKind::kOffByOne, "off_by_one"},
                                                  {config::SinkKind::kLearnable, "learnable"}});
};
template <>
struct EnumTable<config::Activation> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::Activation>>(
      {{config::Activation::kSilu, "silu"},
       {config::Activation::kGeluTanh, "gelu_tanh"},
       {config::Activation::kGelu, "gelu"},
       {config::Activation::kRelu, "relu"},
       {config::Activation::kQuickGelu, "quick_gelu"}});
};
template <>
struct EnumTable<config::ScaleRounding> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::ScaleRounding>>(
      {{config::ScaleRounding::kExact, "exact"},
       {config::ScaleRounding::kWeightDtype, "weight_dtype"}});
};

}  // namespace headway

namespace headway::config {

struct NormConfig {
  NormKind kind = NormKind::kRms;
  NormWeight weight = NormWeight::kPlain;
  double eps = 1e-5;
  bool bias = false;  // LayerNorm only
  bool operator==(const NormConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("kind", &NormConfig::kind,
            "what is normalised by: root mean square, or mean and variance");
    v.field("weight", &NormConfig::weight,
            "how the weight is applied; zero_centered multiplies by 1 + weight");
    v.field("eps", &NormConfig::eps, "added to the mean square", at_least(0));
    v.field("bias", &NormConfig::bias, "adds a bias (kind layer only)");
  }
};

/// Rotary position embedding of one layer. Rotated channels rd = int(K·fraction); `proportional`
/// pairs channels over the whole head and leaves frequencies of pairs j >= floor(K·fraction/2) at
/// zero.
struct RopeConfig {
  static constexpr std::string_view kShorthand = "kind";
  RopeKind kind = RopeKind::kDefault;
  RopeLayout layout = RopeLayout::kHalf;
  double base = 10000.0;
  double fraction = 1.0;
  double factor = 1.0;                     // linear, llama3, yarn, proportional
  double low_freq_factor = 1.0;            // llama3
  double high_freq_factor = 4.0;           // llama3
  double original_max_positions = 8192;    // llama3, yarn
  double beta_fast = 32.0;                 // yarn
  double beta_slow = 1.0;                  // yarn
  bool truncate = true;                    // yarn: round the correction range outwards
  std::optional<double> attention_factor;  // yarn: multiplies cos and sin; unset = derived
  std::optional<double> mscale;            // yarn
  std::optional<double> mscale_all_dim;    // yarn
  /// Multimodal positions: pairs turned by time, height and width; none = one position a token.
  std::optional<std::array<int64_t, 3>> sections;
  bool sections_interleaved = false;  // pairs t h w t h w …, instead of one run an axis
  bool operator==(const RopeConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("kind", &RopeConfig::kind, "how frequencies are stretched for long contexts");
    v.field("layout", &RopeConfig::layout, "pairs (i, i + rd/2), or (2i, 2i + 1)");
    v.field("base", &RopeConfig::base, "wave length base", above(0));
    v.field("fraction", &RopeConfig::fraction, "part of the head channels that is rotated",
            above_up_to(0, 1));
    v.field("factor", &RopeConfig::factor, "context stretch: linear, llama3, yarn, proportional",
            above(0));
    v.field("low_freq_factor", &RopeConfig::low_freq_factor,
            "llama3: waves longer than original / this are stretched", above(0));
    v.field("high_freq_factor", &RopeConfig::high_freq_factor,
            "llama3: waves shorter than original / this are kept", above(0));
    v.field("original_max_positions", &RopeConfig::original_max_positions,
            "llama3, yarn: context before the stretch", above(0));
    v.field("beta_fast", &RopeConfig::beta_fast, "yarn: turns above which a channel is kept",
            above(0));
    v.field("beta_slow", &RopeConfig::beta_slow, "yarn: turns below which a channel is stretched",
            above(0));
    v.field("truncate", &RopeConfig::truncate, "yarn: round the range between the two outwards");
    v.field("attention_factor", &RopeConfig::attention_factor,
            "yarn: multiplies cos and sin; none = 0.1 ln(factor) + 1", above(0));
    v.field("mscale", &RopeConfig::mscale, "yarn: numerator of the derived attention factor",
            at_least(0));
    v.field("mscale_all_dim", &RopeConfig::mscale_all_dim,
            "yarn: denominator of the derived attention factor", at_least(0));
    v.field("sections", &RopeConfig::sections,
            "multimodal: pairs turned by the time, height and width of a token; none = one "
            "position a token",
            between(0, kMaxHeadDim));
    v.field("sections_interleaved", &RopeConfig::sections_interleaved,
            "multimodal: pairs take the axes in turn instead of one run an axis");
  }
};

/// Sigmoid gate on the output of core attention; its rows are a segment of the fused QKV
/// projection. `constant` sets weight 0 and bias `init_value` (so it needs a gate bias).
struct GateConfig {
  static constexpr std::string_view kShorthand = "kind";
  GateKind kind = GateKind::kNone;
  GateInit init = GateInit::kNormal;
  double init_value = 0.0;
  bool operator==(const GateConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("kind", &GateConfig::kind, "one gate a head, or one a channel");
    v.field("init", &GateConfig::init,
            "normal draw, zero (output x 0.5), or constant: weight 0 and bias `value`");
    v.field("value", &GateConfig::init_value, "bias of init constant");
  }
};

/// gated: down( act(gate x) ∘ up x ); plain: down( act(up x) ).
/// `limit` m > 0 (gated only): min(act(gate x), m) ∘ clamp(up x, -m, m), the clamp following the
/// activation.
struct MlpConfig {
  int64_t intermediate_size = 0;  // F
  Activation activation = Activation::kSilu;
  bool gated = true;
  bool bias = false;
  std::optional<double> limit;
  bool operator==(const MlpConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("intermediate_size", &MlpConfig::intermediate_size, "inner width",
            between(1, kMaxWidth).required());
    v.field("activation", &MlpConfig::activation, "of the gate, or of the only branch");
    v.field("gated", &MlpConfig::gated, "down(act(gate x) * up x) instead of down(act(up x))");
    v.field("bias", &MlpConfig::bias, "biases on all projections");
    v.field("limit", &MlpConfig::limit, "clamps both branches after the activation (gated only)",
            above(0));
  }
};

struct InitConfig {
  double std = 0.02;
  /// Residual outputs (o_proj, down_proj) draw Normal(0, std / sqrt(2·layers)) when true.
  bool scale_residual = true;
  bool operator==(const InitConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("std", &InitConfig::std, "standard deviation of every weight matrix", at_least(0));
    v.field("scale_residual", &InitConfig::scale_residual,
            "divide that of residual outputs by sqrt(2 x layers)");
  }
};

}  // namespace headway::config
