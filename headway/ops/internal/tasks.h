// Runs many small tasks on the threads of at::parallel_for, handing them out one by one.
// Not for: reductions across tasks (a task writes only what is its own, so results do not depend on
// which thread took it).
#pragma once

#include <cstdint>
#include <functional>

namespace headway::ops::internal {

/// Workers a call of `run_tasks` from here would use: 1 inside a parallel region.
int64_t num_workers();

/// Calls body(worker, task) once for every task in [0, count), worker in [0, workers); tasks of one
/// worker run one after another, so a worker index may own scratch memory.
void run_tasks(int64_t workers, int64_t count,
               const std::function<void(int64_t worker, int64_t task)>& body);

}  // namespace headway::ops::internal
