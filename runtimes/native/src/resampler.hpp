#pragma once
// A resize that is planned once and run per frame: everything that depends on sizes and formats is made by the
// constructor; run neither allocates nor throws.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "edgead/edgead.h"
#include "kernels/resample.hpp"
#include "resample_plan.hpp"

namespace edgead {

// What the bytes of a pixel format mean.
struct PixelFormat {
  enum class Kind { direct, wide, bayer };  // rows usable as they lie; 16-bit gray; raw sensor pattern
  Kind kind;
  std::uint32_t bytes;  // per pixel in the frame
  PixelLayout layout;   // of a row once it is 8 bit
  std::uint32_t shift;  // wide: value >> shift
  std::uint32_t red_x, red_y;  // bayer: parity of the red pixels
};

// NULL where `pixel_format` is none of EDGEAD_PIXEL_*.
const PixelFormat *pixel_format_info(std::uint32_t pixel_format) noexcept;

// A checked frame; the ROI lies inside it and has the planned size.
struct Frame {
  const std::uint8_t *data;
  std::size_t stride;
  std::uint32_t width, height;
  std::uint32_t roi_x, roi_y;
};

constexpr std::size_t READ_BEYOND = 16;  // what pack_rows may read past a row

constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

class Resampler {
 public:
  // `options` is checked, its window filled in. Throws std::bad_alloc.
  explicit Resampler(const edgead_preprocess_options &options);

  void run(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;

 private:
  enum class Method { copy, pillow, pillow_vertical_first, linear, halve };

  void plan_pillow();
  void plan_linear();
  void run_copy(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;
  void run_pillow(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;
  void run_pillow_vertical_first(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;
  void run_linear(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;
  void run_halve(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept;

  const std::uint8_t *row(const Frame &frame, std::uint32_t y, std::uint32_t slot) noexcept;
  const std::uint8_t *row_group(const Frame &frame, std::int64_t y, std::size_t &stride) noexcept;
  const std::int16_t *linear_row(const Frame &frame, std::uint32_t y, std::uint32_t keep) noexcept;
  std::uint8_t *output_row(std::uint8_t *dst) noexcept;
  void finish_row(std::uint8_t *dst) const noexcept;

  edgead_preprocess_options options_;
  const PixelFormat &format_;
  const ResampleKernels &kernels_;
  Method method_;
  std::uint32_t columns_;               // bytes of an output row before gray becomes RGB
  std::uint32_t first_pixel_ = 0;       // needed pixels of an ROI row
  std::uint32_t pixels_ = 0;
  std::size_t scratch_stride_ = 0;
  std::vector<std::uint8_t> scratch_;   // source rows as 8 bit, with room to read beyond
  std::vector<std::uint8_t> gray_;      // one output row

  QuadAxis horizontal_, vertical_;      // pillow
  std::int64_t origin_ = 0;             // ROI row of byte 0 of quad 0
  std::vector<std::uint32_t> packed_, ring_;
  std::size_t ring_stride_ = 0;
  std::uint32_t ring_mask_ = 0;
  std::vector<std::uint8_t> filtered_;  // vertical first: lanes rows that are filtered vertically
  std::vector<std::uint32_t> turned_;   // the same, filtered horizontally too
  std::size_t turned_stride_ = 0;
  std::int32_t row_of_quad_[4][4] = {};  // encoded weights that pick one byte of a quad

  std::vector<LinearTap> column_taps_, row_taps_;  // linear
  std::vector<std::int16_t> blended_[2];
  std::int64_t blended_row_[2] = {-1, -1};
};

}  // namespace edgead
