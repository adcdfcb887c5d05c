// MPI's world. Initialised at first use, finalised at exit; collectives are called from one thread.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>

#include "headway/base/error.h"
#include "headway/dist/transport.h"

namespace headway::dist {
namespace {

/// MPI counts are int.
constexpr int64_t kLargestCount = int64_t{1} << 30;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw InternalError(std::string("[dist] ") + call + ": " + std::string(text, length));
}

MPI_Datatype type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return MPI_FLOAT;
    case at::kDouble: return MPI_DOUBLE;
    case at::kLong: return MPI_INT64_T;
    default:
      throw ShapeError(std::string("[dist] tensor dtype = ") + at::toString(tensor.scalar_type()) +
                       ", allowed float32 | float64 | int64 | 16-bit floats");
  }
}

bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

/// Runs `call(pointer, count, type)` over pieces that fit MPI's int counts.
template <class Call>
void in_pieces(at::Tensor& tensor, const Call& call) {
  const int64_t element = static_cast<int64_t>(tensor.element_size());
  auto* bytes = static_cast<char*>(tensor.data_ptr());
  for (int64_t done = 0; done < tensor.numel(); done += kLargestCount) {
    const int64_t count = std::min(kLargestCount, tensor.numel() - done);
    call(bytes + done * element, static_cast<int>(count), type_of(tensor));
  }
}

/// Applies `collective` to a contiguous CPU copy when `tensor` is not one already; 16-bit floats
/// travel as fp32.
template <class Collective>
void staged(at::Tensor& tensor, const Collective& collective) {
  at::NoGradGuard no_grad;
  const bool direct = tensor.device().is_cpu() && tensor.is_contiguous() && !is_half(tensor);
  if (direct) return collective(tensor);
  at::Tensor copy = tensor.detach()
                        .to(at::kCPU, is_half(tensor) ? at::kFloat : tensor.scalar_type())
                        .contiguous();
  if (copy.data_ptr() == tensor.data_ptr()) copy = copy.clone();
  collective(copy);
  tensor.detach().copy_(copy);
}

class MpiTransport : public Transport {
 public:
  MpiTransport() {
    int started = 0;
    MPI_Initialized(&started);
    if (!started) {
      int provided = 0;
      check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
      std::atexit([] { MPI_Finalize(); });
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    int value = 0;
    check(MPI_Comm_rank(MPI_COMM_WORLD, &value), "MPI_Comm_rank");
    rank_ = value;
    check(MPI_Comm_size(MPI_COMM_WORLD, &value), "MPI_Comm_size");
    size_ = value;
  }

  std::string_view name() const override { return "mpi"; }
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  void all_reduce_sum(at::Tensor& tensor) const override {
    if (size_ == 1) return;
    staged(tensor, [](at::Tensor& flat) {
      in_pieces(flat, [](void* data, int count, MPI_Datatype type) {
        check(MPI_Allreduce(MPI_IN_PLACE, data, count, type, MPI_SUM, MPI_COMM_WORLD),
              "MPI_Allreduce");
      });
    });
    // Reduction trees may round differently on each rank: one process decides the bits.
    broadcast(tensor, 0);
  }

  void broadcast(at::Tensor& tensor, int64_t root) const override {
    if (size_ == 1) return;
    staged(tensor, [root](at::Tensor& flat) {
      in_pieces(flat, [root](void* data, int count, MPI_Datatype type) {
        check(MPI_Bcast(data, count, type, static_cast<int>(root), MPI_COMM_WORLD), "MPI_Bcast");
      });
    });
  }

  void barrier() const override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }

 private:
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

}  // namespace

const Transport& world() {
  static const MpiTransport transport;
  return transport;
}

bool has_mpi() { return true; }

}  // namespace headway::dist
