// See checkpoint.h. Not for: manifests and side files (manifest.cpp).
#include "headway/io/checkpoint.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/base/text_util.h"
#include "headway/io/quantization.h"
#include "headway/io/shards.h"
#include "headway/io/staged_folder.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

/// Configs are small; the ordered DOM looks keys up one by one.
constexpr JsonLimits kConfigLimits{.max_bytes = int64_t{1} << 20, .max_depth = 64};

Json parse_config(const fs::path& path) {
  Json config = parse_json_file(path.string(), JsonErrors::kCheckpoint, kConfigLimits);
  if (!config.is_object()) {
    throw ConfigError(
        fmt::format("[{}] document = {}, allowed an object", path.string(), json_summary(config)));
  }
  return config;
}

const Family& family_of(const Json& config, const fs::path& path) {
  const auto type = config.find("model_type");
  if (type == config.end() || !type->is_string()) {
    throw ConfigError(fmt::format("[{}] model_type = {}, allowed the name of a family",
                                  path.string(),
                                  type == config.end() ? "missing" : json_summary(*type)));
  }
  return find_family(type->get<std::string>());
}

/// Ids as one number, a list, or nothing. Numbers out of range are problems.
std::vector<int64_t> read_ids(ConfigReader& config, std::string_view key, int64_t vocab_size) {
  const Json* value = config.find(key);
  if (value == nullptr) return {};
  std::vector<int64_t> ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    if (!item.is_number_integer() || item.get<int64_t>() >= vocab_size) {
      config.problem(key, fmt::format("token ids below the vocabulary size {}", vocab_size));
      return {};
    }
    if (item.get<int64_t>() >= 0) ids.push_back(item.get<int64_t>());  // negative = none
  }
  return ids;
}

void read_generation(const Json& json, const fs::path& path, int64_t vocab_size,
                     GenerationConfig& result) {
  ConfigReader reader(json, path.string());
  const auto first = [&](std::string_view key, std::optional<int64_t>& slot) {
    if (const auto ids = read_ids(reader, key, vocab_size); !ids.empty()) slot = ids.front();
  };
  if (const auto ids = read_ids(reader, "eos_token_id", vocab_size); !ids.empty()) {
    result.eos_token_ids = ids;
  }
  first("bos_token_id", result.bos_token_id);
  first("pad_token_id", result.pad_token_id);
  reader.throw_if_any();
}

void read_origin(Checkpoint& checkpoint) {
  const auto source = checkpoint.config.find("source");
  if (source == checkpoint.config.end() || !source->is_object()) return;
  const auto family = source->find("family");
  const auto config = source->find("config");
  if (family == source->end() || !family->is_string() || config == source->end() ||
      !config->is_object())
    return;
  checkpoint.origin = Origin{family->get<std::string>(), *config};
}

void check_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw CheckpointError(
        fmt::format("[{}] folder = missing, allowed a checkpoint folder", folder.string()));
  }
  if (fs::exists(folder / kManifestName, error) && !is_complete(folder)) {
    throw CheckpointError(
        fmt::format("[{}] files = not those that {} lists; hint: the folder was cut off or changed",
                    folder.string(), kManifestName));
  }
}

/// Floating parameters must all be there with the shapes of the inventory.
void check_parameters(const spec::ModelSpec& spec,
                      const std::map<std::string, at::Tensor>& parameters) {
  for (const spec::TensorSpec& tensor : spec::tensors(spec)) {
    const auto found = parameters.find(tensor.name);
    if (found == parameters.end()) {
      throw InternalError(fmt::format("[checkpoint] parameter {} = missing", tensor.name));
    }
    if (found->second.sizes() != tensor.shape) {
      throw InternalError(fmt::format("[checkpoint] parameter {} = {}, allowed {}", tensor.name,
                                      shape_text(found->second.sizes()), shape_text(tensor.shape)));
    }
  }
}

bool has_weights(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kIndexName, error) || fs::exists(folder / kSingleFileName, error);
}

/// The config, with a next-token layer counted that only the tensors tell of.
Json with_mtp_counted(Json config, const Family& family, const fs::path& folder) {
  const std::string key(family.mtp_key);
  if (key.empty() || !has_weights(folder)) return config;
  Json& text = config.contains(kTextConfig) ? config[kTextConfig] : config;
  if (!text.is_object() || text.contains(key)) return config;
  if (TensorSource::open(folder).contains("mtp.fc.weight")) text[key] = 1;
  return config;
}

/// A config may promise multi-token prediction whose tensors were never saved, as transformers
/// leaves them out: then the model has none.
void drop_absent_mtp(Checkpoint& checkpoint) {
  const bool is_native = checkpoint.family == &headway_family();
  if (!checkpoint.spec.mtp || is_native || !has_weights(checkpoint.folder)) return;
  const TensorSource source = TensorSource::open(checkpoint.folder);
  for (const Binding& binding : layout(checkpoint.spec, *checkpoint.family, &source)) {
    if (!binding.native.front().parameter.starts_with("mtp.")) continue;
    if (std::ranges::any_of(binding.disk, [&](const auto& t) { return source.contains(t.name); }))
      return;
  }
  log(LogLevel::kWarning,
      fmt::format("[{}] layers of multi-token prediction: {} in the config, none in the files; the "
                  "model has none",
                  checkpoint.folder.string(), checkpoint.spec.mtp->depths()));
  checkpoint.spec.mtp.reset();
}

}  // namespace

Checkpoint open_checkpoint(const fs::path& folder, const std::optional<fs::path>& adapter) {
  check_folder(folder);
  if (is_adapter_folder(folder)) {
    if (adapter) {
      throw ConfigError(fmt::format(
          "[{}] model = an adapter, allowed a model beside another adapter", folder.string()));
    }
    return open_checkpoint(adapter_base(open_adapter(folder)), folder);
  }
  Checkpoint result;
  if (adapter) {
    check_folder(*adapter);
    result.adapter = open_adapter(*adapter);
  }
  std::error_code error;
  result.folder = folder;
  const fs::path path = folder / kConfigName;
  result.config = parse_config(path);
  result.family = &family_of(result.config, path);
  check_quantization(result.config);
  ReadConfig read = read_config(
      *result.family, with_mtp_counted(result.config, *result.family, folder), path.string());
  result.spec = std::move(read.spec);
  result.unknown_keys = std::move(read.unknown_keys);
  const int64_t vocab_size = result.spec.embedding.vocab_size;
  read_generation(result.config, path, vocab_size, result.generation);
  if (fs::exists(folder / kGenerationName, error)) {
    const fs::path generation = folder / kGenerationName;
    read_generation(parse_config(generation), generation, vocab_size, result.generation);
  }
  drop_absent_mtp(result);
  read_origin(result);
  const auto extras = result.config.find("headway");
  if (extras != result.config.end() && extras->is_object()) result.extras = *extras;
  return result;
}

TensorSource open_tensors(const Checkpoint& checkpoint, MergedType merged) {
  TensorSource source = TensorSource::open(checkpoint.folder);
  dequantise(source, checkpoint.config);
  if (checkpoint.adapter) merge_adapter(source, *checkpoint.adapter, merged);
  return source;
}

LoadReport load_parameters(const Checkpoint& checkpoint,
                           const std::map<std::string, at::Tensor>& parameters,
                           const AccountOptions& options) {
  check_parameters(checkpoint.spec, parameters);
  const TensorSource source = open_tensors(checkpoint, MergedType::kWide);
  const auto bindings = layout(checkpoint.spec, *checkpoint.family, &source);
  const Account held = account(bindings, checkpoint.spec, *checkpoint.family, source, options);
  const NativeReader reader(source, held.present);
  for (const Binding& binding : held.present) {
    for (const NativeTensor& native : binding.native) {
      // detach: loading is not part of any graph.
      parameters.at(native.parameter)
          .detach()
          .narrow(0, native.begin, native.shape.front())
          .copy_(reader.read(native.name));
    }
  }
  LoadReport report{held.notes, {}};
  for (const NativeTensor& native : held.missing) report.missing.push_back(native.parameter);
  return report;
}

Json native_config(const spec::ModelSpec& spec, const std::optional<Origin>& origin,
                   const Json& token_ids, const Json& extras, const std::string& dtype) {
  ExportHints hints;
  hints.dtype = dtype;
  hints.token_ids = token_ids;
  Json config = export_config(headway_family(), spec, hints);
  if (!extras.empty()) config["headway"] = extras;
  if (origin) config["source"] = {{"family", origin->family}, {"config", origin->config}};
  return config;
}

void write_native(const fs::path& folder, const NativeContent& content) {
  const auto& parameters = *content.parameters;
  check_parameters(*content.spec, parameters);
  const auto bindings = layout(*content.spec, headway_family());
  std::map<std::string, const NativeTensor*> natives;
  for (const Binding& binding : bindings)
    natives[binding.native.front().name] = &binding.native.front();
  const auto type_of = [&](const std::string& name) {
    return content.dtype.value_or(parameters.at(natives.at(name)->parameter).scalar_type());
  };
  const auto read = [&](const std::string& name) {
    const NativeTensor& native = *natives.at(name);
    return parameters.at(native.parameter)
        .detach()
        .narrow(0, native.begin, native.shape.front())
        .to(type_of(name));
  };
  const DiskTable table = disk_table(
      bindings, [&](const std::string& name) { return dtype_of(type_of(name)); }, read);
  const Json config = native_config(*content.spec, content.origin, content.token_ids,
                                    content.extras, torch_dtype_name(type_of(kEmbeddingName)));
  write_file_atomically((folder / kConfigName).string(), config.dump(2) + "\n");
  if (content.side_files) copy_side_files(*content.side_files, folder);
  write_shards(folder, table.infos, table.provider, content.max_shard_bytes);
}

void save_native(const fs::path& target, const NativeContent& content) {
  StagedFolder staged(target);
  write_native(staged.path(), content);
  write_manifest(staged.path());
  staged.commit();
}

}  // namespace headway::io
