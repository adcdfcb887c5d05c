// Dispatch of probe modules, and the tensors and metadata of a probe file.
// Not for: the modules themselves (probe_<module>.cpp).
#include "headway/engine/probe.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_input.h"
#include "headway/io/megatron_layout.h"

namespace headway::engine {
namespace {

constexpr std::string_view kParameter = "param.";

at::ScalarType dtype_of(const ProbeRequest& request) {
  if (request.dtype) return *request.dtype;
  const auto hidden = request.tensors.find("hidden_states");
  if (hidden != request.tensors.end()) return hidden->second.scalar_type();
  for (const auto& [name, tensor] : request.tensors) {
    if (name.starts_with(kParameter) && tensor.is_floating_point()) return tensor.scalar_type();
  }
  for (const auto& [name, tensor] : request.tensors) {
    if (tensor.is_floating_point()) return tensor.scalar_type();
  }
  return at::kDouble;
}

void merge(Json& arguments, const Json& more, const std::string& where) {
  if (more.is_null()) return;
  if (!more.is_object())
    throw ConfigError(where + " = " + json_summary(more) + ": allowed a mapping");
  for (const auto& [key, value] : more.items()) {
    if (!arguments.contains(key)) {
      arguments[key] = value;
    } else if (arguments[key] != value) {
      throw ConfigError(fmt::format("{}.{} = {}: contradicts {} of config", where, shorten(key),
                                    json_summary(value), json_summary(arguments[key])));
    }
  }
}

/// A parameter's tensor in Megatron's row order, or back.
at::Tensor reordered(const at::Tensor& tensor, const std::string& parameter,
                     const spec::ModelSpec& spec, bool to_megatron) {
  const spec::AttentionSpec* attention = io::interleaved_attention(spec, parameter);
  if (attention == nullptr) return tensor;
  const io::QkvHeads heads = io::qkv_heads(*attention);
  return to_megatron ? io::qkv_to_megatron(tensor, heads) : io::qkv_from_megatron(tensor, heads);
}

}  // namespace

ProbeInput::ProbeInput(const ProbeRequest& request)
    : request_(request), dtype_(dtype_of(request)) {}

at::Tensor ProbeInput::tensor(const std::string& name) const {
  const auto found = request_.tensors.find(name);
  if (found == request_.tensors.end()) {
    throw CheckpointError("[probe] tensor " + name + ": missing from the probe file");
  }
  return found->second.is_floating_point() ? found->second.to(dtype_) : found->second;
}

at::Tensor ProbeInput::cotangent(const at::Tensor& result) const {
  if (!has("cotangent")) return {};
  const at::Tensor given = tensor("cotangent");
  if (given.sizes() != result.sizes()) {
    throw ShapeError("[probe] cotangent: allowed the shape of out");
  }
  return given;
}

std::string ProbeInput::text(const std::string& key) const {
  const auto found = request_.metadata.find(key);
  return found == request_.metadata.end() ? std::string() : found->second;
}

Json ProbeInput::config() const {
  if (request_.config) return *request_.config;
  const std::string given = text("config");
  if (given.empty()) {
    throw ConfigError("[probe] config: missing; allowed metadata `config` or --config FILE.json");
  }
  return parse_json(given, "metadata config", JsonErrors::kConfig);
}

Json ProbeInput::config_or_empty() const {
  if (!request_.config && text("config").empty()) return Json::object();
  const Json given = config();
  if (given.is_object()) return given;
  throw ConfigError("[probe] config = " + json_summary(given) + ": allowed a mapping");
}

Json ProbeInput::arguments() const {
  Json arguments = config();
  if (!arguments.is_object()) {
    throw ConfigError("[probe] config = " + json_summary(arguments) + ": allowed a mapping");
  }
  const Json injected = arguments.value("_injected_attributes", Json());
  arguments.erase("_injected_attributes");
  merge(arguments, injected, "_injected_attributes");
  const std::string model = text("gpt_model_arguments");
  if (!model.empty()) {
    merge(arguments, parse_json(model, "metadata gpt_model_arguments", JsonErrors::kConfig),
          "gpt_model_arguments");
  }
  return arguments;
}

std::optional<int64_t> ProbeInput::integer(const std::string& key, int64_t least,
                                           int64_t most) const {
  const std::string given = text(key);
  if (given.empty()) return std::nullopt;
  int64_t number = 0;
  const char* end = given.data() + given.size();
  const auto read = std::from_chars(given.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end || number < least || number > most) {
    const std::string range =
        most == INT64_MAX ? fmt::format(">= {}", least) : fmt::format("in [{}, {}]", least, most);
    throw ConfigError(
        fmt::format("[probe] {} = {}, allowed an integer {}", key, shorten(given), range));
  }
  return number;
}

int64_t ProbeInput::layer_number() const {
  return integer("layer_number", 1, INT64_MAX).value_or(1);
}

void ProbeInput::check_surplus(const std::set<std::string>& used) const {
  for (const auto& [name, tensor] : request_.tensors) {
    if (!name.starts_with(kParameter) || used.contains(name)) continue;
    const bool norm = name.find("q_layernorm") != std::string::npos ||
                      name.find("k_layernorm") != std::string::npos;
    if (norm) {
      throw ConfigError("[probe] qk_layernorm = false: the file has " + name +
                        "; allowed only with qk_layernorm");
    }
    throw CheckpointError("[probe] tensor " + name + ": no parameter of this module");
  }
}

std::vector<io::MegatronPart> ProbeInput::parts_of(const spec::TensorSpec& tensor,
                                                   const spec::ModelSpec& spec,
                                                   const std::string& prefix) const {
  const auto in_file = [&](const std::string& name) {
    return has(std::string(kParameter) + name.substr(prefix.size()));
  };
  io::MegatronForm form;
  form.linear =
      tensor.layer >= 0 && spec::delta_net_of(spec::block_at(spec, tensor.layer)) != nullptr;
  auto parts = io::megatron_parts(tensor, form);
  if (!in_file(parts.front().name)) {
    form.grouped = true;
    auto grouped = io::megatron_parts(tensor, form);
    if (in_file(grouped.front().name)) parts = std::move(grouped);
  }
  const std::string fused = io::megatron_fused_name(tensor.name, form);
  if (!fused.empty() && in_file(fused)) parts.front().name = fused;
  for (io::MegatronPart& part : parts) part.name = part.name.substr(prefix.size());
  return parts;
}
void ProbeInput::load(nn::Parameters& parameters, const spec::ModelSpec& spec,
                      const std::string& scope, const std::string& prefix,
                      std::set<std::string> used) const {
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const std::string& name = parameters.specs()[i].name;
    if (!name.starts_with(scope)) continue;
    for (const io::MegatronPart& part : parts_of(parameters.specs()[i], spec, prefix)) {
      const std::string file_name = std::string(kParameter) + part.name;
      at::Tensor target = parameters.tensors()[i].narrow(0, part.begin, part.rows);
      const at::Tensor given = reordered(tensor(file_name), name, spec, false);
      if (given.sizes() != target.sizes()) {
        throw ShapeError(fmt::format("[probe] {} has {} elements in {} axes, allowed shape {}",
                                     file_name, given.numel(), given.dim(),
                                     Json(target.sizes().vec()).dump()));
      }
      target.copy_(given);
      used.insert(file_name);
    }
  }
  check_surplus(used);
}

void ProbeInput::add_gradients(ProbeOutput& out, const nn::Parameters& parameters,
                               const spec::ModelSpec& spec, const std::string& scope,
                               const std::string& prefix) const {
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const std::string& name = parameters.specs()[i].name;
    const at::Tensor& grad = parameters.tensors()[i].grad();
    if (!name.starts_with(scope) || !grad.defined()) continue;
    for (const io::MegatronPart& part : parts_of(parameters.specs()[i], spec, prefix)) {
      out["grad." + part.name] = reordered(grad.narrow(0, part.begin, part.rows), name, spec, true);
    }
  }
}

void ProbeInput::refuse(const std::vector<std::string>& names, const std::string& why) const {
  for (const std::string& name : names) {
    if (has(name)) throw UnsupportedError("[probe] tensor " + name + ": " + why);
  }
}

namespace {

struct Module {
  std::string_view name;
  ProbeOutput (*run)(const ProbeInput&);  // null: named by the design, not in this build
};

/// In the design's order.
constexpr auto kModules = std::to_array<Module>({
    {"self_attention", probe_attention},
    {"cross_attention", probe_cross_attention},
    {"gpt_model", probe_gpt},
    {"gated_delta_rule", probe_gated_delta_rule},
    {"causal_conv1d", probe_causal_conv1d},
    {"gated_rms_norm", probe_gated_rms_norm},
    {"gated_delta_net", probe_gated_delta_net},
    {"mla", probe_mla},
    {"dsa", probe_dsa},
    {"router", probe_router},
    {"moe_layer", probe_moe_layer},
    {"qk_clip", probe_qk_clip},
    {"rope", probe_rope},
    {"static_cache", probe_static_cache},
});

}  // namespace

std::string probe_modules() {
  std::vector<std::string> names;
  for (const Module& module : kModules) {
    if (module.run != nullptr) names.emplace_back(module.name);
  }
  return join(names, " | ");
}

std::map<std::string, at::Tensor> probe(const ProbeRequest& request) {
  const auto module = std::find_if(kModules.begin(), kModules.end(), [&](const Module& candidate) {
    return candidate.name == request.module;
  });
  if (module == kModules.end()) {
    throw ConfigError("[probe] module = '" + shorten(request.module) + "', allowed " +
                      probe_modules());
  }
  if (module->run == nullptr) {
    throw UnsupportedError("[probe] module = " + request.module + ": not in this build; allowed " +
                           probe_modules());
  }
  const ProbeInput input(request);
  ProbeOutput out = module->run(input);
  for (auto& [name, tensor] : out) tensor = tensor.detach().contiguous();
  return out;
}

}  // namespace headway::engine
