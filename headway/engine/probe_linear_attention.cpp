// The operators of linear attention on given tensors, batch first: q [B,S,heads,dim], x [B,S,C].
// Options stand in the metadata (l2norm, scale, eps, op) or in config under the same names.
// Legend: B batch, S sequence, T = B·S packed tokens, C channels, W taps.
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/engine/probe_input.h"
#include "headway/ops/causal_conv.h"
#include "headway/ops/delta_rule.h"
#include "headway/ops/gated_norm.h"

namespace headway::engine {
namespace {

/// Inputs as leaves, and their gradients by the cotangents d_<output> of the file, as d<input>; in
/// Megatron's layout the outputs come as one row, with one cotangent, and gradients as grad_in.*.
class OpProbe {
 public:
  explicit OpProbe(const ProbeInput& input) : input_(input) {}

  bool has(const std::string& name) const { return input_.has(name); }

  at::Tensor leaf(const std::string& name, int64_t dims) {
    const at::Tensor x = input_.tensor(name);
    if (x.dim() != dims || !x.is_floating_point()) {
      throw ShapeError("[probe] " + name + " has " + std::to_string(x.dim()) + " axes, allowed " +
                       std::to_string(dims) + " of floating numbers");
    }
    leaves_[name] = x.detach().clone().set_requires_grad(true);
    return leaves_[name];
  }

  void output(const std::string& name, const at::Tensor& value) {
    names_.push_back(name);
    outputs_[name] = value;
  }

  /// All outputs, and gradients where cotangents are given.
  ProbeOutput finish() {
    ProbeOutput out = outputs_;
    at::Tensor total;
    const bool joined = input_.has("cotangent");
    if (joined) {
      std::vector<at::Tensor> parts;
      for (const std::string& name : names_) parts.push_back(outputs_[name].flatten());
      const at::Tensor row = parts.size() == 1 ? outputs_[names_[0]] : at::cat(parts);
      total = (row * cotangent("cotangent", row)).sum();
      out["out"] = row;
      if (parts.size() > 1) out["o"] = outputs_["out"];
    }
    for (const std::string& name : names_) {
      if (!input_.has("d_" + name)) continue;
      const at::Tensor part = (outputs_[name] * cotangent("d_" + name, outputs_[name])).sum();
      total = total.defined() ? total + part : part;
    }
    if (!total.defined()) return out;
    total.backward();
    for (const auto& [name, leaf] : leaves_) {
      if (leaf.grad().defined()) out[(joined ? "grad_in." : "d") + name] = leaf.grad();
    }
    return out;
  }

 private:
  at::Tensor cotangent(const std::string& name, const at::Tensor& of) const {
    const at::Tensor given = input_.tensor(name).to(of.scalar_type());
    if (given.sizes() != of.sizes()) {
      throw ShapeError("[probe] " + name + ": allowed the shape of what it belongs to");
    }
    return given;
  }

  const ProbeInput& input_;
  std::map<std::string, at::Tensor> leaves_;
  std::vector<std::string> names_;
  ProbeOutput outputs_;
};

/// An option of the operator: config first, then the metadata's own key; null when absent.
Json option(const ProbeInput& input, const std::string& key) {
  const Json config = input.config_or_empty();
  if (config.contains(key)) return config[key];
  const std::string text = input.text(key);
  if (text.empty()) return {};
  const Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return parsed.is_discarded() ? Json(text) : parsed;
}

double number(const ProbeInput& input, const std::string& key, double preset) {
  const Json given = option(input, key);
  if (given.is_null()) return preset;
  if (!given.is_number()) {
    throw ConfigError("[probe] " + key + " = " + json_summary(given) + ", allowed a number");
  }
  return given.get<double>();
}

bool truth(const ProbeInput& input, const std::string& key, bool preset) {
  const Json given = option(input, key);
  if (given.is_null()) return preset;
  if (given.is_boolean()) return given.get<bool>();
  if (given.is_number_integer() && (given == 0 || given == 1)) return given == 1;
  throw ConfigError("[probe] " + key + " = " + json_summary(given) + ", allowed true | false");
}

/// One of the words of a table, or the first.
template <class Enum>
Enum word(const ProbeInput& input, const std::string& key,
          const std::vector<std::pair<std::string, Enum>>& words) {
  const Json given = option(input, key);
  if (given.is_null()) return words.front().second;
  std::vector<std::string> names;
  for (const auto& [name, value] : words) {
    if (given == name) return value;
    names.push_back(name);
  }
  throw ConfigError("[probe] " + key + " = " + json_summary(given) + ", allowed " +
                    join(names, " | "));
}

}  // namespace

ProbeOutput probe_gated_delta_rule(const ProbeInput& input) {
  OpProbe probe(input);
  const at::Tensor q = probe.leaf("q", 4), k = probe.leaf("k", 4), v = probe.leaf("v", 4);
  const at::Tensor given = input.tensor("g");
  const at::Tensor g = probe.leaf("g", given.dim() == 4 ? 4 : 3), beta = probe.leaf("beta", 3);
  at::Tensor initial;
  if (probe.has("initial_state")) initial = probe.leaf("initial_state", 4);
  ops::DeltaRuleOptions options;
  options.l2_norm = truth(input, "l2norm", truth(input, "l2", true));  // upstream's default
  options.l2_eps = number(input, "eps", 1e-6);
  options.scale = number(input, "scale", 1 / std::sqrt(static_cast<double>(q.size(3))));
  const int64_t batch = q.size(0), length = q.size(1);
  const at::ScalarType state_type = input.dtype() == at::kDouble ? at::kDouble : at::kFloat;
  ops::DeltaRuleInputs in{q.flatten(0, 1), k.flatten(0, 1),    v.flatten(0, 1),
                          g.flatten(0, 1), beta.flatten(0, 1), {}};
  if (initial.defined()) in.initial_state_NHKV = initial.to(state_type);
  const auto result = ops::gated_delta_rule(in, ops::equal_sequences(batch, length), options);
  probe.output("out", result.out_THV.unflatten(0, {batch, length}));
  probe.output("final_state", result.final_state_NHKV.to(input.dtype()));
  return probe.finish();
}

ProbeOutput probe_causal_conv1d(const ProbeInput& input) {
  OpProbe probe(input);
  const at::Tensor x = probe.leaf("x", 3), weight = probe.leaf("weight", 3);
  if (weight.size(1) != 1) {
    throw ShapeError("[probe] weight: allowed [channels, 1, taps]");
  }
  ops::CausalConvInputs in{x.flatten(0, 1), weight.squeeze(1), {}, {}};
  if (probe.has("bias")) in.bias_C = probe.leaf("bias", 1);
  if (probe.has("initial_state")) {
    in.initial_state_NPC = probe.leaf("initial_state", 3).transpose(1, 2);
  }
  const auto activation = word<ops::ConvActivation>(
      input, "activation",
      {{"silu", ops::ConvActivation::kSilu}, {"none", ops::ConvActivation::kNone}});
  const int64_t batch = x.size(0), length = x.size(1);
  const auto result = ops::causal_conv1d(in, ops::equal_sequences(batch, length), activation);
  probe.output("out", result.out_TC.unflatten(0, {batch, length}));
  probe.output("final_state", result.final_state_NPC.transpose(1, 2));
  return probe.finish();
}

ProbeOutput probe_gated_rms_norm(const ProbeInput& input) {
  OpProbe probe(input);
  const int64_t dims = input.tensor("x").dim();
  const at::Tensor x = probe.leaf("x", dims), z = probe.leaf("z", dims);
  const at::Tensor weight = probe.leaf("weight", 1);
  ops::GatedNormOptions options;
  options.eps = number(input, "eps", 1e-6);
  options.gate = word<ops::NormGate>(input, "op",
                                     {{"gated_rmsnorm_silu", ops::NormGate::kSilu},
                                      {"gated_rmsnorm_sigmoid", ops::NormGate::kSigmoid}});
  if (truth(input, "zero_centered", false)) options.flavour = ops::NormFlavour::kZeroCentered;
  probe.output("out", ops::gated_rms_norm(x, z, weight, options));
  return probe.finish();
}

}  // namespace headway::engine
