// Reads the arguments of block specs. Not for: what they build.
#include "headway/spec/block_arguments.h"

#include <algorithm>

#include "headway/base/fields.h"
#include "headway/spec/megatron_fields.h"
#include "headway/spec/pipeline_split.h"

namespace headway::spec {

BlockArguments read_block_arguments(const Json& arguments, const std::string& path) {
  Problems problems;
  BlockArguments read;
  if (!arguments.is_object()) {
    problems.add_value(path, json_summary(arguments), "a mapping of Megatron arguments");
    problems.throw_if_any();
  }
  const std::vector<std::string> own = field_names<BlockArguments>();
  Json taken = Json::object();
  for (const auto& [key, value] : arguments.items()) {
    if (std::find(own.begin(), own.end(), key) != own.end()) {
      taken[key] = value;
    } else {
      check_megatron_name(key, path, problems);
    }
  }
  read_fields(taken, path, read, problems);
  if (problems.empty()) check_pipeline(read, path, problems);
  problems.throw_if_any();
  return read;
}

}  // namespace headway::spec
