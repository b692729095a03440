// Pillow's antialiased BILINEAR: two filter passes with 8-bit pixels between them, so their order shows.

#include <algorithm>
#include <cstring>
#include <utility>

#include "resampler.hpp"

namespace edgead {
namespace {

constexpr std::uint32_t WORD_BLOCK = 64;  // what vertical reads of a ring row at once

// Pillow 13 filters vertically first where that drops many more rows than columns; older releases never do.
bool vertical_first(const edgead_preprocess_options &o) {
  const std::int64_t rows_dropped = static_cast<std::int64_t>(o.source_height) - o.resize_height;
  const std::int64_t columns_dropped = static_cast<std::int64_t>(o.source_width) - o.resize_width;
  return rows_dropped > 0 && rows_dropped > 2 * columns_dropped;
}

}  // namespace

void Resampler::plan_pillow() {
  const auto &o = options_;
  const std::uint32_t lanes = kernels_.lanes;
  const FilterAxis columns = pillow_axis(o.source_width, o.resize_width, o.window_x, o.window_width);
  first_pixel_ = columns.first_sample();
  pixels_ = columns.end_sample() - first_pixel_;
  horizontal_ = quad_axis(columns, first_pixel_, kernels_);

  // Where quads of rows begin is free: take the phase at which outputs touch the fewest of them.
  const FilterAxis rows = pillow_axis(o.source_height, o.resize_height, o.window_y, o.window_height);
  for (std::int64_t phase = 0; phase < 4; ++phase) {
    const std::int64_t origin = static_cast<std::int64_t>(rows.first_sample()) - phase;
    QuadAxis quads = quad_axis(rows, origin, kernels_);
    if (phase > 0 && quads.weights.size() >= vertical_.weights.size()) continue;
    vertical_ = std::move(quads);
    origin_ = origin;
  }

  const std::size_t channels = format_.layout.channels;
  const std::size_t turned_stride = round_up(round_up(o.window_width, 4) * channels + 4, WORD_BLOCK);
  packed_.resize(round_up(horizontal_.end, 4) * channels * lanes);
  std::uint32_t new_rows = lanes / 4;  // that a step adds to the ring
  if (vertical_first(o)) {
    method_ = Method::pillow_vertical_first;
    new_rows = 1;
    const std::size_t row_bytes = static_cast<std::size_t>(pixels_) * format_.layout.bytes;
    ring_stride_ = round_up(row_bytes, WORD_BLOCK);
    filtered_.resize(lanes * round_up(row_bytes + READ_BEYOND, 64));
    turned_stride_ = turned_stride;
    turned_.resize(turned_stride_ * lanes / 4);
    for (int i = 0; i < 4; ++i) {
      std::int32_t weights[4] = {0, 0, 0, 0};
      weights[i] = 1 << 22;
      kernels_.encode_quad(weights, row_of_quad_[i]);
    }
  } else {
    method_ = Method::pillow;
    ring_stride_ = turned_stride;
  }
  std::uint32_t ring_rows = new_rows;
  while (ring_rows < vertical_.longest + new_rows) ring_rows *= 2;
  ring_mask_ = ring_rows - 1;
  ring_.resize(ring_stride_ * ring_rows);
}

// kernels_.lanes rows from ROI row y on, each safe to read READ_BEYOND bytes past its end. Rows outside of the
// ROI have no weight: any pixels will do.
const std::uint8_t *Resampler::row_group(const Frame &frame, std::int64_t y, std::size_t &stride) noexcept {
  const std::uint32_t lanes = kernels_.lanes, last = options_.source_height - 1;
  const std::size_t bytes = static_cast<std::size_t>(pixels_) * format_.layout.bytes;
  const bool direct = format_.kind == PixelFormat::Kind::direct;
  if (direct && y >= 0 && y + lanes - 1 <= last) {
    const std::uint8_t *first = row(frame, static_cast<std::uint32_t>(y), 0);
    const std::uint8_t *end = frame.data + (frame.height - 1) * frame.stride +
                              static_cast<std::size_t>(frame.width) * format_.bytes;
    stride = frame.stride;
    if (static_cast<std::size_t>(end - first) >= (lanes - 1) * stride + bytes + READ_BEYOND) return first;
  }
  for (std::uint32_t i = 0; i < lanes; ++i) {
    const std::int64_t wanted = std::clamp<std::int64_t>(y + i, 0, last);
    const std::uint8_t *pixels = row(frame, static_cast<std::uint32_t>(wanted), i);
    if (direct) std::memcpy(scratch_.data() + i * scratch_stride_, pixels, bytes);
  }
  stride = scratch_stride_;
  return scratch_.data();
}

void Resampler::run_pillow(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  const std::uint32_t group = kernels_.lanes / 4;
  const auto outputs = static_cast<std::uint32_t>(horizontal_.runs.size());
  std::uint32_t y = 0;
  for (std::uint32_t quad = 0; quad < vertical_.end; quad += group) {
    std::size_t stride = 0;
    const std::uint8_t *rows = row_group(frame, origin_ + 4 * static_cast<std::int64_t>(quad), stride);
    kernels_.pack_rows(rows, stride, pixels_, format_.layout, packed_.data());
    kernels_.horizontal(packed_.data(), horizontal_.runs.data(), horizontal_.weights.data(), outputs,
                        format_.layout.channels, ring_.data() + (quad & ring_mask_) * ring_stride_, ring_stride_);
    for (; y < options_.window_height; ++y, dst += dst_stride) {
      const QuadRun &run = vertical_.runs[y];
      if (run.first + run.count > quad + group) break;
      kernels_.vertical(ring_.data(), ring_stride_, ring_mask_, run, vertical_.weights.data(), columns_,
                        output_row(dst));
      finish_row(dst);
    }
  }
}

void Resampler::run_pillow_vertical_first(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  const std::uint32_t lanes = kernels_.lanes, last = options_.source_height - 1;
  const std::uint32_t row_bytes = pixels_ * format_.layout.bytes;
  const std::size_t filtered_stride = filtered_.size() / lanes;
  const auto outputs = static_cast<std::uint32_t>(horizontal_.runs.size());
  std::uint32_t y = 0;
  for (std::uint32_t quad = 0; quad < vertical_.end; ++quad) {
    const std::uint8_t *rows[4];
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::int64_t wanted = std::clamp<std::int64_t>(origin_ + 4 * static_cast<std::int64_t>(quad) + i, 0, last);
      rows[i] = row(frame, static_cast<std::uint32_t>(wanted), i);
    }
    kernels_.interleave(rows, row_bytes, ring_.data() + (quad & ring_mask_) * ring_stride_);
    while (y < options_.window_height && vertical_.runs[y].first + vertical_.runs[y].count <= quad + 1) {
      kernels_.vertical(ring_.data(), ring_stride_, ring_mask_, vertical_.runs[y], vertical_.weights.data(), row_bytes,
                        filtered_.data() + y % lanes * filtered_stride);
      ++y;
      if (y % lanes != 0 && y != options_.window_height) continue;
      kernels_.pack_rows(filtered_.data(), filtered_stride, pixels_, format_.layout, packed_.data());
      kernels_.horizontal(packed_.data(), horizontal_.runs.data(), horizontal_.weights.data(), outputs,
                          format_.layout.channels, turned_.data(), turned_stride_);
      for (std::uint32_t i = 0; i <= (y - 1) % lanes; ++i, dst += dst_stride) {
        kernels_.vertical(turned_.data(), turned_stride_, lanes / 4 - 1, {i / 4, 1, i % 4}, row_of_quad_[0], columns_,
                          output_row(dst));
        finish_row(dst);
      }
    }
  }
}

}  // namespace edgead
