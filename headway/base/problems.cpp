// Problem lines with their source, and which paths they touch.
// Not for: deciding what is a problem.
#include "headway/base/problems.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway {
namespace {

// Whether `path` is `outer` or lies below it.
bool is_within(std::string_view path, std::string_view outer) {
  if (outer.empty()) return true;
  if (!path.starts_with(outer)) return false;
  return path.size() == outer.size() || path[outer.size()] == '.' || path[outer.size()] == '[';
}

}  // namespace

void Sources::add_override(std::string path, std::string source) {
  overrides_[std::move(path)] = std::move(source);
}

std::string_view Sources::of(std::string_view path) const {
  std::string_view best = file_;
  size_t best_size = 0;
  for (const auto& [outer, source] : overrides_) {
    if (is_within(path, outer) && outer.size() >= best_size) {
      best = source;
      best_size = outer.size();
    }
  }
  return best;
}

void Problems::add_line(std::string_view path, std::string line) {
  if (lines_.size() == kMaxLines) {
    ++unlisted_;
    return;
  }
  if (const std::string_view source = sources_.of(path); !source.empty()) {
    line += fmt::format(" [{}]", source);
  }
  lines_.push_back(printable(line));
  paths_.emplace_back(path);
}

void Problems::add(std::string_view path, std::string_view text) {
  add_line(path, path.empty() ? std::string(text) : fmt::format("{}: {}", path, text));
}

void Problems::add_value(std::string_view path, std::string_view got, std::string_view allowed) {
  add_line(path,
           fmt::format("{} = {}: allowed {}", path.empty() ? "document" : path, got, allowed));
}

bool Problems::touches(std::string_view path) const {
  for (const std::string& other : paths_) {
    if (is_within(other, path) || is_within(path, other)) return true;
  }
  return false;
}

bool Problems::touches_above(std::string_view path) const {
  for (const std::string& other : paths_) {
    if (is_within(path, other)) return true;
  }
  return false;
}

std::vector<std::string> Problems::lines() const {
  std::vector<std::string> result = lines_;
  if (unlisted_ > 0) result.push_back(fmt::format("and {} more problems", unlisted_));
  return result;
}

void Problems::throw_if_any() const {
  if (!lines_.empty()) throw ConfigError(lines());
}

std::string join_path(std::string_view parent, std::string_view name) {
  return parent.empty() ? std::string(name) : fmt::format("{}.{}", parent, name);
}

std::string index_path(std::string_view parent, size_t index) {
  return fmt::format("{}[{}]", parent, index);
}

}  // namespace headway
