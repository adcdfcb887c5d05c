// See moe_family.h. Not for: single families.
#include "headway/io/hf/moe_family.h"

#include <fmt/format.h>

#include "headway/base/text_util.h"

namespace headway::io {
namespace {

const char* const kNativeExperts = "model.layers.{}.mlp.experts.{*}.";

void form_reasons(size_t layer, const spec::MoeSpec& moe, const MoeForm& form, Reasons& reasons) {
  const auto add_if = [&](bool condition, const std::string& feature) {
    if (condition) reasons.add_layer(layer, feature);
  };
  const spec::RouterSpec& router = moe.router;
  add_if(router.score != form.score, fmt::format("a router with {} scores (the family's is {})",
                                                 enum_name(router.score), enum_name(form.score)));
  add_if(router.expert_bias != form.expert_bias,
         form.expert_bias ? "a router without expert bias" : "an expert bias");
  add_if(form.normalize && router.normalize != *form.normalize,
         router.normalize ? "weights divided by their sum" : "weights not divided by their sum");
  add_if(!form.scale && router.scale != 1.0, "a factor on router weights");
  add_if(!form.groups && router.num_groups > 1, "groups of experts");
  add_if(router.bias != form.biases,
         form.biases ? "no bias of the router's projection" : "a bias of the router's projection");
  add_if(router.sinkhorn, "Sinkhorn routing");
  add_if(moe.bias != form.biases, form.biases ? "no biases of experts" : "biases of experts");
  add_if(moe.capacity.has_value(), "a capacity of experts");
  add_if(moe.latent_size.has_value(), "a latent width of experts");
  add_if(moe.weight_input, "router weights on the input of experts");
  add_if(!form.limits && moe.limit && !moe.limit_input, "a limit in the experts");
  const bool clamped = moe.limit && moe.limit_input && moe.linear_offset == 1.0 &&
                       moe.activation == spec::Activation::kQuickGelu && moe.gated;
  add_if(form.clamped_input && !clamped,
         "experts without a limit before quick_gelu and an offset of 1");
  add_if(!form.clamped_input && moe.limit_input, "a limit before the activation of experts");
  add_if(!form.clamped_input && moe.linear_offset != 0, "an offset in the experts");
  add_if(moe.shared.has_value() != form.shared,
         form.shared ? "no shared expert" : "a shared expert");
  if (!moe.shared) return;
  add_if(moe.shared->gate != form.shared_gate,
         form.shared_gate ? "a shared expert without gate" : "a gate on the shared expert");
  add_if(!form.limits && moe.shared->limit, "a limit in the shared expert");
}

}  // namespace

const spec::MoeSpec* first_moe(const spec::ModelSpec& spec) {
  for (int64_t i = 0; i < spec::num_blocks(spec); ++i) {
    if (const spec::MoeSpec* moe = spec::moe_of(spec::block_at(spec, i))) return moe;
  }
  return nullptr;
}

void moe_reasons(const spec::ModelSpec& spec, const MoeForm& form, Reasons& reasons) {
  const spec::MoeSpec* first = first_moe(spec);
  if (first == nullptr) return;
  // What may differ between layers, and what only training looks at.
  const auto common = [](spec::MoeSpec moe) {
    moe.limit.reset();
    if (moe.shared) moe.shared->limit.reset();
    moe.router.losses.clear();
    moe.router.balance_choices = false;
    moe.router.z_loss = 0;
    moe.router.bias_update_rate = 0;
    return moe;
  };
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::MoeSpec* moe = spec::moe_of(spec::block_at(spec, static_cast<int64_t>(i)));
    if (moe == nullptr) continue;
    form_reasons(i, *moe, form, reasons);
    if (common(*moe) != common(*first)) {
      reasons.add_layer(i, "another mixture of experts than the first");
    }
  }
}

std::vector<Rule> fused_expert_rules(const std::string& experts) {
  const std::string native = kNativeExperts;
  MapRule up{{native + "gate_proj.weight", native + "up_proj.weight"},
             {experts + ".gate_up_proj"},
             &kStackPairs,
             /*alternative=*/true};
  MapRule down{{native + "down_proj.weight"},
               {experts + ".down_proj"},
               &kStack,
               /*alternative=*/true};
  return {up, down};
}

}  // namespace headway::io
