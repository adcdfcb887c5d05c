// The mesh and its collectives over whichever transport was built. Not for: the transports.
#include "headway/dist/mesh.h"

#include <string>

#include "headway/base/error.h"

namespace headway::dist {
namespace {

constexpr std::array<std::string_view, kNumAxes> kNames = {"dp", "pp", "cp", "tp", "ep"};

void check_shape(const MeshShape& shape, int64_t processes) {
  int64_t product = 1;
  for (int i = 0; i < kNumAxes; ++i) {
    const int64_t size = shape.sizes[i];
    if (size < 1) {
      throw ConfigError("[mesh] " + std::string(kNames[i]) + " = " + std::to_string(size) +
                        ", allowed 1 or more");
    }
    if (size > 1 && static_cast<Axis>(i) != Axis::kData) {
      throw UnsupportedError("[mesh] " + std::string(kNames[i]) + " = " + std::to_string(size) +
                             ", allowed 1: this build shards along dp only");
    }
    product *= size;
  }
  if (product != processes) {
    throw ConfigError("[mesh] product of the axes = " + std::to_string(product) +
                      ", allowed the number of processes (= " + std::to_string(processes) + ")");
  }
}

}  // namespace

std::string_view axis_name(Axis axis) { return kNames[static_cast<int>(axis)]; }

Mesh::Mesh(const Transport& transport) : transport_(&transport) {
  shape_.sizes[static_cast<int>(Axis::kData)] = transport.size();
}

Mesh::Mesh(const Transport& transport, const MeshShape& shape)
    : transport_(&transport), shape_(shape) {
  check_shape(shape, transport.size());
}

void Mesh::all_reduce_sum(at::Tensor& tensor, Axis axis) const {
  if (size(axis) > 1) transport_->all_reduce_sum(tensor);
}

void Mesh::broadcast(at::Tensor& tensor, Axis axis) const {
  if (size(axis) > 1) transport_->broadcast(tensor, 0);
}

}  // namespace headway::dist
