// Reading tokenizer.json values with errors that name file, key and rule.
// Not for: parsing (headway/base/json.h) or configs of the user (fields.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace headway::text {

/// The DOM of tokenizer files: sorted keys, so that look-up in large vocabularies is fast.
using TokenizerJson = nlohmann::json;

/// A value, the file it stands in and the path to it. Every error is a CheckpointError
/// `[file] path = got, allowed …`. Must not outlive the document.
class JsonNode {
 public:
  JsonNode(const TokenizerJson& value, std::string file, std::string path = "")
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const TokenizerJson& value() const { return *value_; }
  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }

  /// The value under `key`; it must exist.
  JsonNode at(std::string_view key) const;
  /// The value under `key`, unless it is absent or null.
  std::optional<JsonNode> find(std::string_view key) const;
  /// Element of a list.
  JsonNode at(std::size_t index) const;
  std::size_t size() const { return value_->size(); }
  /// Checks that this is a list, and if `length` is given how long it is.
  const JsonNode& require_list(std::optional<std::size_t> length = std::nullopt) const;
  const JsonNode& require_object() const;

  std::string string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  double number() const;
  char32_t character() const;  // a string of one code point

  bool boolean_or(std::string_view key, bool fallback) const;
  /// nullopt for absent, null, and if `empty_is_none` for the empty string.
  std::optional<std::string> string_or_none(std::string_view key, bool empty_is_none = false) const;

  /// Throws CheckpointError: `[file] path = got, allowed <allowed>`.
  [[noreturn]] void fail(std::string_view allowed) const;
  /// Throws CheckpointError: `[file] path: <problem>`.
  [[noreturn]] void fail_with(std::string_view problem) const;
  /// Throws UnsupportedError: `[file] path = got: <reason>`.
  [[noreturn]] void unsupported(std::string_view reason) const;

 private:
  std::string shown_path() const { return path_.empty() ? "file" : path_; }

  const TokenizerJson* value_;
  std::string file_;
  std::string path_;
};

/// Most tokens a vocabulary may have: published ones are below 1 M. Spellings are kept by id, so
/// this bounds the memory of a small file with one large id.
constexpr std::size_t kLargestVocabulary = std::size_t{4} << 20;
/// Largest id a file may use.
constexpr std::int64_t kLargestTokenId = static_cast<std::int64_t>(kLargestVocabulary) - 1;

}  // namespace headway::text
