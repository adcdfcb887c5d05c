// manifest.json, the mark of a complete folder, and the files copied along with a model.
// Not for: tensors.
#include <algorithm>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/io/checkpoint.h"

namespace headway::io {
namespace {

namespace fs = std::filesystem;

constexpr auto kSideFiles = std::to_array<const char*>(
    {kGenerationName, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
     "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja",
     "chat_template.json"});
constexpr int64_t kMaxSideFileBytes = int64_t{1} << 30;

}  // namespace

void write_manifest(const fs::path& folder) {
  std::map<std::string, int64_t> sizes;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->is_regular_file(error)) continue;
    sizes[fs::relative(entry->path(), folder).generic_string()] =
        static_cast<int64_t>(entry->file_size(error));
  }
  if (error) {
    throw CheckpointError(
        fmt::format("[{}] manifest = failed ({})", folder.string(), error.message()));
  }
  sizes.erase(kManifestName);
  const Json manifest = {{"files", sizes}};
  write_file_atomically((folder / kManifestName).string(), manifest.dump(2) + "\n");
}

bool is_complete(const fs::path& folder) {
  try {
    const auto manifest = parse_json_file<nlohmann::json>((folder / kManifestName).string());
    const auto files = manifest.find("files");
    if (files == manifest.end() || !files->is_object()) return false;
    return std::ranges::all_of(files->items(), [&](const auto& item) {
      std::error_code error;
      const fs::path path = folder / item.key();
      if (!fs::is_regular_file(path, error)) return false;
      // Text files may be edited; a tensor file of another size is a damaged one.
      if (!item.key().ends_with(".safetensors")) return true;
      return item.value().is_number_unsigned() &&
             fs::file_size(path, error) == item.value().template get<uint64_t>();
    });
  } catch (const Error&) {
    return false;
  }
}

void copy_side_files(const fs::path& source, const fs::path& target) {
  for (const char* name : kSideFiles) {
    std::error_code error;
    if (!fs::exists(source / name, error)) continue;
    write_file_atomically((target / name).string(),
                          read_file((source / name).string(), kMaxSideFileBytes));
  }
}

}  // namespace headway::io
