// See convert.h. Not for: what families are (hf/).
#include "headway/io/convert.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/io/staged_folder.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

const Family& target_family(const Checkpoint& checkpoint, const ConvertOptions& options) {
  if (!options.to.empty()) return find_family(options.to);
  if (checkpoint.family != &headway_family()) {
    return checkpoint.adapter ? *checkpoint.family : headway_family();
  }
  if (checkpoint.origin) return find_family(checkpoint.origin->family);
  throw ConfigError(fmt::format(
      "[convert] --to = missing, allowed the name of a family; hint: {} was not imported from one",
      checkpoint.folder.string()));
}

/// The config of `family` from which the model came, if it did.
const Json* original_config(const Checkpoint& checkpoint, const Family& family) {
  if (checkpoint.family == &family && &family != &headway_family()) return &checkpoint.config;
  if (checkpoint.origin && checkpoint.origin->family == family.name)
    return &checkpoint.origin->config;
  return nullptr;
}

Json token_ids(const Checkpoint& checkpoint) {
  Json ids = Json::object();
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (checkpoint.config.contains(key)) ids[key] = checkpoint.config[key];
  }
  return ids;
}

std::string config_dtype(const TensorSource& source, const Family& family) {
  const auto embedding = embedding_name(family, source);
  if (!embedding) return "float32";
  return torch_dtype_name(
      scalar_type(source.info(*embedding).dtype).value_or(c10::ScalarType::Float));
}

Json target_config(const Checkpoint& checkpoint, const Family& family, const std::string& dtype) {
  if (&family == &headway_family()) {
    std::optional<Origin> origin = checkpoint.origin;
    if (checkpoint.family != &family) {
      origin = Origin{std::string(checkpoint.family->name), checkpoint.config};
    }
    return native_config(checkpoint.spec, origin, token_ids(checkpoint), checkpoint.extras, dtype);
  }
  ExportHints hints;
  hints.original = original_config(checkpoint, family);
  hints.dtype = dtype;
  hints.token_ids = token_ids(checkpoint);
  Json config = export_config(family, checkpoint.spec, hints);
  if (!checkpoint.extras.empty()) config["headway"] = checkpoint.extras;
  return config;
}

/// Bindings of the target, without tensors that the source was allowed to lack.
std::vector<Binding> available(const std::vector<Binding>& target, const NativeReader& reader) {
  std::vector<Binding> result;
  std::ranges::copy_if(target, std::back_inserter(result), [&](const Binding& binding) {
    return std::ranges::all_of(
        binding.native, [&](const NativeTensor& native) { return reader.contains(native.name); });
  });
  return result;
}

void verify_written(const fs::path& folder, const DiskTable& table) {
  const TensorSource written = TensorSource::open(folder);
  for (const TensorInfo& info : table.infos) {
    const at::Tensor want = table.provider(info).contiguous();
    const bool is_same = written.contains(info.name) && written.info(info.name) == info;
    const at::Tensor got = is_same ? written.load(info.name) : at::Tensor();
    if (!is_same || (want.nbytes() > 0 && std::memcmp(got.const_data_ptr(), want.const_data_ptr(),
                                                      want.nbytes()) != 0)) {
      throw CheckpointError(fmt::format(
          "[convert] tensor \"{}\" = read back with other bytes than written; hint: check the disk",
          info.name));
    }
  }
  if (written.tensors().size() != table.infos.size()) {
    throw CheckpointError("[convert] tensors = read back more than written; hint: check the disk");
  }
}

int64_t total_bytes(const DiskTable& table) {
  int64_t total = 0;
  for (const TensorInfo& info : table.infos)
    total += checked_bytes(info.dtype, info.shape).value_or(0);
  return total;
}

}  // namespace

std::vector<std::string> why_not(const Checkpoint& checkpoint, const Family& family) {
  if (const Json* original = original_config(checkpoint, family)) {
    const ReadConfig read = read_config(family, *original, "config.json");
    if (canonical_spec(read.spec) == canonical_spec(checkpoint.spec)) return {};
  }
  return reasons_against(family, checkpoint.spec);
}

ConvertReport convert(const fs::path& source_folder, const fs::path& target,
                      const ConvertOptions& options) {
  Checkpoint checkpoint = open_checkpoint(source_folder, options.adapter);
  const Family& family = target_family(checkpoint, options);
  const TensorSource source = open_tensors(checkpoint, MergedType::kAsStored);
  if (options.untie && has_different_tied_head(checkpoint.spec, *checkpoint.family, source)) {
    checkpoint.spec.head.tied = false;
  }
  const Json config = target_config(checkpoint, family, config_dtype(source, *checkpoint.family));
  const auto source_layout = layout(checkpoint.spec, *checkpoint.family, &source);
  const Account held =
      account(source_layout, checkpoint.spec, *checkpoint.family, source, options.account);
  const NativeReader reader(source, held.present);
  // The same family again keeps the layout that the source has.
  const auto bindings = checkpoint.family == &family
                            ? held.present
                            : available(layout(checkpoint.spec, family), reader);
  DiskTable table = disk_table(
      bindings, [&](const std::string& name) { return reader.dtype(name); },
      [&](const std::string& name) { return reader.read(name); });
  if (held.has_tied_head && checkpoint.family == &family) {
    // The source kept a copy of the tied head: so does the same layout written again.
    table.infos.push_back(source.info(kHeadName));
    table.provider = [&source, inner = table.provider](const TensorInfo& info) {
      return info.name == kHeadName ? source.view(kHeadName) : inner(info);
    };
  }
  StagedFolder staged(target);
  write_file_atomically((staged.path() / kConfigName).string(), config.dump(2) + "\n");
  copy_side_files(checkpoint.folder, staged.path());
  if (checkpoint.adapter) copy_side_files(checkpoint.adapter->folder, staged.path());
  write_shards(staged.path(), table.infos, table.provider, options.max_shard_bytes);
  if (options.verify) verify_written(staged.path(), table);
  if (&family == &headway_family()) write_manifest(staged.path());
  staged.commit();
  std::vector<std::string> notes = held.notes;
  if (checkpoint.adapter) {
    notes.push_back(fmt::format("merged the adapter {}", checkpoint.adapter->folder.string()));
  }
  return {std::string(checkpoint.family->name),
          std::string(family.name),
          table.infos.size(),
          total_bytes(table),
          options.verify,
          notes};
}

}  // namespace headway::io
