// Hashes travel; values only when hashes differ. Not for: repairing anything.
#include "headway/engine/replica_check.h"

#include <cstddef>
#include <cstring>
#include <span>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/content_hash.h"
#include "headway/base/error.h"

namespace headway::engine {
namespace {

/// Norm of (this rank's tensor - rank `root`'s), from every rank.
at::Tensor distances(const at::Tensor& tensor, int64_t root, const dist::Transport& transport) {
  at::Tensor other = tensor.detach().cpu().to(at::kDouble).clone();
  const at::Tensor mine = other.clone();
  transport.broadcast(other, root);
  at::Tensor all = at::zeros({transport.size()}, at::kDouble);
  all[transport.rank()] = (mine - other).norm().item<double>();
  transport.all_reduce_sum(all);
  return all;
}

}  // namespace

uint64_t tensor_hash(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().cpu().contiguous();
  ContentHash hash;
  hash.field(static_cast<uint64_t>(flat.scalar_type()));
  hash.field(static_cast<uint64_t>(flat.dim()));
  for (const int64_t size : flat.sizes()) hash.field(static_cast<uint64_t>(size));
  hash.update(std::span(static_cast<const std::byte*>(flat.const_data_ptr()), flat.nbytes()));
  return hash.value()[0];
}

void check_replicas(const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                    const dist::Transport& transport) {
  const int64_t ranks = transport.size();
  const auto count = static_cast<int64_t>(parameters.size());
  if (ranks == 1 || count == 0) return;
  at::NoGradGuard no_grad;
  at::Tensor hashes = at::zeros({ranks, count}, at::kLong);
  int64_t* mine = hashes.data_ptr<int64_t>() + transport.rank() * count;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t hash = tensor_hash(parameters[i].second);
    std::memcpy(mine + i, &hash, sizeof(hash));
  }
  transport.all_reduce_sum(hashes);  // one process writes each place: no sum, a gather
  const int64_t* all = hashes.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t rank = 1; rank < ranks; ++rank) {
      if (all[rank * count + i] == all[i]) continue;
      const at::Tensor distance = distances(parameters[i].second, 0, transport);
      throw InternalError(fmt::format(
          "[checks] {} of rank {} and rank 0 along dp: allowed equal bits; the norm of their "
          "difference is {}",
          parameters[i].first, rank, distance[rank].item<double>()));
    }
  }
}

}  // namespace headway::engine
