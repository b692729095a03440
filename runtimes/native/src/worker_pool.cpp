#include "worker_pool.hpp"

namespace edgead {
namespace {

void wait(sem_t &semaphore) noexcept {
  while (::sem_wait(&semaphore) != 0) {
  }  // interrupted by a signal
}

}  // namespace

WorkerPool::WorkerPool(std::size_t workers) {
  ::sem_init(&start_, 0, 0);
  ::sem_init(&done_, 0, 0);
  try {
    threads_.reserve(workers);
    for (std::size_t i = 1; i < workers; ++i) threads_.emplace_back([this, i] { work(i); });
  } catch (...) {
    stop();
    throw;
  }
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() noexcept {
  job_ = nullptr;
  for (std::size_t i = 0; i < threads_.size(); ++i) ::sem_post(&start_);
  for (std::thread &thread : threads_) thread.join();
  ::sem_destroy(&start_);
  ::sem_destroy(&done_);
}

void WorkerPool::run(Job job, void *context) noexcept {
  job_ = job;
  context_ = context;
  for (std::size_t i = 0; i < threads_.size(); ++i) ::sem_post(&start_);
  job(context, 0);
  for (std::size_t i = 0; i < threads_.size(); ++i) wait(done_);
}

void WorkerPool::work(std::size_t worker) noexcept {
  for (;;) {
    wait(start_);
    if (job_ == nullptr) return;
    job_(context_, worker);
    ::sem_post(&done_);
  }
}

}  // namespace edgead
