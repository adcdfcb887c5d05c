// Listing, staging and removing checkpoint folders.
// Not for: tensors.
#include "headway/engine/checkpoint_store.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/io/checkpoint.h"
#include "headway/io/staged_folder.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";

/// N of `step-N`; nothing for any other name, a padded number included.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string digits = name.substr(kPrefix.size());
  std::int64_t step = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (read.ec != std::errc() || step < 0 || fmt::format("{}", step) != digits) return std::nullopt;
  return step;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    paths.push_back(entry->path());
  }
  return paths;
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path run_folder)
    : run_folder_(std::move(run_folder)), root_(run_folder_ / "checkpoints") {}

fs::path CheckpointStore::folder(std::int64_t step) const {
  return root_ / fmt::format("{}{}", kPrefix, step);
}

std::vector<std::int64_t> CheckpointStore::complete_steps() const {
  std::vector<std::int64_t> steps;
  for (const fs::path& path : entries(root_)) {
    const auto step = step_of(path.filename().string());
    if (step && io::is_complete(path)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<std::int64_t> CheckpointStore::newest() const {
  const std::vector<std::int64_t> steps = complete_steps();
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

void CheckpointStore::save(std::int64_t step,
                           const std::function<void(const fs::path&)>& fill) const {
  std::error_code error;
  if (fs::exists(folder(step), error)) remove_checkpoint(folder(step));  // it is not complete
  io::StagedFolder staged(folder(step));
  fs::create_directory(staged.path() / "trainer", error);
  if (error) {
    throw CheckpointError(fmt::format("[{}] create = failed ({}); hint: check free space",
                                      staged.path().string(), error.message()));
  }
  fill(staged.path());
  io::write_manifest(staged.path());
  staged.commit();
  point_latest(step);
}

void CheckpointStore::point_latest(std::int64_t step) const {
  const fs::path temporary = run_folder_ / ".latest.tmp";
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_directory_symlink(fs::path("checkpoints") / folder(step).filename(), temporary, error);
  if (!error) fs::rename(temporary, run_folder_ / "latest", error);
  if (error) {
    throw CheckpointError(fmt::format("[{}] link = failed ({}); hint: check free space",
                                      (run_folder_ / "latest").string(), error.message()));
  }
  sync_folder(run_folder_.string());
}

void CheckpointStore::remove_checkpoint(const fs::path& path) const {
  // Under a hidden name first, so that no moment shows a step folder with files missing.
  const fs::path hidden = root_ / ("." + path.filename().string() + ".old");
  std::error_code error;
  fs::remove_all(hidden, error);
  fs::rename(path, hidden, error);
  if (!error) fs::remove_all(hidden, error);
  if (error) {
    throw CheckpointError(fmt::format("[{}] remove = failed ({})", path.string(), error.message()));
  }
}

void CheckpointStore::keep_newest(std::int64_t count) const {
  const std::vector<std::int64_t> steps = complete_steps();
  const auto kept = static_cast<std::size_t>(std::max<std::int64_t>(count, 1));
  for (std::size_t i = 0; i + kept < steps.size(); ++i) remove_checkpoint(folder(steps[i]));
}

void CheckpointStore::repair() const {
  std::error_code error;
  for (const fs::path& path : entries(root_)) {
    if (path.filename().string().starts_with(".")) fs::remove_all(path, error);
  }
  for (const fs::path& path : entries(run_folder_)) {
    const std::string name = path.filename().string();
    if (name.starts_with(".") && name.ends_with(".tmp")) fs::remove_all(path, error);
  }
  if (const auto step = newest()) point_latest(*step);
}

}  // namespace headway::engine
