// The rules of a model config that concern more than one field.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/base/fields.h"
#include "headway/base/text_util.h"
#include "headway/config/load.h"
#include "headway/config/part_checks.h"
#include "headway/config/stack.h"

namespace headway::config {

bool gate_bias_of(const AttentionConfig& attention) {
  if (attention.gate_bias) return *attention.gate_bias;
  if (attention.gate.kind == GateKind::kNone) return false;
  return attention.qkv_bias || attention.gate.init == GateInit::kConstant;
}

HeadNorm q_norm_of(const AttentionConfig& attention) {
  return attention.q_norm.value_or(attention.qk_norm ? HeadNorm::kLearned : HeadNorm::kOff);
}

HeadNorm k_norm_of(const AttentionConfig& attention) {
  return attention.k_norm.value_or(attention.qk_norm ? HeadNorm::kLearned : HeadNorm::kOff);
}

NormConfig norm_of(const NormsConfig& model, const NormsOverride& block) {
  NormConfig norm;
  norm.kind = block.kind.value_or(model.kind);
  norm.weight = block.weight.value_or(model.weight);
  norm.eps = block.eps.value_or(model.eps);
  norm.bias = block.bias.value_or(model.bias);
  return norm;
}

std::vector<std::string> layer_blocks(const ModelConfig& model) {
  if (!model.layers.empty()) return model.layers;
  std::vector<std::string> pattern = model.pattern;
  if (pattern.empty() && model.blocks.size() == 1) pattern = {model.blocks.begin()->first};
  std::vector<std::string> names;
  if (pattern.empty()) return names;
  const int64_t count = model.num_layers.value_or(0);
  for (int64_t i = 0; i < count; ++i) names.push_back(pattern[i % pattern.size()]);
  return names;
}

std::vector<std::string> mtp_blocks(const ModelConfig& model) {
  if (!model.mtp) return {};
  const std::vector<std::string> stack = layer_blocks(model);
  if (!model.mtp->block && stack.empty()) return {};
  std::string name = model.mtp->block ? *model.mtp->block : stack.back();
  const auto attends = [&](const std::string& block) {
    const auto found = model.blocks.find(block);
    return found != model.blocks.end() && found->second.attention.has_value();
  };
  if (!model.mtp->block) {
    const auto last = std::find_if(stack.rbegin(), stack.rend(), attends);
    if (last != stack.rend()) name = *last;
  }
  return std::vector<std::string>(static_cast<size_t>(std::max<int64_t>(model.mtp->depths, 0)),
                                  name);
}

namespace {

class ModelChecker {
 public:
  ModelChecker(const ModelConfig& model, std::string path, Problems& problems)
      : model_(model), path_(std::move(path)), problems_(problems) {}

  void run() {
    if (model_.adapter && !model_.hf) {
      problems_.add(at("adapter"), "not allowed without hf: it stands beside weights that exist");
    }
    const bool elsewhere = model_.hf.has_value() || !model_.megatron.is_null();
    if (elsewhere) {
      check_front_door();
      return;
    }
    if (!model_.hidden_size) missing("hidden_size", "an integer >= 1");
    if (model_.blocks.empty()) missing("blocks", "a mapping of names, each to a mapping");
    NormConfig final_norm = norm_of(model_.norms, {});
    check_norm(final_norm, at("norms"), problems_);
    for (const auto& [name, block] : model_.blocks) check_block(name, block);
    check_stack();
    check_bases();
  }

 private:
  std::string at(std::string_view name) const { return join_path(path_, name); }

  void missing(std::string_view name, std::string_view allowed) {
    if (problems_.touches(at(name))) return;
    problems_.add(at(name), fmt::format("missing; allowed {}", allowed));
  }

  // A model that comes from elsewhere describes no stack of its own.
  void check_front_door() {
    const std::string door = model_.hf ? "hf" : "megatron";
    if (model_.hf && !model_.megatron.is_null()) {
      problems_.add(at("megatron"), "not allowed beside hf");
    }
    if (!model_.megatron.is_null() && !model_.megatron.is_object()) {
      problems_.add_value(at("megatron"), json_summary(model_.megatron), "a mapping");
    }
    const auto forbid = [&](bool given, std::string_view name) {
      if (given) problems_.add(at(name), fmt::format("not allowed beside {}", door));
    };
    forbid(model_.hidden_size.has_value(), "hidden_size");
    forbid(!model_.blocks.empty(), "blocks");
    forbid(!model_.pattern.empty(), "pattern");
    forbid(!model_.layers.empty(), "layers");
    forbid(model_.num_layers.has_value(), "num_layers");
    forbid(model_.rotary_base_per_layer.has_value(), "rotary_base_per_layer");
    forbid(model_.mtp.has_value(), "mtp");
  }

  void check_block(const std::string& name, const BlockConfig& block) {
    const std::string path = join_path(at("blocks"), name);
    const bool sound_name = !name.empty() && name.find_first_of(".[]= \t\n") == std::string::npos &&
                            name.size() <= 64 && !find_invalid_utf8(name);
    if (!sound_name) {
      problems_.add(
          path, "block name not allowed; allowed up to 64 characters without . [ ] = or blanks");
    }
    if (block.norms != NormsOverride{}) {
      check_norm(norm_of(model_.norms, block.norms), path + ".norms", problems_);
    }
    check_mixer(block, path);
    check_feed_forward(block, path);
  }

  /// One feed-forward part a block.
  void check_feed_forward(const BlockConfig& block, const std::string& path) {
    if (block.mlp) check_mlp(*block.mlp, path + ".mlp", problems_);
    if (block.moe) check_moe(*block.moe, path + ".moe", problems_);
    if (block.mlp && block.moe && !block.hybrid) {
      problems_.add(path + ".moe", "not allowed beside mlp; hint: hybrid computes both");
    }
    if (block.hybrid && !(block.mlp && block.moe)) {
      problems_.add(path + ".hybrid", "only with both mlp and moe");
    }
    if (block.per_layer_input.value_or(false) && !model_.per_layer_embedding) {
      problems_.add_value(path + ".per_layer_input", "true", "only with model.per_layer_embedding");
    }
    const bool silent = problems_.touches(path + ".mlp") || problems_.touches(path + ".moe");
    if (!block.mlp && !block.moe && !silent) {
      problems_.add(path + ".mlp", "missing; allowed a mapping, here or as moe");
    }
  }

  /// One mixer a block.
  void check_mixer(const BlockConfig& block, const std::string& path) {
    const std::string attention = path + ".attention", delta = path + ".gated_delta_net";
    const std::string latent = path + ".latent_attention";
    if (block.attention) check_attention(*block.attention, attention);
    if (block.gated_delta_net) check_gated_delta_net(*block.gated_delta_net, delta, problems_);
    if (block.latent_attention) check_latent(*block.latent_attention, latent);
    std::string first = block.attention ? "attention" : "";
    const auto check_other = [&](bool given, const std::string& name) {
      if (!given) return;
      if (!first.empty()) problems_.add(join_path(path, name), "not allowed beside " + first);
      if (first.empty()) first = name;
    };
    check_other(block.gated_delta_net.has_value(), "gated_delta_net");
    check_other(block.latent_attention.has_value(), "latent_attention");
    if (!first.empty()) return;
    for (const std::string& at : {attention, delta, latent}) {
      if (problems_.touches(at)) return;
    }
    problems_.add(attention,
                  "missing; allowed a mapping, here or as gated_delta_net or latent_attention");
  }

  void check_latent(const LatentAttentionConfig& mixer, const std::string& path) {
    if (mixer.rope) check_unused_rope_fields(*mixer.rope, path + ".rope", problems_);
    check_latent_attention(mixer, path, problems_);
  }

  void check_attention(const AttentionConfig& attention, const std::string& path) {
    check_gate(attention.gate, gate_bias_of(attention), path, problems_);
    check_mask(attention.mask, attention.window_ahead, path, problems_);
    check_spans(attention.bidirectional_spans, attention.mask, path, problems_);
    if (attention.qk_norm_across_heads && q_norm_of(attention) == HeadNorm::kOff &&
        k_norm_of(attention) == HeadNorm::kOff) {
      problems_.add_value(path + ".qk_norm_across_heads", "true", "only with qk_norm");
    }
    if (attention.rope) check_unused_rope_fields(*attention.rope, path + ".rope", problems_);
    const bool derived = !attention.head_dim && attention.num_heads > 0 && model_.hidden_size;
    if (derived && *model_.hidden_size % attention.num_heads != 0) {
      problems_.add(path + ".head_dim",
                    fmt::format("missing; hidden_size (= {}) is not a multiple of num_heads (= {})",
                                *model_.hidden_size, attention.num_heads));
    }
    const bool known = attention.head_dim || derived;
    if (!known || problems_.touches(path + ".head_dim")) return;
    const int64_t head_dim =
        attention.head_dim.value_or(derived ? *model_.hidden_size / attention.num_heads : 0);
    if (attention.rope) check_rope(*attention.rope, head_dim, path + ".rope", problems_);
    check_shared_key_value(attention.shared_key_value, head_dim,
                           attention.v_head_dim.value_or(head_dim), path, problems_);
  }

  void check_name(const std::string& name, const std::string& path) {
    if (model_.blocks.contains(name)) return;
    std::vector<std::string> defined;
    for (const auto& [known, block] : model_.blocks) defined.push_back(known);
    field_io::report_unknown_name(path, Json(name), "a block name (" + join(defined, " | ") + ")",
                                  defined, problems_);
  }

  void check_names(const std::vector<std::string>& names, const std::string& path) {
    for (size_t i = 0; i < names.size(); ++i) check_name(names[i], index_path(path, i));
  }

  void check_stack() {
    if (model_.blocks.empty()) return;
    const bool listed = !model_.layers.empty();
    if (listed && !model_.pattern.empty()) {
      problems_.add(at("pattern"), "not allowed beside layers");
    }
    if (listed && model_.num_layers && *model_.num_layers != int64_t(model_.layers.size())) {
      problems_.add_value(at("num_layers"), std::to_string(*model_.num_layers),
                          fmt::format("the length of layers (= {})", model_.layers.size()));
    }
    if (model_.layers.size() > size_t(kMaxLayers)) {
      problems_.add_value(at("layers"), fmt::format("{} layers", model_.layers.size()),
                          fmt::format("at most {}", kMaxLayers));
    }
    if (!listed) {
      if (!model_.num_layers) missing("num_layers", "an integer >= 1 (or a list `layers`)");
      if (model_.pattern.empty() && model_.blocks.size() > 1) {
        missing("pattern", "a list of block names (or a list `layers`)");
      }
    }
    check_kv_sources();
    check_names(model_.pattern, at("pattern"));
    check_names(model_.layers, at("layers"));
    if (model_.mtp && model_.mtp->block) check_name(*model_.mtp->block, at("mtp.block"));
    check_unused();
  }

  void check_kv_sources() {
    if (!model_.kv_source_per_layer) return;
    const size_t layers = layer_blocks(model_).size(), given = model_.kv_source_per_layer->size();
    if (model_.num_kv_shared_layers > 0) {
      problems_.add(at("kv_source_per_layer"), "not allowed beside num_kv_shared_layers");
    }
    if (given != layers && !problems_.touches(at("num_layers"))) {
      problems_.add_value(at("kv_source_per_layer"), fmt::format("{} entries", given),
                          fmt::format("one a layer (= {})", layers));
    }
  }

  void check_unused() {
    if (model_.blocks.size() == 1 && model_.pattern.empty() && model_.layers.empty()) return;
    std::set<std::string> used(model_.pattern.begin(), model_.pattern.end());
    used.insert(model_.layers.begin(), model_.layers.end());
    if (used.empty()) return;
    if (model_.mtp && model_.mtp->block) used.insert(*model_.mtp->block);
    for (const auto& [name, block] : model_.blocks) {
      if (used.contains(name)) continue;
      problems_.add(join_path(at("blocks"), name),
                    fmt::format("defined but not used by {}; used are {}",
                                model_.layers.empty() ? "pattern" : "layers",
                                join({used.begin(), used.end()}, " | ")));
    }
  }

  void check_bases() {
    if (!model_.rotary_base_per_layer) return;
    const std::string path = at("rotary_base_per_layer");
    for (const std::string_view other : {"pattern", "layers", "num_layers", "mtp"}) {
      if (problems_.touches(at(other))) return;
    }
    if (problems_.touches(path)) return;
    const auto& bases = *model_.rotary_base_per_layer;
    std::vector<std::string> names = layer_blocks(model_);
    const std::vector<std::string> further = mtp_blocks(model_);
    names.insert(names.end(), further.begin(), further.end());
    check_base_count(bases.size(), names.size(), path, problems_);
    for (size_t i = 0; i < std::min(bases.size(), names.size()); ++i) {
      const auto block = model_.blocks.find(names[i]);
      if (block == model_.blocks.end()) continue;
      const auto& attention = block->second.attention;
      const bool rotates = attention && attention->rope;
      if (rotates && !bases[i]) {
        problems_.add_value(
            index_path(path, i), "null",
            fmt::format("a number > 0: layer {} (block {}) has rotary positions", i, names[i]));
      }
      if (!rotates && bases[i]) problems_.add(index_path(path, i), no_base_text(i, names[i]));
    }
  }

  const ModelConfig& model_;
  std::string path_;
  Problems& problems_;
};

}  // namespace

void check_model_rules(const ModelConfig& model, const std::string& path, Problems& problems) {
  ModelChecker(model, path, problems).run();
}

void check_model(const ModelConfig& model, const std::string& path, Problems& problems) {
  check_fields(model, path, problems);
  check_model_rules(model, path, problems);
}

}  // namespace headway::config
