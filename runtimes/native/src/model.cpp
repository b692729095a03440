#include "model.hpp"

#include <algorithm>
#include <chrono>

namespace edgead {

constexpr std::uint64_t LEAST_WARM_NS = 1'000'000;

JudgeSlot::~JudgeSlot() {
  delete pending_.load(std::memory_order_acquire);
  free_replaced();
}

Judge &JudgeSlot::current() noexcept {
  if (pending_.load(std::memory_order_relaxed) != nullptr) {
    Judge *const next = pending_.exchange(nullptr, std::memory_order_acq_rel);
    if (next != nullptr) {
      Judge *const old = current_.release();
      current_.reset(next);
      old->older = replaced_.load(std::memory_order_relaxed);
      while (!replaced_.compare_exchange_weak(old->older, old, std::memory_order_release, std::memory_order_relaxed)) {
      }
    }
  }
  return *current_;
}

std::vector<std::pair<FrameKind, std::uint32_t>> JudgeSlot::kinds() const {
  const std::lock_guard<std::mutex> lock(kinds_mutex_);
  return kinds_;
}

void JudgeSlot::plan(Judge &judge, const FrameKind &kind, std::uint32_t resolution) {
  judge.plan(kind, resolution);
  const std::lock_guard<std::mutex> lock(kinds_mutex_);
  kinds_ = judge.kinds();
}

void JudgeSlot::hand_over(std::unique_ptr<Judge> next) noexcept {
  delete pending_.exchange(next.release(), std::memory_order_acq_rel);
}

void JudgeSlot::free_replaced() noexcept {
  Judge *judge = replaced_.exchange(nullptr, std::memory_order_acquire);
  while (judge != nullptr) delete std::exchange(judge, judge->older);
}

Model::Model(const std::string &path, LoadOptions options, bool skip_self_test)
    : options_(std::move(options)), skip_self_test_(skip_self_test), loaded_(open(path, 1)) {}

Model::~Model() { stop_keep_warm(); }

std::shared_ptr<const Loaded> Model::open(const std::string &path, std::uint32_t generation) const {
  auto loaded = load(path, options_, generation);
  if (loaded->engine && skip_self_test_ && !loaded->target->verified)
    raise(EDGEAD_ERR_INVALID_ARGUMENT,
          "%s was not verified where it was compiled, so its self-test cannot be skipped; open it without "
          "skip_self_test", loaded->target->target.c_str());
  if (loaded->engine && !skip_self_test_) {
    const edgead_self_test_result found = self_test(loaded);
    if (found.passed == 0) raise(EDGEAD_ERR_SELF_TEST, "%s", self_test_problem(*loaded, found).c_str());
  }
  return loaded;
}

std::shared_ptr<const Loaded> Model::loaded() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return loaded_;
}

std::shared_ptr<JudgeSlot> Model::add_session() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!loaded_->engine)
    raise(EDGEAD_ERR_INVALID_ARGUMENT, "the model was opened without_engine; open it with one to make sessions");
  auto slot = std::make_shared<JudgeSlot>(std::make_unique<Judge>(loaded_));
  sessions_.push_back(slot);
  return slot;
}

void Model::remove_session(const std::shared_ptr<JudgeSlot> &slot) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  sessions_.erase(std::remove(sessions_.begin(), sessions_.end(), slot), sessions_.end());
}

void Model::reload(const std::string &path) {
  using namespace std::chrono_literals;
  const std::lock_guard<std::mutex> one_at_a_time(reload_mutex_);
  const auto before = loaded();
  auto next = open(path, before->generation + 1);
  const PostRecipe &now = before->manifest().post, &then = next->manifest().post;
  if (now.output_height != then.output_height || now.output_width != then.output_width)
    raise(EDGEAD_ERR_INVALID_ARGUMENT,
          "%s gives maps of %ux%u, the sessions' buffers are for %ux%u; open it as a model of its own", path.c_str(),
          then.output_width, then.output_height, now.output_width, now.output_height);
  std::vector<std::shared_ptr<JudgeSlot>> handed;
  {
    // Sessions run on meanwhile; only making and removing one waits.
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::unique_ptr<Judge>> judges;
    for (const auto &slot : sessions_) {
      auto judge = std::make_unique<Judge>(next);
      for (const auto &[kind, resolution] : slot->kinds()) {
        try {
          judge->plan(kind, resolution);
        } catch (const Error &error) {
          raise(error.status, "%s does not take the frames of a session: %s", path.c_str(), error.message.c_str());
        }
      }
      judge->warm_up(1);
      judges.push_back(std::move(judge));
    }
    for (std::size_t i = 0; i < judges.size(); ++i) sessions_[i]->hand_over(std::move(judges[i]));
    loaded_ = next;
    handed = sessions_;
  }
  // Give busy sessions a moment to take over, so that the old engine's memory goes soon; idle ones keep theirs until
  // they run.
  const auto patience = std::chrono::steady_clock::now() + 1s;
  const auto any_waiting = [&] {
    return std::any_of(handed.begin(), handed.end(), [](const auto &slot) { return slot->waiting(); });
  };
  while (any_waiting() && std::chrono::steady_clock::now() < patience) std::this_thread::sleep_for(1ms);
  for (const auto &slot : handed) slot->free_replaced();
}

void Model::keep_warm(std::uint64_t interval_ns) {
  const std::lock_guard<std::mutex> control(warm_control_mutex_);
  stop_keep_warm();
  if (interval_ns == 0) return;
  if (interval_ns < LEAST_WARM_NS)
    raise(EDGEAD_ERR_INVALID_ARGUMENT, "keep-warm every %llu ns would leave no time to frames; use at least 1 ms",
          static_cast<unsigned long long>(interval_ns));
  if (!loaded()->engine) raise(EDGEAD_ERR_INVALID_ARGUMENT, "the model was opened without_engine: nothing to keep warm");
  warm_stop_ = false;
  warm_thread_ = std::thread([this, interval_ns] { warm_loop(interval_ns); });
}

void Model::stop_keep_warm() noexcept {
  {
    const std::lock_guard<std::mutex> lock(warm_mutex_);
    warm_stop_ = true;
  }
  warm_wake_.notify_all();
  if (warm_thread_.joinable()) warm_thread_.join();
}

void Model::warm_loop(std::uint64_t interval_ns) {
  std::unique_ptr<Judge> judge;
  std::uint64_t last_warm = clock_ns();
  std::unique_lock<std::mutex> lock(warm_mutex_);
  while (!warm_stop_) {
    const std::uint64_t now = clock_ns();
    const std::uint64_t due = std::max(last_warm, last_run_ns_.load(std::memory_order_relaxed)) + interval_ns;
    if (now < due) {
      warm_wake_.wait_for(lock, std::chrono::nanoseconds(std::min<std::uint64_t>(due - now, 1'000'000'000)));
      continue;
    }
    lock.unlock();
    try {
      const auto latest = loaded();
      if (!judge || &judge->loaded() != latest.get()) judge = std::make_unique<Judge>(latest);
      judge->warm_up(1);
    } catch (const Error &error) {
      judge.reset();  // the sessions meet the same failure and report it
      if (options_.engine.log) options_.engine.log(EDGEAD_LOG_WARNING, "keep-warm failed: " + error.message);
    } catch (...) {
      judge.reset();
    }
    last_warm = clock_ns();
    lock.lock();
  }
}

}  // namespace edgead
