#pragma once
// A model: the bundle in use, its sessions, and what happens to all of them at once (reload, keep-warm).

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "judge.hpp"
#include "loaded.hpp"

namespace edgead {

// A session's judge and its successors. The session's thread is the only one that runs judges; a reload leaves the
// next one in `pending`. Replaced ones go on the list `replaced`, for the model to free: never in the hot path.
class JudgeSlot {
 public:
  explicit JudgeSlot(std::unique_ptr<Judge> first) : current_(std::move(first)) {}
  JudgeSlot(const JudgeSlot &) = delete;
  JudgeSlot &operator=(const JudgeSlot &) = delete;
  ~JudgeSlot();

  // The judge to use now; for the session's thread.
  Judge &current() noexcept;
  // What a successor must be ready for; any thread.
  std::vector<std::pair<FrameKind, std::uint32_t>> kinds() const;
  // Plans in `judge`, the one that current() gave; for the session's thread. Throws Error.
  void plan(Judge &judge, const FrameKind &kind, std::uint32_t resolution);

  // For the model's thread: leaves a successor; frees what was replaced; whether a successor still waits.
  void hand_over(std::unique_ptr<Judge> next) noexcept;
  void free_replaced() noexcept;
  bool waiting() const noexcept { return pending_.load(std::memory_order_acquire) != nullptr; }

 private:
  std::unique_ptr<Judge> current_;
  std::atomic<Judge *> pending_{nullptr};
  std::atomic<Judge *> replaced_{nullptr};
  mutable std::mutex kinds_mutex_;  // held while planning and by a reload, never by a planned run
  std::vector<std::pair<FrameKind, std::uint32_t>> kinds_;
};

class Model {
 public:
  // Throws Error, also where the self-test fails.
  Model(const std::string &path, LoadOptions options, bool skip_self_test);
  ~Model();

  std::shared_ptr<const Loaded> loaded() const;
  void reload(const std::string &path);
  void keep_warm(std::uint64_t interval_ns);

  std::shared_ptr<JudgeSlot> add_session();
  void remove_session(const std::shared_ptr<JudgeSlot> &slot) noexcept;
  // A session has begun a frame: keep-warm waits from here.
  void touch(std::uint64_t now_ns) noexcept { last_run_ns_.store(now_ns, std::memory_order_relaxed); }

 private:
  std::shared_ptr<const Loaded> open(const std::string &path, std::uint32_t generation) const;
  void stop_keep_warm() noexcept;
  void warm_loop(std::uint64_t interval_ns);

  const LoadOptions options_;
  const bool skip_self_test_;
  std::mutex reload_mutex_;     // one reload at a time
  mutable std::mutex mutex_;    // of the two fields below
  std::shared_ptr<const Loaded> loaded_;
  std::vector<std::shared_ptr<JudgeSlot>> sessions_;

  std::atomic<std::uint64_t> last_run_ns_{0};
  std::mutex warm_control_mutex_;  // of starting and stopping the thread
  std::thread warm_thread_;
  std::mutex warm_mutex_;
  std::condition_variable warm_wake_;
  bool warm_stop_ = false;
};

}  // namespace edgead

// The handles of the C interface.
struct edgead_model {
  std::shared_ptr<edgead::Model> model;
};
