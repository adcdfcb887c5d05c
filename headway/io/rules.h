// Rows of a family's table: how tensors on disk become native tensors, each with its inverse.
// Native tensors are the inventory's row segments under their disk names.
// Not for: values. No rule changes one, so that import then export is bit-identical.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::io {

using Shape = std::vector<int64_t>;

/// A rearrangement of whole tensors. `to_disk` undoes `to_native`.
struct Transform {
  std::string_view name;
  std::function<std::vector<Shape>(const std::vector<Shape>& native)> disk_shapes;
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& disk,
                                        const std::vector<Shape>& native)>
      to_native;
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& native)> to_disk;
};

/// One tensor, as it is.
extern const Transform kCopy;
/// Several native tensors are the rows, in order, of one on disk.
extern const Transform kConcatRows;
/// Native tensors of equal shape are the entries, in order, of one on disk with an axis more.
extern const Transform kStack;
/// The same with two native tensors, their rows one below the other, for an entry.
extern const Transform kStackPairs;
/// Several native tensors are one below the other, cut on disk into three parts of equal rows (the
/// last may have fewer).
extern const Transform kThirds;
/// A vector [H] lies as [1,1,H,1] on disk.
extern const Transform kHeadAxis;
/// Several native tensors take turns on disk: the rows of each are cut into `groups` equal runs,
/// and run g of all of them, in order, comes before run g+1 (rows by key head, gates beside
/// queries). The result lives as long as the program. Errors: ShapeError for rows that are no
/// multiple.
const Transform& grouped_rows(int64_t groups);

/// Native tensors of equal shape [R,C] are, transposed, the entries of one on disk: [E,C,R].
extern const Transform kStackTransposed;
/// The same with two native tensors for an entry, whose columns take turns on disk: [E,C,2R]; and
/// vectors [R] likewise: [E,2R].
extern const Transform kStackInterleaved;

/// Names may hold `{}`, numbers (of the layer, of the expert) that are the same in all of them, in
/// order. `{*}` in native names stands for 0, 1, 2, … as far as there are tensors: the rule binds
/// all of them at once, number by number.
struct MapRule {
  std::vector<std::string> native;
  std::vector<std::string> disk;
  const Transform* transform = &kCopy;
  bool alternative = false;  // another layout: read where a folder has it, never written
};

/// Tensors on disk that carry nothing of the model; `*` stands for anything.
struct IgnoreRule {
  std::string pattern;
  std::string reason;
};

/// Tensors on disk that mean something this build cannot do.
struct RefuseRule {
  std::string pattern;
  std::string reason;
};

using Rule = std::variant<MapRule, IgnoreRule, RefuseRule>;

/// Whether `name` matches a glob of literal text and `*`.
bool matches_glob(std::string_view pattern, std::string_view name);

/// The numbers where `pattern` has `{}`; nothing when the name differs.
std::optional<std::vector<std::string>> match_numbers(std::string_view pattern,
                                                      std::string_view name);

/// `pattern` with its `{}` replaced, in order; those for which there is no number stay.
std::string with_numbers(std::string_view pattern, const std::vector<std::string>& numbers);

/// `pattern` with `{*}` replaced by `number`.
std::string with_star(std::string_view pattern, int64_t number);

}  // namespace headway::io
