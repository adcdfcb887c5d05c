// A checkpoint folder of any family: what model it is, its tensors into parameters, and writing a
// native one. Native = Hugging Face layout of family `headway`.
// Not for: trainer state (the engine writes it beside), or changing family (convert.h).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/io/adapter.h"
#include "headway/io/hf/family.h"
#include "headway/io/shards.h"
#include "headway/io/tensor_layout.h"

namespace headway::io {

/// generation_config.json where there is one, else what config.json says.
struct GenerationConfig {
  std::vector<int64_t> eos_token_ids;  // any of them ends a sequence
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> pad_token_id;
};

/// Where a native checkpoint was imported from, so that an export to the same family keeps what
/// that family's config said besides the model.
struct Origin {
  std::string family;
  Json config;
};

struct Checkpoint {
  std::filesystem::path folder;
  const Family* family = nullptr;
  spec::ModelSpec spec;
  Json config;  // config.json as it stands
  GenerationConfig generation;
  std::vector<std::string> unknown_keys;  // of config.json: kept, without effect
  std::optional<Origin> origin;
  Json extras = Json::object();  // `headway` object of config.json: e.g. {"tokenizer": "bytes"}
  std::optional<AdapterConfigFile> adapter;  // merged into the tensors when they are read
};

/// Reads and checks config.json, generation_config.json and the manifest; opens no tensor file.
/// `adapter` is the folder of one to merge. A folder that is an adapter itself stands for the model
/// it belongs to with it merged: then `folder` of the result is the model's.
/// CheckpointError (missing, damaged, incomplete), ConfigError, UnsupportedError.
Checkpoint open_checkpoint(const std::filesystem::path& folder,
                           const std::optional<std::filesystem::path>& adapter = std::nullopt);

/// Its tensors as the family's rules know them: quantised ones as bfloat16, an adapter merged.
TensorSource open_tensors(const Checkpoint& checkpoint, MergedType merged);

struct LoadReport {
  std::vector<std::string> notes;
  std::vector<std::string> missing;  // parameters left as they were, wholly or in part
};

/// Copies every tensor into its rows of `parameters` (by TensorSpec::name), converting element
/// type and device. Every parameter of the spec must be in the map with its shape.
LoadReport load_parameters(const Checkpoint& checkpoint,
                           const std::map<std::string, at::Tensor>& parameters,
                           const AccountOptions& options = {});

/// What a native checkpoint is written from.
struct NativeContent {
  const spec::ModelSpec* spec = nullptr;
  const std::map<std::string, at::Tensor>* parameters = nullptr;  // by TensorSpec::name
  std::optional<c10::ScalarType> dtype;             // element type on disk; unset = as in memory
  std::optional<std::filesystem::path> side_files;  // folder with tokenizer and generation files
  std::optional<Origin> origin;
  Json token_ids = Json::object();  // bos_token_id, eos_token_id, pad_token_id
  Json extras = Json::object();
  int64_t max_shard_bytes = kDefaultMaxShardBytes;
};

/// Writes config.json, tensors and side files into `folder`, which exists: usually
/// StagedFolder::path(). The caller adds its own files, calls write_manifest, then commits.
void write_native(const std::filesystem::path& folder, const NativeContent& content);

/// StagedFolder + write_native + write_manifest + commit.
void save_native(const std::filesystem::path& target, const NativeContent& content);

/// `manifest.json`: every file below the folder with its size. Written last.
void write_manifest(const std::filesystem::path& folder);

/// Whether the folder has a manifest and every file it lists, tensor files in full size.
bool is_complete(const std::filesystem::path& folder);

/// Files beside config and tensors that belong to a model: tokenizer, chat template, generation.
/// Copies those that exist, byte by byte.
void copy_side_files(const std::filesystem::path& source, const std::filesystem::path& target);

inline constexpr const char* kConfigName = "config.json";
inline constexpr const char* kGenerationName = "generation_config.json";
inline constexpr const char* kManifestName = "manifest.json";

/// config.json of a native checkpoint.
Json native_config(const spec::ModelSpec& spec, const std::optional<Origin>& origin,
                   const Json& token_ids, const Json& extras, const std::string& dtype);

}  // namespace headway::io
