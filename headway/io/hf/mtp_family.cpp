// See mtp_family.h. Not for: single families.
#include "headway/io/hf/mtp_family.h"

#include <string>

#include "headway/spec/tensor_inventory.h"

namespace headway::io {
namespace {

constexpr std::string_view kAnyLayer = "model.layers.{}.";
constexpr std::string_view kMtpLayer = "mtp.layers.0.";

/// A rule of all layers as that of the layer whose native names begin with `scope`.
MapRule in_scope(MapRule rule, const std::string& scope) {
  for (std::string& name : rule.native) name.replace(0, kAnyLayer.size(), scope);
  for (std::string& name : rule.disk) name.replace(0, kAnyLayer.size(), kMtpLayer);
  return rule;
}

}  // namespace

void split_mtp(spec::ModelSpec& model, size_t count) {
  if (count == 0) return;
  spec::MtpSpec& mtp = model.mtp.emplace();
  const auto first = model.layers.end() - static_cast<std::ptrdiff_t>(count);
  mtp.layers.assign(first, model.layers.end());
  model.layers.erase(first, model.layers.end());
  mtp.embedding_norm = mtp.hidden_norm = mtp.final_norm = model.head.final_norm;
}

size_t read_one_mtp_layer(ConfigReader& config, std::string_view key) {
  return static_cast<size_t>(config.integer(key, {0, 1}, 0));
}

std::vector<Rule> with_mtp_scope(const spec::ModelSpec& spec, const std::vector<Rule>& rules) {
  if (!spec.mtp) {
    std::vector<Rule> all = rules;
    all.push_back(IgnoreRule{"mtp.*", "the config counts no next-token layer"});
    return all;
  }
  const auto index = static_cast<int64_t>(spec.layers.size());
  const std::string scope = "model.layers." + std::to_string(index) + ".";
  std::vector<Rule> all = {MapRule{{scope + "enorm.weight"}, {"mtp.pre_fc_norm_embedding.weight"}},
                           MapRule{{scope + "hnorm.weight"}, {"mtp.pre_fc_norm_hidden.weight"}},
                           MapRule{{scope + "eh_proj.weight"}, {"mtp.fc.weight"}},
                           MapRule{{scope + "shared_head.norm.weight"}, {"mtp.norm.weight"}}};
  for (const Rule& rule : rules) {
    const auto* map = std::get_if<MapRule>(&rule);
    if (map != nullptr && map->native.front().starts_with(kAnyLayer)) {
      all.push_back(in_scope(*map, scope));
    }
  }
  for (const spec::TensorSpec& tensor : spec::layer_tensors(spec, index)) {
    for (const spec::RowSegment& segment : tensor.segments) {
      const std::string rest = segment.disk_name.substr(scope.size());
      all.push_back(MapRule{{segment.disk_name}, {std::string(kMtpLayer) + rest}});
    }
  }
  all.insert(all.end(), rules.begin(), rules.end());
  return all;
}

}  // namespace headway::io
