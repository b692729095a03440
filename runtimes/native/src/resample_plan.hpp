#pragma once
// Which source samples an output sample reads, and with which integer weights: one axis of a resize, reduced to
// the outputs of a window.

#include <cstdint>
#include <vector>

#include "kernels/resample.hpp"

namespace edgead {

// Weights of 2^22 = 1 of the outputs: weights[i * band + k] belongs to sample start[i] + k, k < count[i].
struct FilterAxis {
  std::vector<std::uint32_t> start, count;
  std::vector<std::int32_t> weights;
  std::uint32_t band = 0;

  std::uint32_t outputs() const { return static_cast<std::uint32_t>(start.size()); }
  std::uint32_t first_sample() const;  // of all outputs
  std::uint32_t end_sample() const;
};

// Pillow's antialiased BILINEAR, a triangle filter: `source` samples to `resized`, outputs first .. first + n - 1.
FilterAxis pillow_axis(std::uint32_t source, std::uint32_t resized, std::uint32_t first, std::uint32_t n);

// The same weights by quads of samples; sample `origin` (which may lie before 0) is byte 0 of quad 0.
struct QuadAxis {
  std::vector<QuadRun> runs;  // padded with empty runs to a multiple of 4
  std::vector<std::int32_t> weights;
  std::uint32_t longest = 0;  // quads of the longest run
  std::uint32_t end = 0;      // one past the last quad
};

QuadAxis quad_axis(const FilterAxis &axis, std::int64_t origin, const ResampleKernels &kernels);

// OpenCV's INTER_LINEAR for 8 bit: weights of 2^11 = 1; low and high are samples. Columns beyond the edge get
// the edge with weight 1; rows repeat the edge and keep both weights (that is what OpenCV does, and it shows
// in the rounding).
std::vector<LinearTap> opencv_axis(std::uint32_t source, std::uint32_t resized, std::uint32_t first,
                                   std::uint32_t n, bool columns);

}  // namespace edgead
