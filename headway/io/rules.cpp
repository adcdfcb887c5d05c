// See rules.h. Not for: which rules a family has.
#include "headway/io/rules.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::io {

const Transform kCopy = {
    "copy", [](const std::vector<Shape>& native) { return native; },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>&) { return disk; },
    [](const std::vector<at::Tensor>& native) { return native; }};

const Transform kConcatRows = {
    "concat_rows",
    [](const std::vector<Shape>& native) {
      Shape whole = native.front();
      for (size_t i = 1; i < native.size(); ++i) whole[0] += native[i][0];
      return std::vector<Shape>{whole};
    },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>& native) {
      std::vector<at::Tensor> parts;
      int64_t begin = 0;
      for (const Shape& shape : native) {
        parts.push_back(disk.front().narrow(0, begin, shape[0]));
        begin += shape[0];
      }
      return parts;
    },
    [](const std::vector<at::Tensor>& native) { return std::vector<at::Tensor>{at::cat(native)}; }};

namespace {

int64_t run_of(int64_t rows, int64_t groups) {
  if (rows % groups != 0) {
    throw ShapeError("[grouped_rows] rows = " + std::to_string(rows) + ", allowed a multiple of " +
                     std::to_string(groups));
  }
  return rows / groups;
}

std::vector<Shape> grouped_shapes(const std::vector<Shape>& native) {
  Shape whole = native.front();
  for (size_t i = 1; i < native.size(); ++i) whole[0] += native[i][0];
  return {whole};
}

std::vector<at::Tensor> ungrouped(const at::Tensor& disk, const std::vector<Shape>& native,
                                  int64_t groups) {
  const at::Tensor runs = disk.unflatten(0, {groups, -1});
  std::vector<at::Tensor> parts;
  int64_t begin = 0;
  for (const Shape& shape : native) {
    const int64_t rows = run_of(shape[0], groups);
    parts.push_back(runs.narrow(1, begin, rows).flatten(0, 1).contiguous());
    begin += rows;
  }
  return parts;
}

at::Tensor grouped(const std::vector<at::Tensor>& native, int64_t groups) {
  std::vector<at::Tensor> runs;
  for (const at::Tensor& part : native) {
    run_of(part.size(0), groups);
    runs.push_back(part.unflatten(0, {groups, -1}));
  }
  return at::cat(runs, 1).flatten(0, 1).contiguous();
}

}  // namespace

const Transform& grouped_rows(int64_t groups) {
  static std::mutex guard;
  static std::map<int64_t, Transform> made;  // nodes stay where they are
  const std::lock_guard<std::mutex> lock(guard);
  const auto found = made.find(groups);
  if (found != made.end()) return found->second;
  Transform transform{
      "grouped_rows", grouped_shapes,
      [groups](const std::vector<at::Tensor>& disk, const std::vector<Shape>& native) {
        return ungrouped(disk.front(), native, groups);
      },
      [groups](const std::vector<at::Tensor>& native) {
        return std::vector<at::Tensor>{grouped(native, groups)};
      }};
  return made.emplace(groups, std::move(transform)).first->second;
}

bool matches_glob(std::string_view pattern, std::string_view name) {
  // Greedy with one point to return to: linear in practice, never exponential.
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return std::ranges::all_of(pattern.substr(p), [](char c) { return c == '*'; });
}

std::optional<std::string> match_layer(std::string_view pattern, std::string_view name) {
  const size_t hole = pattern.find("{}");
  if (hole == std::string_view::npos) {
    return pattern == name ? std::optional<std::string>("") : std::nullopt;
  }
  const std::string_view before = pattern.substr(0, hole);
  const std::string_view after = pattern.substr(hole + 2);
  if (name.size() <= before.size() + after.size() || !name.starts_with(before) ||
      !name.ends_with(after)) {
    return std::nullopt;
  }
  const std::string_view layer =
      name.substr(before.size(), name.size() - before.size() - after.size());
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!std::ranges::all_of(layer, is_digit)) return std::nullopt;
  return std::string(layer);
}

std::string with_layer(std::string_view pattern, std::string_view layer) {
  const size_t hole = pattern.find("{}");
  if (hole == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, hole)) + std::string(layer) +
         std::string(pattern.substr(hole + 2));
}

}  // namespace headway::io
