// Splitting work over the threads that the caller lends.
#ifndef QCOMPILER_CPU_PARALLEL_H_
#define QCOMPILER_CPU_PARALLEL_H_

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace qcompiler {
namespace cpu {

// Part `index` of [0, total) in `parts` nearly equal parts whose borders are multiples of `grain`.
struct Part {
  std::int64_t begin, end;
  Part(std::int64_t total, std::int64_t grain, std::int64_t parts, std::int64_t index) {
    const std::int64_t grains = (total + grain - 1) / grain;
    begin = grains * index / parts * grain;
    end = grains * (index + 1) / parts * grain;
    if (begin > total) begin = total;
    if (end > total) end = total;
  }
};

// Runs task(worker, i) for i in [0, tasks), worker w taking w, w + workers, ...; scratch belongs to workers.
template <typename Task>
void run_tasks(const Parallel& parallel, std::int64_t tasks, const Task& task) {
  struct Job {
    const Task* task;
    std::int64_t tasks, workers;
    static void run(void* arg, std::size_t worker) {
      const Job& job = *static_cast<const Job*>(arg);
      for (std::int64_t i = static_cast<std::int64_t>(worker); i < job.tasks; i += job.workers) {
        (*job.task)(static_cast<int>(worker), i);
      }
    }
  };
  const std::int64_t threads = parallel.parallel_for == nullptr || parallel.threads < 1 ? 1 : parallel.threads;
  Job job{&task, tasks, tasks < threads ? tasks : threads};
  if (job.workers <= 1) {
    Job::run(&job, 0);
  } else {
    parallel.parallel_for(parallel.ctx, static_cast<std::size_t>(job.workers), &Job::run, &job);
  }
}

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_PARALLEL_H_
