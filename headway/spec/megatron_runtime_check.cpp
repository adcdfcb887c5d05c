// Rules of Megatron arguments about how a model would be spread, and what it would recompute.
// Not for: refusing what this build lacks (megatron_check.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/spec/megatron_check.h"

namespace headway::spec {
namespace {

class RuntimeChecker {
 public:
  RuntimeChecker(const MegatronConfig& config, const std::string& path, Problems& problems)
      : c_(config), path_(path), problems_(problems) {}

  void run() {
    check_context_parallel();
    check_recompute();
  }

 private:
  void problem(std::string_view field, const std::string& text) {
    problems_.add(join_path(path_, field), text);
  }

  void check_context_parallel() {  // V21-V25, V30
    static const std::vector<std::string> kKinds = {"p2p", "all_gather", "a2a", "a2a+p2p"};
    std::vector<Json> kinds;
    const Json& given = c_.cp_comm_type;
    if (given.is_array()) kinds.assign(given.begin(), given.end());
    if (given.is_array() && static_cast<int64_t>(given.size()) != c_.num_layers) {
      problem("cp_comm_type", fmt::format("cp_comm_type length ({}) must equal num_layers ({})",
                                          given.size(), c_.num_layers));
    } else if (!given.is_null() && !given.is_array()) {
      kinds.push_back(given);
    }
    bool hierarchical = false;
    bool gathers = true;
    for (const Json& kind : kinds) {
      const bool known = kind.is_string() && std::find(kKinds.begin(), kKinds.end(),
                                                       kind.get<std::string>()) != kKinds.end();
      if (!known) {
        problems_.add_value(join_path(path_, "cp_comm_type"), json_summary(kind),
                            "p2p | all_gather | a2a | a2a+p2p, or a list of them");
        return;
      }
      hierarchical = hierarchical || kind == "a2a+p2p";
      gathers = gathers && kind == "all_gather";
    }
    if (hierarchical) check_hierarchy();
    const int64_t ranks = c_.context_parallel_size;
    if (ranks > 1) check_eager(gathers);
    if (c_.batch_invariant_mode && c_.attention_backend != "flash") {
      problem("batch_invariant_mode", fmt::format("batch_invariant_mode = true: allowed only with "
                                                  "attention_backend = flash (= {})",
                                                  shorten(c_.attention_backend)));
    }
  }

  void check_hierarchy() {
    const auto& sizes = c_.hierarchical_context_parallel_sizes;
    double product = 1;  // only compared with a size that is far below 2^53
    if (sizes)
      for (const int64_t size : *sizes) product *= static_cast<double>(size);
    if (sizes && product == static_cast<double>(c_.context_parallel_size)) return;
    problem(
        "hierarchical_context_parallel_sizes",
        fmt::format("hierarchical_context_parallel_sizes = {}: cp_comm_type a2a+p2p needs sizes "
                    "whose product is context_parallel_size (= {})",
                    sizes ? Json(*sizes).dump() : "none", c_.context_parallel_size));
  }

  void check_eager(bool gathers) {
    if (c_.cp_partition_mode == "contiguous") {
      problem(
          "cp_partition_mode",
          fmt::format("cp_partition_mode = contiguous: allowed zigzag for softmax attention with "
                      "context_parallel_size = {}",
                      c_.context_parallel_size));
    }
    if (c_.transformer_impl != "local") return;
    if (!gathers) {
      problem("cp_comm_type", fmt::format("cp_comm_type = {}: allowed all_gather with "
                                          "transformer_impl = local and context_parallel_size = {}",
                                          c_.cp_comm_type.dump(), c_.context_parallel_size));
    }
    if (c_.attention_dropout > 0) {
      problem("attention_dropout",
              fmt::format("attention_dropout = {}: allowed 0 with "
                          "transformer_impl = local and "
                          "context_parallel_size = {}",
                          format_double(c_.attention_dropout), c_.context_parallel_size));
    }
  }

  void check_recompute() {  // V26
    const bool full = c_.recompute_granularity == "full";
    const bool selective = c_.recompute_granularity == "selective";
    if (full && !c_.recompute_method) {
      problem("recompute_method", "missing; recompute_granularity = full needs block | uniform");
    }
    if (full && !c_.recompute_num_layers) {
      problem("recompute_num_layers",
              "missing; recompute_granularity = full needs an integer >= 1");
    }
    if (selective && c_.recompute_num_layers) {
      problem("recompute_num_layers", fmt::format("recompute_num_layers = {}: not allowed with "
                                                  "recompute_granularity = selective",
                                                  *c_.recompute_num_layers));
    }
    const std::vector<std::string> modules =
        c_.recompute_modules.value_or(std::vector<std::string>{});
    const auto recomputes = [&](const char* name) {
      return std::find(modules.begin(), modules.end(), name) != modules.end();
    };
    if (recomputes("mla_up_proj") && !c_.multi_latent_attention) {
      problem("recompute_modules",
              "recompute_modules = mla_up_proj: allowed only with "
              "multi_latent_attention = true (= false)");
    }
    if (recomputes("layernorm") && asks_for(c_.fp8) && c_.fp8_recipe == "delayed") {
      problem("recompute_modules",
              "recompute_modules = layernorm: not allowed with fp8_recipe = delayed");
    }
    if (c_.cpu_offloading && c_.recompute_granularity) {
      problem("cpu_offloading", fmt::format("cpu_offloading = true: not allowed with "
                                            "recompute_granularity = {}",
                                            *c_.recompute_granularity));
    }
  }

  const MegatronConfig& c_;
  const std::string& path_;
  Problems& problems_;
};

}  // namespace

void check_megatron_runtime(const MegatronConfig& config, const std::string& path,
                            Problems& problems) {
  RuntimeChecker(config, path, problems).run();
}

void check_static_decode(const MegatronConfig& config) {
  const std::string graphs = config.cuda_graph_impl.value_or("none");
  const bool local = config.enable_cuda_graph || graphs == "local";
  if (!local || config.flash_decode) return;
  throw ConfigError(fmt::format(
      "[megatron] enable_cuda_graph = {}, cuda_graph_impl = {}, flash_decode = false: CUDA graphs "
      "must use flash decode with static batching",
      config.enable_cuda_graph, shorten(graphs)));
}

}  // namespace headway::spec
