// The module specs of every attention and MLP kind. Not for: which layer takes which
// (block_spec.cpp).
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/spec/block_spec.h"

namespace headway::spec {
namespace {

constexpr char kIdentity[] = "IdentityOp";

BackendSpecProvider backend_or(const OptionalBackend& backend, const BlockArguments& arguments) {
  return backend ? *backend : _get_backend_spec_provider(arguments);
}

/// Collects a module's parts under their upstream names.
class Builder {
 public:
  explicit Builder(std::string module, bool partial = false) {
    spec_.module = std::move(module);
    spec_.partial = partial;
  }
  Builder& add(const std::string& name, SharedModule module) {
    spec_.submodules.emplace_back(name, std::move(module));
    return *this;
  }
  Builder& add(const std::string& name, const std::string& module) {
    return add(name, plain_module(module));
  }
  Builder& causal() {
    spec_.params["attn_mask_type"] = "causal";
    return *this;
  }
  Builder& fuses_input_norm(bool fuses) {
    spec_.metainfo["fuse_input_layernorm"] = fuses;
    return *this;
  }
  SharedModule build() { return std::make_shared<const ModuleSpec>(std::move(spec_)); }

 private:
  ModuleSpec spec_;
};

/// Norm and column-parallel projection in one module where the backend has it.
const std::string& norm_column(const BackendSpecProvider& backend) {
  return backend.fuse_layernorm_and_linear() ? backend.column_parallel_layer_norm_linear
                                             : backend.column_parallel_linear;
}

SharedModule mla_spec(const BlockArguments& arguments, const BackendSpecProvider& backend) {
  const std::string& up =
      arguments.qk_layernorm ? norm_column(backend) : backend.column_parallel_linear;
  const bool norm_apart = arguments.qk_layernorm && !backend.fuse_layernorm_and_linear();
  const std::string norm = norm_apart ? backend.norm : kIdentity;
  return Builder("MLASelfAttention")
      .causal()
      .fuses_input_norm(false)
      .add("linear_q_proj", backend.column_parallel_linear)
      .add("linear_q_down_proj", backend.linear)
      .add("linear_q_up_proj", up)
      .add("linear_kv_down_proj", backend.linear)
      .add("linear_kv_up_proj", up)
      .add("core_attention", backend.core_attention)
      .add("linear_proj", backend.row_parallel_linear)
      .add("q_layernorm", norm)
      .add("kv_layernorm", norm)
      .build();
}

SharedModule indexer_core(const BackendSpecProvider& backend) {
  const SharedModule indexer = Builder("DSAIndexer")
                                   .add("linear_wq_b", backend.linear)
                                   .add("linear_wk", backend.linear)
                                   .add("k_norm", backend.norm)
                                   .add("linear_weights_proj", backend.linear)
                                   .build();
  return Builder("DSAttention").add("indexer", indexer).build();
}

SharedModule mlp_parts(Builder builder, const GroupedMlpModules& modules,
                       const std::string& activation) {
  builder.add("linear_fc1", modules.linear_fc1).add("linear_fc2", modules.linear_fc2);
  if (!activation.empty()) builder.add("activation_func", activation);
  return builder.build();
}

}  // namespace

bool is_linear_attention_variant(const std::optional<std::string>& variant) {
  return variant == "gated_delta_net" || variant == "gdn";
}

SharedModule get_gated_delta_net_module_spec(const BlockArguments& arguments,
                                             const OptionalBackend& given) {
  const BackendSpecProvider backend = backend_or(given, arguments);
  return Builder("GatedDeltaNet")
      .fuses_input_norm(backend.fuse_layernorm_and_linear())
      .add("in_proj", norm_column(backend))
      .add("out_norm", backend.norm)
      .add("out_proj", backend.row_parallel_linear)
      .build();
}

SharedModule get_dsa_module_spec_for_backend(const BlockArguments& arguments,
                                             const OptionalBackend& given) {
  if (!arguments.multi_latent_attention) {
    throw ConfigError(
        "multi_latent_attention = false: allowed true with experimental_attention_variant = dsa");
  }
  if (arguments.qk_l2_norm) {
    throw ConfigError("qk_l2_norm = true: allowed false with experimental_attention_variant = dsa");
  }
  const BackendSpecProvider backend = backend_or(given, arguments);
  const std::string norm = arguments.qk_layernorm ? backend.norm : kIdentity;
  return Builder("AbsorbedMLASelfAttention")
      .causal()
      .fuses_input_norm(false)
      .add("linear_q_proj", backend.column_parallel_linear)
      .add("linear_q_down_proj", backend.linear)
      .add("linear_q_up_proj", backend.column_parallel_linear)
      .add("linear_kv_down_proj", backend.linear)
      .add("linear_kv_up_proj", backend.column_parallel_linear)
      .add("core_attention", indexer_core(backend))
      .add("linear_proj", backend.row_parallel_linear)
      .add("q_layernorm", norm)
      .add("kv_layernorm", norm)
      .build();
}

SharedModule get_experimental_attention_variant_module_spec(const BlockArguments& arguments,
                                                            const OptionalBackend& backend) {
  const auto& variant = arguments.experimental_attention_variant;
  if (is_linear_attention_variant(variant))
    return get_gated_delta_net_module_spec(arguments, backend);
  if (variant == "dsa") return get_dsa_module_spec_for_backend(arguments, backend);
  throw ConfigError(
      fmt::format("Invalid experimental attention variant: "
                  "experimental_attention_variant = {}, allowed gated_delta_net | "
                  "gdn | dsa",
                  variant ? shorten(*variant) : "none"));
}

SharedModule _get_self_attention_module_spec(const BlockArguments& arguments,
                                             const OptionalBackend& given) {
  const BackendSpecProvider backend = backend_or(given, arguments);
  if (arguments.multi_latent_attention) return mla_spec(arguments, backend);
  std::string norm = arguments.qk_layernorm ? backend.norm : kIdentity;
  if (arguments.qk_l2_norm) norm = "L2Norm";
  const std::string core =
      arguments.fallback_to_eager_attn ? composed_backend().core_attention : backend.core_attention;
  return Builder("SelfAttention")
      .causal()
      .fuses_input_norm(backend.fuse_layernorm_and_linear())
      .add("linear_qkv", norm_column(backend))
      .add("core_attention", core)
      .add("linear_proj", backend.row_parallel_linear)
      .add("q_layernorm", norm)
      .add("k_layernorm", norm)
      .build();
}

FusedModule _get_dense_mlp_module_spec(const BlockArguments& arguments,
                                       const OptionalBackend& given) {
  const BackendSpecProvider backend = backend_or(given, arguments);
  Builder mlp("MLP.as_mlp_submodule", /*partial=*/true);
  return {mlp_parts(std::move(mlp), {"", norm_column(backend), backend.row_parallel_linear}, ""),
          backend.fuse_layernorm_and_linear()};
}

FusedModule _get_moe_module_spec(const BlockArguments& arguments, const OptionalBackend& given) {
  const BackendSpecProvider backend = backend_or(given, arguments);
  const GroupedMlpModules& experts = backend.grouped_mlp_modules(arguments.moe_grouped_gemm);
  const GroupedMlpModules shared{"", backend.column_parallel_linear, backend.row_parallel_linear};
  const std::string& activation = backend.activation_func;
  return {Builder("MoELayer", /*partial=*/true)
              .add("experts", mlp_parts(Builder(experts.experts, true), experts, activation))
              .add("shared_experts",
                   mlp_parts(Builder("_build_shared_experts", true), shared, activation))
              .add("router", "TopKRouter")
              .build(),
          false};
}

}  // namespace headway::spec
