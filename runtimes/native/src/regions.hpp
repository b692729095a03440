#pragma once
// 8-connected regions of a mask that is seen one row at a time. Memory depends on the width alone: a region that
// the current row does not touch is finished and leaves for the caller's buffer.

#include <cstddef>
#include <cstdint>

#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/post.hpp"

namespace edgead {

class RegionFinder {
 public:
  [[nodiscard]] bool allocate(std::size_t width) noexcept;

  // Regions go to out[0 .. capacity), those with the highest peaks where there are more.
  void begin(edgead_region *out, std::uint32_t capacity, std::uint32_t min_area) noexcept;
  // mask: width bytes, 0 or 255; values: the map row.
  void add_row(std::uint32_t y, const std::uint8_t *mask, const float *values, const PostKernels &kernels) noexcept;
  void add_empty_row() noexcept;
  // Sorts what was found: peak descending, then y, then x of the box.
  void finish() noexcept;

  std::uint32_t count() const noexcept { return count_; }
  std::uint32_t total() const noexcept { return total_; }

 private:
  struct Run {
    std::uint32_t first, last;  // columns, both inside
    std::uint32_t node;
  };
  // A region in the making. Merged regions point at the one that took them in.
  struct Node {
    std::uint32_t parent;
    std::uint32_t left, top, right, bottom;  // all inside
    std::uint32_t area;
    float peak;
  };

  std::uint32_t root(std::uint32_t node) noexcept;
  void merge(std::uint32_t into, std::uint32_t from) noexcept;
  void close_previous(std::uint32_t y) noexcept;
  void emit(const Node &node) noexcept;

  std::size_t width_ = 0;
  Buffer<Run> runs_[2];  // previous and current row, swapped by `current_`
  Buffer<Node> nodes_;
  Buffer<std::uint32_t> free_;
  std::size_t free_count_ = 0;
  std::size_t run_count_[2] = {0, 0};
  unsigned current_ = 0;
  edgead_region *out_ = nullptr;
  std::uint32_t capacity_ = 0, min_area_ = 1, count_ = 0, total_ = 0;
};

}  // namespace edgead
