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

/// Shape of `count` stacked entries whose first consists of `per_entry` tensors.
Shape stacked_shape(const std::vector<Shape>& native, size_t per_entry) {
  Shape whole = native.front();
  for (size_t i = 1; i < per_entry; ++i) whole[0] += native.at(i)[0];
  whole.insert(whole.begin(), static_cast<int64_t>(native.size() / per_entry));
  return whole;
}

}  // namespace

const Transform kStack = {
    "stack",
    [](const std::vector<Shape>& native) { return std::vector<Shape>{stacked_shape(native, 1)}; },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>&) {
      return disk.front().unbind(0);
    },
    [](const std::vector<at::Tensor>& native) {
      return std::vector<at::Tensor>{at::stack(native)};
    }};

const Transform kStackPairs = {
    "stack_pairs",
    [](const std::vector<Shape>& native) { return std::vector<Shape>{stacked_shape(native, 2)}; },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>& native) {
      std::vector<at::Tensor> parts;
      for (const at::Tensor& entry : disk.front().unbind(0)) {
        const int64_t first = native[0][0];
        parts.push_back(entry.narrow(0, 0, first));
        parts.push_back(entry.narrow(0, first, entry.size(0) - first));
      }
      return parts;
    },
    [](const std::vector<at::Tensor>& native) {
      const auto entries = static_cast<int64_t>(native.size() / 2);
      return std::vector<at::Tensor>{at::cat(native).unflatten(0, {entries, -1})};
    }};

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

const Transform kThirds = {
    "thirds",
    [](const std::vector<Shape>& native) {
      Shape part = grouped_shapes(native).front();
      const int64_t rows = part[0], third = (rows + 2) / 3;
      std::vector<Shape> shapes;
      for (int64_t i = 0; i < 3; ++i) {
        part[0] = std::clamp<int64_t>(rows - i * third, 0, third);
        shapes.push_back(part);
      }
      return shapes;
    },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>& native) {
      std::vector<int64_t> rows;
      for (const Shape& shape : native) rows.push_back(shape[0]);
      return at::cat(disk).split_with_sizes(rows);
    },
    [](const std::vector<at::Tensor>& native) {
      const at::Tensor whole = at::cat(native);
      const int64_t rows = whole.size(0), third = (rows + 2) / 3;
      const int64_t first = std::min(third, rows), second = std::min(third, rows - first);
      return whole.split_with_sizes({first, second, rows - first - second});
    }};

const Transform kHeadAxis = {"head_axis",
                             [](const std::vector<Shape>& native) {
                               return std::vector<Shape>{{1, 1, native.front().front(), 1}};
                             },
                             [](const std::vector<at::Tensor>& disk, const std::vector<Shape>&) {
                               return std::vector<at::Tensor>{disk.front().flatten()};
                             },
                             [](const std::vector<at::Tensor>& native) {
                               return std::vector<at::Tensor>{native.front().view({1, 1, -1, 1})};
                             }};

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

const Transform kStackTransposed = {
    "stack_transposed",
    [](const std::vector<Shape>& native) {
      return std::vector<Shape>{
          {static_cast<int64_t>(native.size()), native.front().at(1), native.front().at(0)}};
    },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>&) {
      std::vector<at::Tensor> parts;
      for (const at::Tensor& entry : disk.front().unbind(0)) parts.push_back(entry.t());
      return parts;
    },
    [](const std::vector<at::Tensor>& native) {
      return std::vector<at::Tensor>{at::stack(native).transpose(1, 2)};
    }};

const Transform kStackInterleaved = {
    "stack_interleaved",
    [](const std::vector<Shape>& native) {
      Shape shape = {static_cast<int64_t>(native.size() / 2)};
      if (native.front().size() == 2) shape.push_back(native.front()[1]);
      shape.push_back(2 * native.front()[0]);
      return std::vector<Shape>{shape};
    },
    [](const std::vector<at::Tensor>& disk, const std::vector<Shape>&) {
      std::vector<at::Tensor> parts;
      for (const at::Tensor& entry : disk.front().unbind(0)) {
        for (int64_t turn = 0; turn < 2; ++turn) {
          parts.push_back(entry.slice(-1, turn, std::nullopt, 2).t());
        }
      }
      return parts;
    },
    [](const std::vector<at::Tensor>& native) {
      std::vector<at::Tensor> entries;
      for (size_t i = 0; i + 1 < native.size(); i += 2) {
        entries.push_back(at::stack({native[i].t(), native[i + 1].t()}, -1).flatten(-2));
      }
      return std::vector<at::Tensor>{at::stack(entries)};
    }};

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

std::optional<std::vector<std::string>> match_numbers(std::string_view pattern,
                                                      std::string_view name) {
  std::vector<std::string> numbers;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  while (!pattern.empty()) {
    if (!pattern.starts_with("{}")) {
      if (name.empty() || name.front() != pattern.front()) return std::nullopt;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
      continue;
    }
    const auto* end = std::ranges::find_if_not(name, is_digit);
    const auto digits = static_cast<size_t>(end - name.begin());
    if (digits == 0) return std::nullopt;
    numbers.emplace_back(name.substr(0, digits));
    pattern.remove_prefix(2);
    name.remove_prefix(digits);
  }
  if (!name.empty()) return std::nullopt;
  return numbers;
}

std::string with_numbers(std::string_view pattern, const std::vector<std::string>& numbers) {
  std::string result;
  for (const std::string& number : numbers) {
    const size_t hole = pattern.find("{}");
    if (hole == std::string_view::npos) break;
    result += std::string(pattern.substr(0, hole)) + number;
    pattern.remove_prefix(hole + 2);
  }
  return result + std::string(pattern);
}

std::string with_star(std::string_view pattern, int64_t number) {
  std::string result(pattern);
  const size_t star = result.find("{*}");
  if (star != std::string::npos) result.replace(star, 3, std::to_string(number));
  return result;
}

}  // namespace headway::io
