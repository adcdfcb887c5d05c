// The folder `trainer/` of a checkpoint: everything a run needs beside the model to go on.
// Not for: weights of the model itself, which stand beside it as a model folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "headway/base/json.h"

namespace headway::engine {

/// state.json.
struct TrainerState {
  std::int64_t step = 0;
  at::ScalarType dtype = at::kFloat;  // what `auto` chose then holds for the whole run
  Json data;                          // data::TrainLoader::state
  Json config;                        // the run file, resolved
};

/// Tensors by name, handles shared with their owners: reading fills them in place.
using StateTensors = std::map<std::string, at::Tensor>;

/// Writes state.json and optimizer.safetensors (tensors, and the state of libtorch's random
/// generator for `device`) into `folder`, which exists.
void write_trainer_state(const std::filesystem::path& folder, const TrainerState& state,
                         const StateTensors& tensors, at::Device device);

/// Errors: CheckpointError naming the file and what is wrong.
TrainerState read_trainer_state(const std::filesystem::path& folder);

/// Rows that the state of each row-sparse parameter has (engine/sparse_rows.h), by parameter.
std::map<std::string, std::int64_t> saved_rows(const std::filesystem::path& folder);

/// Fills `tensors` and the random generator. Errors: CheckpointError for a tensor that is missing,
/// not expected, or of another shape or type.
void read_trainer_tensors(const std::filesystem::path& folder, const StateTensors& tensors,
                          at::Device device);

}  // namespace headway::engine
