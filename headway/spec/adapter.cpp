// The tensors an adapter adds. Not for: choosing what it stands beside.
#include "headway/spec/adapter.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"

namespace headway::spec {
namespace {

constexpr std::string_view kWeight = ".weight";

/// `name` without ".weight", which it ends in.
std::string stem_of(const std::string& name) {
  return name.substr(0, name.size() - kWeight.size());
}

/// One of the added tensors: `part` of projection `weight`, its rows in the order of segments.
class Part {
 public:
  Part(const TensorSpec& weight, const char* part, const char* disk_ending, bool decay)
      : disk_ending_(disk_ending), decay_(decay) {
    tensor_.name = stem_of(weight.name) + "." + part;
    tensor_.layer = weight.layer;
  }

  void add(const RowSegment& base, int64_t rows, InitRule init) {
    tensor_.segments.push_back(
        {base.name, rows_, rows, stem_of(base.disk_name) + disk_ending_, init, decay_});
    rows_ = checked_add<ConfigError>(rows_, rows, tensor_.name);
  }

  TensorSpec finish(std::vector<int64_t> columns) {
    tensor_.shape = {rows_};
    tensor_.shape.insert(tensor_.shape.end(), columns.begin(), columns.end());
    return std::move(tensor_);
  }

 private:
  TensorSpec tensor_;
  const char* disk_ending_;
  bool decay_;
  int64_t rows_ = 0;
};

void add_parts(const TensorSpec& weight, const AdapterSpec& adapter,
               std::vector<TensorSpec>& result) {
  Part a(weight, kAdapterA, kDiskA, true);
  Part b(weight, kAdapterB, kDiskB, true);
  Part magnitude(weight, kAdapterMagnitude, kDiskMagnitude, false);
  const int64_t inputs = weight.shape[1];
  const double spread = 1.0 / std::sqrt(3.0 * static_cast<double>(inputs));
  bool any = false;
  for (const RowSegment& segment : weight.segments) {
    if (!adapter.segments.contains(segment.disk_name)) continue;
    any = true;
    a.add(segment, adapter.rank, {InitKind::kNormal, spread});
    b.add(segment, segment.rows, {InitKind::kZeros});
    magnitude.add(segment, segment.rows, {InitKind::kOnes});
  }
  if (!any) return;
  result.push_back(a.finish({inputs}));
  result.push_back(b.finish({adapter.rank}));
  if (adapter.kind == AdapterKind::kDora) result.push_back(magnitude.finish({}));
}

}  // namespace

double AdapterSpec::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rank_stabilized ? std::sqrt(r) : r);
}

std::vector<TensorSpec> adapted(const std::vector<TensorSpec>& tensors,
                                const AdapterSpec& adapter) {
  std::vector<TensorSpec> result;
  std::set<std::string> left = adapter.segments;
  for (const TensorSpec& tensor : tensors) {
    result.push_back(tensor);
    result.back().trainable = false;
    if (!tensor.projection) continue;
    for (const RowSegment& segment : tensor.segments) left.erase(segment.disk_name);
    add_parts(tensor, adapter, result);
  }
  if (!left.empty()) {
    throw ConfigError(
        fmt::format("[adapter] segment = {}, allowed rows of a projection of the model; {} in all",
                    *left.begin(), left.size()));
  }
  return result;
}

}  // namespace headway::spec
