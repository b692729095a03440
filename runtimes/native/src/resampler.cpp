#include "resampler.hpp"


#include "cpu.hpp"

namespace edgead {
namespace {

constexpr PixelLayout GRAY{1, 1, 0, 0}, RGB{3, 3, 0, 2}, BGR{3, 3, 2, 0}, RGBA{4, 3, 0, 2}, BGRA{4, 3, 2, 0};
using Kind = PixelFormat::Kind;

// Index = EDGEAD_PIXEL_* - 1.
constexpr PixelFormat FORMATS[] = {
    {Kind::direct, 1, GRAY, 0, 0, 0}, {Kind::wide, 2, GRAY, 2, 0, 0},   {Kind::wide, 2, GRAY, 4, 0, 0},
    {Kind::wide, 2, GRAY, 8, 0, 0},   {Kind::direct, 3, RGB, 0, 0, 0},  {Kind::direct, 3, BGR, 0, 0, 0},
    {Kind::direct, 4, RGBA, 0, 0, 0}, {Kind::direct, 4, BGRA, 0, 0, 0}, {Kind::bayer, 1, RGB, 0, 0, 0},
    {Kind::bayer, 1, RGB, 0, 1, 0},   {Kind::bayer, 1, RGB, 0, 0, 1},   {Kind::bayer, 1, RGB, 0, 1, 1},
};

const ResampleKernels &select_kernels(std::uint64_t cpu_mask) noexcept {
  switch (select_level(cpu_mask)) {
#if EDGEAD_HAVE_avx512
    case Level::avx512: return avx512::resample_kernels;
#endif
#if EDGEAD_HAVE_avx2
    case Level::avx2: return avx2::resample_kernels;
#endif
#if EDGEAD_HAVE_neon
    case Level::neon: return neon::resample_kernels;
#endif
    default: return scalar::resample_kernels;
  }
}

}  // namespace

const PixelFormat *pixel_format_info(std::uint32_t pixel_format) noexcept {
  if (pixel_format < EDGEAD_PIXEL_MONO8 || pixel_format > EDGEAD_PIXEL_BAYER_BG8) return nullptr;
  return &FORMATS[pixel_format - 1];
}

Resampler::Resampler(const edgead_preprocess_options &options)
    : options_(options),
      format_(*pixel_format_info(options.pixel_format)),
      kernels_(select_kernels(options.cpu_mask)),
      columns_(options.window_width * format_.layout.channels) {
  const auto &o = options_;
  std::uint32_t rows = kernels_.lanes;
  if (o.source_width == o.resize_width && o.source_height == o.resize_height) {
    method_ = Method::copy;
    first_pixel_ = o.window_x;
    pixels_ = o.window_width;
    rows = 1;
  } else if (o.resampler == EDGEAD_RESAMPLER_PILLOW_BILINEAR) {
    plan_pillow();
  } else if (o.source_width == 2 * o.resize_width && o.source_height == 2 * o.resize_height) {
    method_ = Method::halve;
    first_pixel_ = 2 * o.window_x;
    pixels_ = 2 * o.window_width;
    rows = 2;
  } else {
    method_ = Method::linear;
    plan_linear();
    rows = 1;
  }
  scratch_stride_ = round_up(static_cast<std::size_t>(pixels_) * format_.layout.bytes + READ_BEYOND, 64);
  scratch_.resize(scratch_stride_ * rows);
  if (format_.layout.channels == 1) gray_.resize(o.window_width);
}

void Resampler::plan_linear() {
  const auto &o = options_;
  column_taps_ = opencv_axis(o.source_width, o.resize_width, o.window_x, o.window_width, true);
  row_taps_ = opencv_axis(o.source_height, o.resize_height, o.window_y, o.window_height, false);
  first_pixel_ = column_taps_.front().low;
  pixels_ = column_taps_.back().high + 1 - first_pixel_;
  for (LinearTap &tap : column_taps_) {
    tap.low = (tap.low - first_pixel_) * format_.layout.bytes;
    tap.high = (tap.high - first_pixel_) * format_.layout.bytes;
  }
  for (auto &row : blended_) row.resize(columns_ + 1);
}

void Resampler::run(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  switch (method_) {
    case Method::copy: return run_copy(frame, dst, dst_stride);
    case Method::pillow: return run_pillow(frame, dst, dst_stride);
    case Method::pillow_vertical_first: return run_pillow_vertical_first(frame, dst, dst_stride);
    case Method::linear: return run_linear(frame, dst, dst_stride);
    case Method::halve: return run_halve(frame, dst, dst_stride);
  }
}

// The needed pixels of ROI row y in format_.layout; converted ones lie in `slot` of the scratch.
const std::uint8_t *Resampler::row(const Frame &frame, std::uint32_t y, std::uint32_t slot) noexcept {
  const std::uint32_t left = frame.roi_x + first_pixel_, top = frame.roi_y + y;
  const std::uint8_t *source = frame.data + top * frame.stride + static_cast<std::size_t>(left) * format_.bytes;
  std::uint8_t *converted = scratch_.data() + slot * scratch_stride_;
  switch (format_.kind) {
    case Kind::direct: return source;
    case Kind::wide: kernels_.narrow(source, pixels_, format_.shift, converted); break;
    case Kind::bayer: {
      const BayerPlane plane{frame.data, frame.stride, frame.width, frame.height, format_.red_x, format_.red_y};
      kernels_.demosaic(plane, left, top, pixels_, converted);
    }
  }
  return converted;
}

std::uint8_t *Resampler::output_row(std::uint8_t *dst) noexcept { return gray_.empty() ? dst : gray_.data(); }

void Resampler::finish_row(std::uint8_t *dst) const noexcept {
  if (!gray_.empty()) kernels_.to_rgb(gray_.data(), format_.layout, options_.window_width, dst);
}

void Resampler::run_copy(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  for (std::uint32_t y = 0; y < options_.window_height; ++y, dst += dst_stride)
    kernels_.to_rgb(row(frame, options_.window_y + y, 0), format_.layout, pixels_, dst);
}

// ROI row y filtered along x; `keep` is a row that must stay in the other buffer.
const std::int16_t *Resampler::linear_row(const Frame &frame, std::uint32_t y, std::uint32_t keep) noexcept {
  for (int i = 0; i < 2; ++i)
    if (blended_row_[i] == y) return blended_[i].data();
  const int free = blended_row_[0] == keep ? 1 : 0;
  kernels_.linear_row(row(frame, y, 0), pixels_, format_.layout, column_taps_.data(), options_.window_width,
                      blended_[free].data());
  blended_row_[free] = y;
  return blended_[free].data();
}

void Resampler::run_linear(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  blended_row_[0] = blended_row_[1] = -1;  // of the last frame
  for (std::uint32_t y = 0; y < options_.window_height; ++y, dst += dst_stride) {
    const LinearTap &tap = row_taps_[y];
    const std::int16_t *upper = linear_row(frame, tap.low, tap.high);
    const std::int16_t *lower = linear_row(frame, tap.high, tap.low);
    kernels_.linear_blend(upper, lower, tap.weight_low, tap.weight_high, columns_, output_row(dst));
    finish_row(dst);
  }
}

void Resampler::run_halve(const Frame &frame, std::uint8_t *dst, std::size_t dst_stride) noexcept {
  for (std::uint32_t y = 0; y < options_.window_height; ++y, dst += dst_stride) {
    const std::uint32_t top = 2 * (options_.window_y + y);
    const std::uint8_t *upper = row(frame, top, 0);
    kernels_.halve(upper, row(frame, top + 1, 1), format_.layout, options_.window_width, output_row(dst));
    finish_row(dst);
  }
}

}  // namespace edgead
