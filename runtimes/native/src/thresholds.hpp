#pragma once
// Thresholds that an operator may change while sessions read them: readers take no lock and see one whole set.

#include <atomic>
#include <mutex>

#include "bundle/manifest.hpp"

namespace edgead {

// A sequence lock: the count is odd while a writer is at work; a reader whose two looks at it differ tries again.
class SharedThresholds {
 public:
  explicit SharedThresholds(const ThresholdValues &values) { set(values); }

  void set(const ThresholdValues &values) {
    const std::lock_guard<std::mutex> one_writer(writers_);
    const double fields[] = {values.image, values.pixel, values.image_median, values.pixel_median};
    count_.fetch_add(1, std::memory_order_acq_rel);
    for (int i = 0; i < 4; ++i) fields_[i].store(fields[i], std::memory_order_release);
    count_.fetch_add(1, std::memory_order_release);
  }

  ThresholdValues get() const noexcept {
    for (;;) {
      const auto before = count_.load(std::memory_order_acquire);
      double fields[4];
      for (int i = 0; i < 4; ++i) fields[i] = fields_[i].load(std::memory_order_acquire);
      if ((before & 1U) == 0 && count_.load(std::memory_order_relaxed) == before)
        return {fields[0], fields[1], fields[2], fields[3]};
    }
  }

 private:
  std::mutex writers_;
  std::atomic<unsigned> count_{0};
  std::atomic<double> fields_[4];
};

}  // namespace edgead
