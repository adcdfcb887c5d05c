// Collects every problem of one configuration, each with its path, what was found, what is allowed
// and the file or override it came from. Not for: errors that end work at once (throw those).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace headway {

/// Where each value of a document came from: one file, and overrides of single paths.
class Sources {
 public:
  Sources() = default;
  explicit Sources(std::string file) : file_(std::move(file)) {}
  /// Values at `path` and below came from `source`.
  void add_override(std::string path, std::string source);
  /// The override that set `path` or a part around it, else the file; "" when unknown.
  std::string_view of(std::string_view path) const;

 private:
  std::string file_;
  std::map<std::string, std::string, std::less<>> overrides_;
};

class Problems {
 public:
  static constexpr size_t kMaxLines = 200;

  Problems() = default;
  explicit Problems(Sources sources) : sources_(std::move(sources)) {}

  /// "<path>: <text> [source]"
  void add(std::string_view path, std::string_view text);
  /// "<path> = <got>: allowed <allowed> [source]"
  void add_value(std::string_view path, std::string_view got, std::string_view allowed);
  /// Whether a problem was found at `path`, below it, or at something that contains it. A rule over
  /// several fields asks first, so that one mistake gives one line.
  bool touches(std::string_view path) const;

  /// Whether a problem was found at `path` itself or at something that contains it.
  bool touches_above(std::string_view path) const;

  bool empty() const { return lines_.empty(); }
  /// The first kMaxLines problems, then one line with the number of the others.
  std::vector<std::string> lines() const;
  /// Throws one ConfigError with all lines, if there is any.
  void throw_if_any() const;

 private:
  void add_line(std::string_view path, std::string line);

  Sources sources_;
  std::vector<std::string> lines_;
  std::vector<std::string> paths_;
  size_t unlisted_ = 0;
};

/// "a" + "b" -> "a.b"; an empty parent adds nothing.
std::string join_path(std::string_view parent, std::string_view name);
/// "a" + 3 -> "a[3]".
std::string index_path(std::string_view parent, size_t index);

}  // namespace headway
