// Tasks handed out one by one to the threads of at::parallel_for. Not for: reductions.
#include "headway/ops/internal/tasks.h"

#include <algorithm>
#include <atomic>

#include <ATen/Parallel.h>

namespace headway::ops::internal {

int64_t num_workers() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

void run_tasks(int64_t workers, int64_t count, const std::function<void(int64_t, int64_t)>& body) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min({workers, num_workers(), count}), 1,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t worker = begin; worker < end; ++worker) {
                       for (int64_t task = next++; task < count; task = next++) body(worker, task);
                     }
                   });
}

}  // namespace headway::ops::internal
