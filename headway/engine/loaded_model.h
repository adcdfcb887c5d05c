// A model folder brought to life: spec, weights, tokenizer.
// Not for: training state (trainer.h) or changing files (io/convert.h).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "headway/io/checkpoint.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::engine {

/// The checkpoint folder `path` means: itself when it holds config.json or an adapter, or the
/// newest complete checkpoint of a run folder. Errors: CheckpointError if it is neither.
std::filesystem::path find_model_folder(const std::filesystem::path& path);

/// `parameters` by name, as io wants them; handles, not copies.
std::map<std::string, at::Tensor> named_tensors(const nn::Parameters& parameters);

struct LoadedModel {
  io::Checkpoint checkpoint;
  std::filesystem::path text_folder;  // that of its tokenizer and chat template
  std::unique_ptr<nn::Transformer> model;
  text::FolderTokenizer tokenizer;
};

/// Opens, checks and loads. `path` as for find_model_folder; `adapter`: the folder of one to merge.
/// What io notes is logged. Errors: CheckpointError, ConfigError, UnsupportedError.
LoadedModel load_model(const std::filesystem::path& path, at::ScalarType dtype, at::Device device,
                       const std::optional<std::filesystem::path>& adapter = std::nullopt);

}  // namespace headway::engine
