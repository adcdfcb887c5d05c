// Megatron's GatedDeltaNet with the norm fused in front of it: hidden [s,b,h] in and out.
// Legend: S sequence, B batch, D hidden, T = B·S packed tokens.
#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/engine/probe_input.h"
#include "headway/io/megatron_layout.h"
#include "headway/nn/gated_delta_net.h"
#include "headway/nn/norm.h"

namespace headway::engine {
namespace {

constexpr const char* kMixer = "layers.0.mixer.";
constexpr const char* kNorm = "layers.0.pre_mixer_norm.";
constexpr io::MegatronForm kForm{.linear = true};
constexpr const char* kPrefix = "decoder.layers.0.self_attention.";

/// The smallest model that holds this mixer: Parameters are allocated for models.
spec::ModelSpec around(const spec::MegatronConfig& config, bool conv_bias) {
  spec::MegatronConfig one = config;
  one.num_layers = 1;
  one.linear_attention_freq = Json::array({1});
  one.experimental_attention_variant = "gated_delta_net";
  one.vocab_size = 1;
  spec::ModelSpec model = spec::megatron_model(one);
  std::get<spec::GatedDeltaNetSpec>(model.layers[0].mixer).conv_bias = conv_bias;
  return model;
}

/// The file's names of all parameters below the mixer and its norm.
std::set<std::string> names_of(const nn::Parameters& parameters) {
  std::set<std::string> names;
  const std::string prefix = kPrefix;
  for (const spec::TensorSpec& tensor : parameters.specs()) {
    if (tensor.name.starts_with(kMixer)) {
      names.insert("param." + io::megatron_name(tensor.name, kForm).substr(prefix.size()));
    } else if (tensor.name.starts_with(kNorm)) {
      names.insert("param." + io::megatron_fused_name(tensor.name, kForm).substr(prefix.size()));
    }
  }
  return names;
}

}  // namespace

ProbeOutput probe_gated_delta_net(const ProbeInput& input) {
  const spec::MegatronConfig config = spec::read_megatron(input.arguments(), "config");
  const spec::ModelSpec model = around(config, input.has("param.conv1d.bias"));
  input.refuse({"attention_mask"}, "masks given as tensors are not in this build");
  const at::Tensor hidden = input.tensor("hidden_states").detach().clone().set_requires_grad(true);
  if (hidden.dim() != 3 || hidden.size(2) != config.hidden_size || hidden.numel() == 0) {
    throw ShapeError("[probe] hidden_states: allowed [sequence, batch, hidden_size (= " +
                     std::to_string(config.hidden_size) + ")]");
  }
  nn::Parameters parameters(model, input.dtype(), at::kCPU);
  const std::set<std::string> names = names_of(parameters);
  input.load(parameters, model, kMixer, kPrefix, names);
  input.load(parameters, model, kNorm, kPrefix, names);
  const nn::GatedDeltaNet mixer(std::get<spec::GatedDeltaNetSpec>(model.layers[0].mixer),
                                nn::ParameterScope(parameters, kMixer));
  const auto norm = nn::make_norm(model.layers[0].pre_mixer_norm,
                                  nn::ParameterScope(parameters, "layers.0."), "pre_mixer_norm");

  const int64_t length = hidden.size(0), batch = hidden.size(1);
  const at::Tensor packed_TD = hidden.transpose(0, 1).reshape({batch * length, -1});
  const at::Tensor normed_TD = norm ? norm->forward(packed_TD) : packed_TD;
  const at::Tensor out_TD = mixer.forward({normed_TD, ops::equal_sequences(batch, length)}).out_TD;
  ProbeOutput out;
  out["out"] = out_TD.unflatten(0, {batch, length}).transpose(0, 1);
  const at::Tensor cotangent = input.cotangent(out["out"]);
  if (!cotangent.defined()) return out;
  out["out"].backward(cotangent);
  out["grad_in"] = hidden.grad();
  input.add_gradients(out, parameters, model, kMixer, kPrefix);
  input.add_gradients(out, parameters, model, kNorm, kPrefix);
  return out;
}

}  // namespace headway::engine
