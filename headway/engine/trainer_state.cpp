// Reading and writing trainer/.
// Not for: deciding whether a state fits a run (resume_rules.cpp, data/train_loader.cpp).
#include "headway/engine/trainer_state.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/io/dtype.h"
#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStateFile = "state.json";
constexpr const char* kTensorFile = "optimizer.safetensors";
constexpr const char* kGenerator = "random_generator";

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw CheckpointError(fmt::format(
      "[{}] {}; hint: remove this checkpoint to go on from an older one", path.string(), what));
}

at::Generator generator_of(at::Device device) {
  return at::globalContext().defaultGenerator(device);
}

at::ScalarType dtype_from(const fs::path& path, const Json& value) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    if (value == io::torch_dtype_name(dtype)) return dtype;
  }
  fail(path, fmt::format("dtype = {}, allowed float32, bfloat16 or float64", json_summary(value)));
}

std::string describe(const at::Tensor& tensor) {
  return fmt::format("{} {}", at::toString(tensor.scalar_type()), io::shape_text(tensor.sizes()));
}

}  // namespace

void write_trainer_state(const fs::path& folder, const TrainerState& state,
                         const StateTensors& tensors, at::Device device) {
  StateTensors all = tensors;
  all[kGenerator] = generator_of(device).get_state();
  io::write_safetensors(folder / kTensorFile, all);
  const Json json{{"step", state.step},
                  {"dtype", io::torch_dtype_name(state.dtype)},
                  {"data", state.data},
                  {"config", state.config}};
  write_file_atomically((folder / kStateFile).string(), json.dump(2) + "\n");
}

TrainerState read_trainer_state(const fs::path& folder) {
  const fs::path path = folder / kStateFile;
  const Json json = parse_json_file(path.string());
  if (!json.is_object()) fail(path, "state = " + json_summary(json) + ", allowed a mapping");
  for (const char* key : {"step", "dtype", "data", "config"}) {
    if (!json.contains(key)) fail(path, fmt::format("{} = absent, allowed a value", key));
  }
  const Json& step = json["step"];
  if (!step.is_number_integer() || step.get<std::int64_t>() < 0) {
    fail(path, fmt::format("step = {}, allowed a whole number >= 0", json_summary(step)));
  }
  return {step.get<std::int64_t>(), dtype_from(path, json["dtype"]), json["data"], json["config"]};
}

std::map<std::string, std::int64_t> saved_rows(const fs::path& folder) {
  constexpr std::string_view kPrefix = "rows.";
  const io::SafetensorsFile file(folder / kTensorFile);
  std::map<std::string, std::int64_t> rows;
  for (const auto& entry : file.header().entries) {
    if (!entry.info.name.starts_with(kPrefix) || entry.info.shape.size() != 1) continue;
    rows[entry.info.name.substr(kPrefix.size())] = entry.info.shape[0];
  }
  return rows;
}

void read_trainer_tensors(const fs::path& folder, const StateTensors& tensors, at::Device device) {
  at::NoGradGuard no_grad;
  const io::SafetensorsFile file(folder / kTensorFile);
  const auto expected = tensors.size() + 1;
  if (file.header().entries.size() != expected) {
    fail(file.path(),
         fmt::format("tensors = {}, allowed {}", file.header().entries.size(), expected));
  }
  for (const auto& [name, tensor] : tensors) {
    if (file.find(name) == nullptr) fail(file.path(), fmt::format("{} = absent", name));
    const at::Tensor saved = file.view(name);
    if (saved.scalar_type() != tensor.scalar_type() || saved.sizes() != tensor.sizes()) {
      fail(file.path(),
           fmt::format("{} = {}, allowed {}", name, describe(saved), describe(tensor)));
    }
    tensor.copy_(saved);
  }
  if (file.find(kGenerator) == nullptr) fail(file.path(), fmt::format("{} = absent", kGenerator));
  const at::Tensor saved = file.load(kGenerator);
  at::Generator generator = generator_of(device);
  const at::Tensor current = generator.get_state();
  if (saved.scalar_type() != current.scalar_type() || saved.sizes() != current.sizes()) {
    fail(file.path(), fmt::format("{} = {}, allowed {}; hint: it was saved on another device",
                                  kGenerator, describe(saved), describe(current)));
  }
  generator.set_state(saved);
}

}  // namespace headway::engine
