#pragma once
// Threads that wait for one job at a time. Made once; running a job allocates nothing.

#include <semaphore.h>

#include <cstddef>
#include <thread>
#include <vector>

namespace edgead {

class WorkerPool {
 public:
  using Job = void (*)(void *context, std::size_t worker) noexcept;

  // `workers` counts the caller of run(). Throws std::system_error, std::bad_alloc.
  explicit WorkerPool(std::size_t workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool &) = delete;
  WorkerPool &operator=(const WorkerPool &) = delete;

  std::size_t workers() const noexcept { return threads_.size() + 1; }
  // job(context, 0) on this thread and job(context, 1 ..) on the others, all at once; returns when all are done.
  void run(Job job, void *context) noexcept;

 private:
  void work(std::size_t worker) noexcept;
  void stop() noexcept;

  sem_t start_, done_;
  Job job_ = nullptr;  // NULL: stop
  void *context_ = nullptr;
  std::vector<std::thread> threads_;
};

}  // namespace edgead
