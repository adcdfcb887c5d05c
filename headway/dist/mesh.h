// The processes of a run as a mesh of named axes; a size-1 axis is the identity.
// Not for: the transport itself (transport.h).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "headway/dist/transport.h"

namespace headway::dist {

enum class Axis { kData, kPipeline, kContext, kTensor, kExpert };
inline constexpr int kNumAxes = 5;

/// Name of an axis as users write it: dp, pp, cp, tp, ep.
std::string_view axis_name(Axis axis);

struct MeshShape {
  std::array<int64_t, kNumAxes> sizes{1, 1, 1, 1, 1};  // by Axis
};

class Mesh {
 public:
  /// All processes of `transport` along the data axis.
  explicit Mesh(const Transport& transport = world());

  /// Errors: ConfigError when a size is < 1 or the product is not the number of processes;
  /// UnsupportedError for an axis other than dp larger than 1.
  Mesh(const Transport& transport, const MeshShape& shape);

  int64_t size(Axis axis) const { return shape_.sizes[static_cast<int>(axis)]; }
  /// This process's coordinate along the axis.
  int64_t coordinate(Axis axis) const { return axis == Axis::kData ? transport_->rank() : 0; }
  bool is_first() const { return transport_->rank() == 0; }

  /// tensor <- Σ along the axis, in place.
  void all_reduce_sum(at::Tensor& tensor, Axis axis) const;
  /// tensor <- that of the axis's first process, in place.
  void broadcast(at::Tensor& tensor, Axis axis) const;
  void barrier() const { transport_->barrier(); }

 private:
  const Transport* transport_;
  MeshShape shape_;
};

}  // namespace headway::dist
