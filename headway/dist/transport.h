// Host collectives between the processes of one run.
// Not for: deciding what is exchanged (mesh.h and its users).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace headway::dist {

/// Collectives over all processes. Every process must call them in the same order. CPU tensors;
/// others are staged.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  /// tensor <- Σ over processes, in place; 16-bit floats are summed in fp32. The result has the
  /// same bits everywhere.
  virtual void all_reduce_sum(at::Tensor& tensor) const = 0;
  /// tensor <- process root's, in place.
  virtual void broadcast(at::Tensor& tensor, int64_t root) const = 0;
  virtual void barrier() const = 0;
};

/// The processes this one was started with: MPI's world in a build with HEADWAY_MPI, else this
/// process alone.
const Transport& world();

/// Whether this build can talk to other processes.
bool has_mpi();

}  // namespace headway::dist
