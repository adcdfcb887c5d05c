// Family `step3p5`: refusal of what cannot be built.
// Not for: layers that can (step3p5_read.cpp, step3p5_moe.cpp).
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/hf/step3p5.h"

namespace headway::io::step3p5 {

void refuse_unsupported(ConfigReader& config) {
  const bool has_sink = config.boolean("sink", false);
  const std::string kind = config.text("att_impl_type", "GQA");
  config.throw_if_any();
  std::vector<std::string> features;
  if (has_sink) features.emplace_back("sink = true");
  if (kind != "GQA") features.push_back(fmt::format("att_impl_type = \"{}\"", shorten(kind)));
  if (features.empty()) return;
  throw UnsupportedError(
      fmt::format("[config.json] step3p5 = {}, allowed layers with grouped-query attention",
                  join(features, "; ")));
}

}  // namespace headway::io::step3p5
