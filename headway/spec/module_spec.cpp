// Look-up and JSON of module specs. Not for: building them (block_spec.cpp).
#include "headway/spec/module_spec.h"

namespace headway::spec {

const ModuleSpec* ModuleSpec::find(const std::string& name) const {
  for (const auto& [key, module] : submodules) {
    if (key == name) return module.get();
  }
  return nullptr;
}

SharedModule plain_module(std::string name) {
  ModuleSpec spec;
  spec.module = std::move(name);
  return std::make_shared<const ModuleSpec>(std::move(spec));
}

Json module_json(const ModuleSpec& spec) {
  const bool bare = !spec.partial && spec.params.empty() && spec.metainfo.empty();
  if (bare && spec.submodules.empty()) return spec.module;
  Json json;
  json[spec.partial ? "partial" : "class"] = spec.module;
  if (!spec.params.empty()) json["params"] = spec.params;
  if (!spec.metainfo.empty()) json["metainfo"] = spec.metainfo;
  for (const auto& [name, module] : spec.submodules)
    json["submodules"][name] = module_json(*module);
  return json;
}

}  // namespace headway::spec
