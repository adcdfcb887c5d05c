// Adapters in PEFT's format: a folder of adapter_config.json and adapter_model.safetensors, read,
// written, and merged into the tensors of the checkpoint they belong to.
// Not for: training them (nn::Linear) or choosing projections (adapter_targets.h).
// Legend: I inputs, O outputs, R rank.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/base/json.h"
#include "headway/io/tensor_source.h"
#include "headway/spec/adapter.h"

namespace headway::io {

inline constexpr const char* kAdapterConfigName = "adapter_config.json";
inline constexpr const char* kAdapterFileName = "adapter_model.safetensors";

/// What adapter_config.json says.
struct AdapterConfigFile {
  std::filesystem::path folder;
  spec::AdapterKind kind = spec::AdapterKind::kLora;
  int64_t rank = 0;
  double alpha = 0.0;
  bool rank_stabilized = false;
  std::map<std::string, double> ranks;   // rank_pattern: by module, or by the end of its name
  std::map<std::string, double> alphas;  // alpha_pattern
  std::string base;                      // base_model_name_or_path; may be empty

  /// What multiplies B·A of a module: alpha / rank, or alpha / sqrt(rank), of its own.
  double scale_of(const std::string& module) const;
  int64_t rank_of(const std::string& module) const;
};

/// Errors: CheckpointError (missing, damaged); UnsupportedError naming the key for kinds of
/// adapters and settings that this build does not apply.
AdapterConfigFile open_adapter(const std::filesystem::path& folder);

/// Whether `folder` is an adapter and no model: it has an adapter_config.json and no config.json.
bool is_adapter_folder(const std::filesystem::path& folder);

/// The folder of the model that an adapter stands beside: its base_model_name_or_path, which must
/// be a folder here, taken from the adapter's own folder or else from the working directory.
/// Errors: CheckpointError.
std::filesystem::path adapter_base(const AdapterConfigFile& adapter);

/// A model of which parts are changed by an adapter keeps its element type on disk, or is widened
/// to float32 (float64 stays), so that nothing of a small change is rounded away.
enum class MergedType { kAsStored, kWide };

/// Replaces every adapted weight W of `source` by W + s·B·A, or m ∘ (W + s·B·A) / |W + s·B·A|,
/// computed in float32 (float64 for float64) when it is asked for. Returns how many.
/// Errors: CheckpointError (a module that the checkpoint has not, shapes that do not fit, a pair
/// without its other half, no tensors at all); UnsupportedError (embeddings, biases).
size_t merge_adapter(TensorSource& source, const AdapterConfigFile& adapter, MergedType type);

/// Native rows under an adapter and the published module they are: ….q_proj.weight -> ….q_proj.
using AdapterModules = std::map<std::string, std::string>;

/// What an adapter folder is written from.
struct AdapterContent {
  const spec::AdapterSpec* adapter = nullptr;
  const std::vector<spec::TensorSpec>* tensors = nullptr;         // spec::adapted
  const std::map<std::string, at::Tensor>* parameters = nullptr;  // by TensorSpec::name
  AdapterModules modules;
  std::vector<std::string> targets;  // for target_modules
  std::string base;
};

/// Writes adapter_config.json and adapter_model.safetensors into `folder`, which exists.
void write_adapter(const std::filesystem::path& folder, const AdapterContent& content);

/// Reads the pairs of `folder` into the parameters of `content`: kind, rank, scale and modules must
/// be those of the folder. Errors: ConfigError, CheckpointError.
void load_adapter(const std::filesystem::path& folder, const AdapterContent& content);

}  // namespace headway::io
