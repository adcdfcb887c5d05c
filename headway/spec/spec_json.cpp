// JSON through the field lists of spec_fields.h.
// Not for: rules (validate.cpp).
#include "headway/spec/spec_json.h"

#include "headway/spec/spec_fields.h"

namespace headway::spec {

Json to_json(const ModelSpec& spec) { return write_fields(spec); }

ModelSpec spec_from_json(const Json& json, const std::string& source) {
  Problems problems{Sources(source)};
  ModelSpec spec;
  read_fields(json, "model", spec, problems);
  problems.throw_if_any();
  validate(spec);
  return spec;
}

std::vector<std::string> diff(const ModelSpec& before, const ModelSpec& after) {
  return json_diff(Json{{"model", to_json(before)}}, Json{{"model", to_json(after)}});
}

}  // namespace headway::spec
