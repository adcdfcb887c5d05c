// The folder `checkpoints` of a run and the link `latest` beside it: names, completeness,
// retention. Not for: what is inside a checkpoint (trainer_state.h, model_folder.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

namespace headway::engine {

/// `step-N`, N unpadded. A checkpoint appears under its name only when everything in it is on disk,
/// the manifest (io::write_manifest) last: io::is_complete says whether it counts.
class CheckpointStore {
 public:
  /// Touches nothing.
  explicit CheckpointStore(std::filesystem::path run_folder);

  std::filesystem::path folder(std::int64_t step) const;
  /// Steps of complete checkpoints, oldest first.
  std::vector<std::int64_t> complete_steps() const;
  std::optional<std::int64_t> newest() const;

  /// Lets `fill` write into a hidden folder, adds the manifest, gives it its name, then points
  /// `latest` at it. After an error (a full disk) nothing of it remains and older ones are intact.
  /// Errors: CheckpointError, and whatever `fill` throws.
  void save(std::int64_t step, const std::function<void(const std::filesystem::path&)>& fill) const;

  /// Removes complete checkpoints but the `count` (>= 1) newest.
  void keep_newest(std::int64_t count) const;
  /// Removes what killed runs left, that is hidden names, and points `latest` at the newest.
  void repair() const;

 private:
  void point_latest(std::int64_t step) const;
  void remove_checkpoint(const std::filesystem::path& path) const;

  std::filesystem::path run_folder_;
  std::filesystem::path root_;
};

}  // namespace headway::engine
