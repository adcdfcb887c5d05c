// The tensors of adapters: merged, written and read. Not for: their config (adapter_config.cpp).
#include "headway/io/adapter.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/internal/adapter_config.h"
#include "headway/io/rules.h"
#include "headway/io/safetensors_writer.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kWeight = ".weight";
/// Older versions of PEFT end the vectors in `.weight`.
constexpr std::string_view kOldMagnitude = ".lora_magnitude_vector.weight";

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw CheckpointError(fmt::format("[{}] {}", file.string(), what));
}

/// Names of one module's tensors in the file; empty where it has none.
struct Pair {
  std::string a;
  std::string b;
  std::string magnitude;
};

using Pairs = std::map<std::string, Pair>;  // by module

Pairs pairs_of(const SafetensorsFile& file) {
  Pairs pairs;
  for (const TensorEntry& entry : file.header().entries) {
    const std::string& name = entry.info.name;
    const auto module_of = [&](std::string_view ending) -> std::optional<std::string> {
      if (!name.starts_with(kPrefix) || !name.ends_with(ending)) return std::nullopt;
      if (name.size() <= kPrefix.size() + ending.size()) return std::nullopt;
      return name.substr(kPrefix.size(), name.size() - kPrefix.size() - ending.size());
    };
    if (const auto module = module_of(spec::kDiskA)) {
      pairs[*module].a = name;
    } else if (const auto other = module_of(spec::kDiskB)) {
      pairs[*other].b = name;
    } else if (const auto vector = module_of(spec::kDiskMagnitude)) {
      pairs[*vector].magnitude = name;
    } else if (const auto old = module_of(kOldMagnitude)) {
      pairs[*old].magnitude = name;
    } else {
      throw UnsupportedError(
          fmt::format("[{}] tensor \"{}\" = no part of a low-rank pair of a projection, allowed "
                      "{}….lora_A.weight, ….lora_B.weight, ….lora_magnitude_vector",
                      file.path().string(), shorten(name), kPrefix));
    }
  }
  if (pairs.empty()) fail(file.path(), "tensors = none, allowed at least one pair");
  return pairs;
}

void check_shape(const SafetensorsFile& file, const std::string& name, const Shape& want) {
  const TensorInfo& info = file.find(name)->info;
  if (info.shape == want && is_floating(info.dtype)) return;
  fail(file.path(),
       fmt::format("tensor \"{}\" = {} {}, allowed {} of a floating type", shorten(name),
                   enum_name(info.dtype), shape_text(info.shape), shape_text(want)));
}

void check_pair(const SafetensorsFile& file, const std::string& module, const Pair& pair,
                const AdapterConfigFile& adapter, const Shape& weight) {
  const bool dora = adapter.kind == spec::AdapterKind::kDora;
  const bool whole = !pair.a.empty() && !pair.b.empty() && pair.magnitude.empty() != dora;
  if (!whole) {
    fail(file.path(), fmt::format("module \"{}\" = {}, allowed {}", shorten(module),
                                  pair.a.empty()   ? "no lora_A"
                                  : pair.b.empty() ? "no lora_B"
                                  : dora           ? "no lora_magnitude_vector"
                                                   : "a lora_magnitude_vector",
                                  dora ? "all three, as use_dora says" : "lora_A and lora_B"));
  }
  const int64_t rank = adapter.rank_of(module);
  check_shape(file, pair.a, {rank, weight[1]});
  check_shape(file, pair.b, {weight[0], rank});
  if (dora) check_shape(file, pair.magnitude, {weight[0]});
}

at::Tensor merged(const at::Tensor& weight_OI, const at::Tensor& a_RI, const at::Tensor& b_OR,
                  const at::Tensor& magnitude_O, double scale) {
  const at::ScalarType wide = weight_OI.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor result = at::addmm(weight_OI.to(wide), b_OR.to(wide), a_RI.to(wide), 1, scale);
  if (!magnitude_O.defined()) return result;
  const at::Tensor norms = at::linalg_vector_norm(result, 2, at::IntArrayRef{1});
  return result.mul_((magnitude_O.to(wide) / norms).unsqueeze(1));
}

/// The name in an adapter's file of rows that the inventory calls `disk_name`.
std::string key_of(const std::string& disk_name, const AdapterModules& modules) {
  for (const std::string_view ending : {spec::kDiskA, spec::kDiskB, spec::kDiskMagnitude}) {
    if (!disk_name.ends_with(ending)) continue;
    const std::string rows =
        disk_name.substr(0, disk_name.size() - ending.size()) + std::string(kWeight);
    return std::string(kPrefix) + modules.at(rows) + std::string(ending);
  }
  throw InternalError("[adapter] tensor = " + disk_name + ", allowed one of a pair");
}

/// Calls with (name in the file, rows of the parameter).
template <class F>
void for_each_tensor(const AdapterContent& content, F call) {
  for (const spec::TensorSpec& tensor : *content.tensors) {
    if (!tensor.trainable) continue;
    const at::Tensor& parameter = content.parameters->at(tensor.name);
    for (const spec::RowSegment& segment : tensor.segments) {
      call(key_of(segment.disk_name, content.modules),
           parameter.detach().narrow(0, segment.begin, segment.rows));
    }
  }
}

void check_same(const AdapterConfigFile& file, const spec::AdapterSpec& adapter) {
  const auto check = [&](const char* field, const std::string& got, const std::string& want) {
    if (got == want) return;
    throw ConfigError(fmt::format("model.adapter.{} = {}: allowed {}, as {} has it", field, got,
                                  want, file.folder.string()));
  };
  check("kind", std::string(enum_name(adapter.kind)), std::string(enum_name(file.kind)));
  check("rank", std::to_string(adapter.rank), std::to_string(file.rank));
  check("alpha", format_double(adapter.alpha), format_double(file.alpha));
  check("rank_stabilized", adapter.rank_stabilized ? "true" : "false",
        file.rank_stabilized ? "true" : "false");
  if (file.ranks.empty() && file.alphas.empty()) return;
  throw UnsupportedError(fmt::format(
      "[{}] rank_pattern or alpha_pattern = given, allowed one rank and alpha to train on",
      (file.folder / kAdapterConfigName).string()));
}

}  // namespace

size_t merge_adapter(TensorSource& source, const AdapterConfigFile& adapter, MergedType type) {
  const auto file = std::make_shared<SafetensorsFile>(adapter.folder / kAdapterFileName);
  const Pairs pairs = pairs_of(*file);
  for (const auto& [module, pair] : pairs) {
    const std::string name = module + std::string(kWeight);
    const bool known = source.contains(name) && source.info(name).shape.size() == 2;
    if (!known) {
      fail(file->path(), fmt::format("module \"{}\" = no projection of the model, which has no "
                                     "matrix \"{}\"; hint: is it an adapter of this model?",
                                     shorten(module), shorten(name)));
    }
    TensorInfo info = source.info(name);
    check_pair(*file, module, pair, adapter, info.shape);
    if (type == MergedType::kWide && info.dtype != Dtype::kF64) info.dtype = Dtype::kF32;
    const at::ScalarType stored = *scalar_type(info.dtype);
    const auto read = [file, pair, base = source.reader(name), scale = adapter.scale_of(module),
                       stored] {
      const at::Tensor magnitude =
          pair.magnitude.empty() ? at::Tensor() : file->view(pair.magnitude);
      return merged(base(), file->view(pair.a), file->view(pair.b), magnitude, scale).to(stored);
    };
    source.derive(info, {}, read);
  }
  return pairs.size();
}

void write_adapter(const fs::path& folder, const AdapterContent& content) {
  std::map<std::string, at::Tensor> tensors;
  for_each_tensor(content, [&](const std::string& key, const at::Tensor& rows) {
    tensors[key] = rows.contiguous();
  });
  internal::write_adapter_config(folder, content);
  write_safetensors(folder / kAdapterFileName, tensors);
}

void load_adapter(const fs::path& folder, const AdapterContent& content) {
  const AdapterConfigFile config = open_adapter(folder);
  check_same(config, *content.adapter);
  const SafetensorsFile file(folder / kAdapterFileName);
  pairs_of(file);  // nothing but pairs
  size_t read = 0;
  for_each_tensor(content, [&](const std::string& key, at::Tensor rows) {
    if (file.find(key) == nullptr) {
      fail(file.path(),
           fmt::format("tensor \"{}\" = missing; hint: model.adapter.targets must name "
                       "the projections of this adapter",
                       shorten(key)));
    }
    check_shape(file, key, Shape(rows.sizes().begin(), rows.sizes().end()));
    rows.copy_(file.view(key));
    ++read;
  });
  if (read != file.header().entries.size()) {
    fail(file.path(), fmt::format("tensors = {}, allowed the {} of model.adapter.targets",
                                  file.header().entries.size(), read));
  }
}

}  // namespace headway::io
