// One process: every collective is the identity. The other source file behind transport.h is
// transport_mpi.cpp.
#include "headway/dist/transport.h"

namespace headway::dist {
namespace {

class SingleTransport : public Transport {
 public:
  std::string_view name() const override { return "single"; }
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  void all_reduce_sum(at::Tensor&) const override {}
  void broadcast(at::Tensor&, int64_t) const override {}
  void barrier() const override {}
};

}  // namespace

const Transport& world() {
  static const SingleTransport transport;
  return transport;
}

bool has_mpi() { return false; }

}  // namespace headway::dist
