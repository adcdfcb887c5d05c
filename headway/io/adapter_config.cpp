// adapter_config.json in and out. Not for: tensors (adapter.cpp).
#include "headway/io/internal/adapter_config.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/enum_table.h"
#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/adapter.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kLimits{.max_bytes = int64_t{1} << 20, .max_depth = 32};

/// Settings that change what an adapter computes and that this build does not apply. Each may be
/// absent, null, false or empty.
constexpr auto kUnapplied = std::to_array<const char*>(
    {"fan_in_fan_out", "modules_to_save", "layer_replication", "trainable_token_indices",
     "lora_bias", "target_parameters", "alora_invocation_tokens", "use_qalora", "use_bdlora",
     "arrow_config", "kasa_config", "velora_config", "monteclora_config"});

bool is_off(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

class Reader {
 public:
  Reader(const fs::path& path, const Json& json) : path_(path.string()), json_(json) {}

  [[noreturn]] void fail(const std::string& key, const std::string& allowed) const {
    const auto found = json_.find(key);
    throw CheckpointError(fmt::format("[{}] {} = {}, allowed {}", path_, key,
                                      found == json_.end() ? "missing" : json_summary(*found),
                                      allowed));
  }

  double positive(const std::string& key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_number()) fail(key, "a number > 0");
    const double value = found->get<double>();
    if (!(value > 0) || !std::isfinite(value)) fail(key, "a number > 0");
    return value;
  }

  int64_t rank() const {
    const double value = positive("r");
    if (value != std::floor(value) || value > config::kMaxRank) {
      fail("r", fmt::format("an integer from 1 to {}", config::kMaxRank));
    }
    return static_cast<int64_t>(value);
  }

  bool flag(const std::string& key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return false;
    if (!found->is_boolean()) fail(key, "true or false");
    return found->get<bool>();
  }

  /// Numbers by module. Keys are regular expressions there; only literal ones are read here.
  std::map<std::string, double> pattern(const std::string& key) const {
    std::map<std::string, double> result;
    const auto found = json_.find(key);
    if (found == json_.end() || is_off(*found)) return result;
    if (!found->is_object()) fail(key, "a mapping of module names to numbers");
    for (const auto& [name, value] : found->items()) {
      if (!value.is_number() || !(value.get<double>() > 0)) fail(key, "numbers > 0");
      if (name.find_first_of("\\^$*+?()[]{}|") != std::string::npos) {
        throw UnsupportedError(fmt::format(
            "[{}] {} key \"{}\" = a regular expression, allowed names", path_, key, shorten(name)));
      }
      result[name] = value.get<double>();
    }
    return result;
  }

  void refuse_unapplied() const {
    const auto type = json_.find("peft_type");
    if (type == json_.end() || *type != "LORA") {
      throw UnsupportedError(fmt::format("[{}] peft_type = {}, allowed LORA", path_,
                                         type == json_.end() ? "missing" : json_summary(*type)));
    }
    for (const char* key : kUnapplied) {
      const auto found = json_.find(key);
      if (found == json_.end() || is_off(*found)) continue;
      throw UnsupportedError(
          fmt::format("[{}] {} = {}, allowed none", path_, key, json_summary(*found)));
    }
    const auto bias = json_.find("bias");
    if (bias != json_.end() && !bias->is_null() && *bias != "none") {
      throw UnsupportedError(
          fmt::format("[{}] bias = {}, allowed none", path_, json_summary(*bias)));
    }
    // Other initialisations change the weights beside the pair.
    const auto init = json_.find("init_lora_weights");
    if (init == json_.end() || init->is_null() || init->is_boolean()) return;
    if (*init == "gaussian" || *init == "orthogonal") return;
    throw UnsupportedError(fmt::format(
        "[{}] init_lora_weights = {}, allowed true | false | gaussian | orthogonal; hint: convert "
        "the adapter to plain LoRA, this one changes the weights it stands beside",
        path_, json_summary(*init)));
  }

  std::string text(const std::string& key) const {
    const auto found = json_.find(key);
    return found != json_.end() && found->is_string() ? found->get<std::string>() : "";
  }

 private:
  std::string path_;
  const Json& json_;
};

/// The number for a module, whole or by the end of its name; otherwise `common`.
double of_module(const std::map<std::string, double>& pattern, const std::string& module,
                 double common) {
  for (const auto& [name, value] : pattern) {
    if (module == name || module.ends_with("." + name)) return value;
  }
  return common;
}

/// Whole numbers as such: PEFT declares them so.
Json number(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? Json(static_cast<int64_t>(value)) : Json(value);
}

}  // namespace

int64_t AdapterConfigFile::rank_of(const std::string& module) const {
  return static_cast<int64_t>(of_module(ranks, module, static_cast<double>(rank)));
}

double AdapterConfigFile::scale_of(const std::string& module) const {
  spec::AdapterSpec own;
  own.rank = rank_of(module);
  own.alpha = of_module(alphas, module, alpha);
  own.rank_stabilized = rank_stabilized;
  return own.scale();
}

AdapterConfigFile open_adapter(const fs::path& folder) {
  const fs::path path = folder / kAdapterConfigName;
  const Json json = parse_json_file(path.string(), JsonErrors::kCheckpoint, kLimits);
  if (!json.is_object()) {
    throw CheckpointError(
        fmt::format("[{}] document = {}, allowed an object", path.string(), json_summary(json)));
  }
  const Reader reader(path, json);
  reader.refuse_unapplied();
  AdapterConfigFile result;
  result.folder = folder;
  result.kind = reader.flag("use_dora") ? spec::AdapterKind::kDora : spec::AdapterKind::kLora;
  result.rank = reader.rank();
  result.alpha = reader.positive("lora_alpha");
  result.rank_stabilized = reader.flag("use_rslora");
  result.ranks = reader.pattern("rank_pattern");
  result.alphas = reader.pattern("alpha_pattern");
  result.base = reader.text("base_model_name_or_path");
  return result;
}

bool is_adapter_folder(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kAdapterConfigName, ignored) &&
         !fs::exists(folder / "config.json", ignored);
}

fs::path adapter_base(const AdapterConfigFile& adapter) {
  std::error_code ignored;
  for (const fs::path& candidate : {adapter.folder / adapter.base, fs::path(adapter.base)}) {
    if (!adapter.base.empty() && fs::exists(candidate / "config.json", ignored)) return candidate;
  }
  throw CheckpointError(fmt::format(
      "[{}] base_model_name_or_path = \"{}\", allowed a folder with config.json; hint: name the "
      "model's folder, and this one with --adapter",
      (adapter.folder / kAdapterConfigName).string(), shorten(adapter.base)));
}

namespace internal {

void write_adapter_config(const fs::path& folder, const AdapterContent& content) {
  const spec::AdapterSpec& adapter = *content.adapter;
  const Json json = {{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", content.base},
                     {"inference_mode", true},
                     {"r", adapter.rank},
                     {"lora_alpha", number(adapter.alpha)},
                     {"lora_dropout", 0.0},
                     {"use_rslora", adapter.rank_stabilized},
                     {"use_dora", adapter.kind == spec::AdapterKind::kDora},
                     {"target_modules", content.targets},
                     {"bias", "none"},
                     {"fan_in_fan_out", false},
                     {"init_lora_weights", true},
                     {"rank_pattern", Json::object()},
                     {"alpha_pattern", Json::object()},
                     {"modules_to_save", nullptr}};
  write_file_atomically((folder / kAdapterConfigName).string(), json.dump(2) + "\n");
}

}  // namespace internal

}  // namespace headway::io
