// Walks folders and tells text from binary files.
// Not for: anything that depends on the content beyond its first bytes.
#include "headway/data/source_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/data/indexed_dataset.h"

namespace headway::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBinaryProbe = 8192;

[[noreturn]] void fail(std::string_view where, const fs::path& path, std::string_view got) {
  throw CheckpointError(
      fmt::format("[{}] {} = {}, allowed a readable text file, JSONL file or folder", where,
                  path.string(), got));
}

SourceFile source_file(const fs::path& path) {
  const fs::path index = find_index(path);
  const bool named = path.extension() == ".idx" || path.extension() == ".bin";
  if (!index.empty() && named) return {index.lexically_normal(), SourceFormat::kIndexed};
  const fs::path extension = path.extension();
  const bool lines = extension == ".jsonl" || extension == ".ndjson";
  return {path.lexically_normal(), lines ? SourceFormat::kJsonl : SourceFormat::kText};
}

bool is_binary(const fs::path& path, std::string_view where) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(where, path, std::strerror(errno));
  std::string probe(kBinaryProbe, ' ');
  file.read(probe.data(), kBinaryProbe);
  probe.resize(static_cast<std::size_t>(file.gcount()));
  return probe.find('\0') != std::string::npos;
}

void walk_folder(const fs::path& folder, std::string_view where, SourceList& list) {
  const std::size_t before = list.files.size();
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  const fs::recursive_directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const bool is_folder = entry->is_directory(error) && !error;
    if (path.filename().string().starts_with('.')) {
      if (is_folder) entry.disable_recursion_pending();
      continue;
    }
    error.clear();  // a dangling link is not a file, and no reason to stop
    if (is_folder || !entry->is_regular_file(error)) {
      error.clear();
      continue;
    }
    const SourceFile file = source_file(path);
    if (file.format == SourceFormat::kIndexed) {
      if (path.extension() == ".idx") list.files.push_back(file);
    } else if (is_binary(path, where)) {
      list.skipped.push_back(path.lexically_normal());
    } else {
      list.files.push_back(file);
    }
  }
  if (error) fail(where, folder, error.message());
  if (list.files.size() == before) fail(where, folder, "a folder without text files");
}

}  // namespace

SourceList find_sources(const std::vector<std::string>& paths, std::string_view where) {
  if (paths.empty()) {
    throw ConfigError(fmt::format("[{}] paths = none, allowed files and folders of text", where));
  }
  SourceList list;
  for (const std::string& name : paths) {
    const fs::path path(name);
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      const fs::path index = find_index(path);
      if (index.empty()) fail(where, path, "missing");
      list.files.push_back({index.lexically_normal(), SourceFormat::kIndexed});
      continue;
    }
    if (fs::is_directory(status)) {
      walk_folder(path, where, list);
    } else if (fs::is_regular_file(status)) {
      list.files.push_back(source_file(path));
    } else {
      fail(where, path, error ? error.message() : "neither a file nor a folder");
    }
  }
  // native(): path comparison goes component by component and would sort "a.b" after "a/b".
  std::ranges::sort(list.files, {}, [](const SourceFile& file) { return file.path.native(); });
  std::ranges::sort(list.skipped);
  const auto twice = std::ranges::adjacent_find(list.files);
  if (twice != list.files.end()) {
    throw ConfigError(
        fmt::format("[{}] {} = named twice, allowed once; hint: a folder includes "
                    "every file below it",
                    where, twice->path.string()));
  }
  return list;
}

}  // namespace headway::data
