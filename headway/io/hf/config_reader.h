// Reads the keys of a Hugging Face config.json: types and ranges are checked, every problem is
// collected, and the keys that nobody asked for are known afterwards.
// Not for: our own run files (base/fields.h), whose unknown keys are errors.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "headway/base/json.h"
#include "headway/base/problems.h"

namespace headway::io {

struct IntegerRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

/// An object of the config. Numbers may be written as integers or floats; null counts as absent.
/// After a problem a reader goes on with a harmless value: call throw_if_any() before using it.
class ConfigReader {
 public:
  /// `file` stands at the end of every message. ConfigError when `json` is not an object.
  ConfigReader(const Json& json, const std::string& file);

  /// The value, or null when absent or null. Marks the key as read.
  const Json* find(std::string_view key);
  /// Whether the key is present with a value other than null. Does not mark it.
  bool has(std::string_view key) const;
  /// Whether the key is present, null included. Does not mark it.
  bool is_present(std::string_view key) const { return json_->contains(std::string(key)); }

  /// Absent: a problem naming the key.
  int64_t required_integer(std::string_view key, IntegerRange range);
  int64_t integer(std::string_view key, IntegerRange range, int64_t otherwise);
  std::optional<int64_t> optional_integer(std::string_view key, IntegerRange range);
  /// Finite, and above 0 unless `min` says otherwise.
  double number(std::string_view key, double otherwise, double min = kAboveZero);
  double required_number(std::string_view key, double min = kAboveZero);
  std::optional<double> optional_number(std::string_view key, double min = kAboveZero);
  bool boolean(std::string_view key, bool otherwise);
  std::string text(std::string_view key, const std::string& otherwise);
  std::optional<std::vector<std::string>> texts(std::string_view key);
  /// A reader of a nested object, sharing problems; nothing when absent or null.
  std::optional<ConfigReader> object(std::string_view key);

  /// Name of the first member that is an object itself.
  std::optional<std::string> nested_object() const;

  /// One number for each of `layers` and of `extra` next-token layers: a list of as many, or of
  /// `layers`, or one number for all. Entries that are null or left out, and an absent key, give
  /// `otherwise`.
  std::vector<double> per_layer(std::string_view key, size_t layers, size_t extra, double otherwise,
                                double min = kAboveZero);
  /// The text list of one of these lengths.
  std::optional<std::vector<std::string>> layer_texts(std::string_view key, size_t layers,
                                                      size_t extra);

  void mark(std::string_view key);
  /// "key = got: allowed …"
  void problem(std::string_view key, std::string_view allowed);
  void problem_text(std::string_view key, std::string_view text);
  bool has_problems() const { return !shared_->problems.empty(); }
  void throw_if_any() const { shared_->problems.throw_if_any(); }

  /// Keys (dotted below the top) present in the objects read and never asked for.
  std::vector<std::string> unread_keys() const;
  /// Top-level keys that were asked for, present or not.
  const std::set<std::string>& read_keys() const { return shared_->read.at(path_); }

  static constexpr double kAboveZero = std::numeric_limits<double>::denorm_min();

 private:
  struct Shared {
    Problems problems;
    std::map<std::string, const Json*> objects;         // path -> object read
    std::map<std::string, std::set<std::string>> read;  // path -> keys asked for
  };
  ConfigReader(const Json& json, std::string path, std::shared_ptr<Shared> shared);
  std::optional<int64_t> as_integer(std::string_view key, const Json& value, IntegerRange range);
  std::optional<double> as_number(std::string_view key, const Json& value, double min);
  std::string path_of(std::string_view key) const { return join_path(path_, key); }
  bool check_length(std::string_view key, size_t size, size_t layers, size_t extra);

  const Json* json_;
  std::string path_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace headway::io
