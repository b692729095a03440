#pragma once
// The preprocessor by definition: one pixel at a time, whole images, no windows, no instruction sets. Tests
// compare every kernel level with it; it shares nothing with them but the weights of resample_plan.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "edgead/edgead.h"
#include "resample_plan.hpp"

namespace edgead::reference {

struct Rgb {
  std::uint32_t width, height;
  std::vector<std::uint8_t> bytes;

  Rgb(std::uint32_t w, std::uint32_t h) : width(w), height(h), bytes(std::size_t{3} * w * h) {}
  std::uint8_t &at(std::uint32_t x, std::uint32_t y, std::uint32_t channel) {
    return bytes[(std::size_t{y} * width + x) * 3 + channel];
  }
  std::uint8_t at(std::uint32_t x, std::uint32_t y, std::uint32_t channel) const {
    return bytes[(std::size_t{y} * width + x) * 3 + channel];
  }
};

// 0 red, 1 green, 2 blue: the colour that a Bayer sensor sees at (x, y).
inline std::uint32_t bayer_colour(std::uint32_t pixel_format, std::uint32_t x, std::uint32_t y) {
  const char *rows[4] = {"RGGB", "GRBG", "GBRG", "BGGR"};
  const char colour = rows[pixel_format - EDGEAD_PIXEL_BAYER_RG8][(y % 2) * 2 + x % 2];
  return colour == 'R' ? 0 : (colour == 'G' ? 1 : 2);
}

// Rounded mean of the neighbours of that colour that lie nearest; the border repeats what lies inside.
inline std::uint8_t demosaic(const edgead_image &image, std::uint32_t x, std::uint32_t y, std::uint32_t channel) {
  const auto *data = static_cast<const std::uint8_t *>(image.data);
  x = std::clamp(x, 1U, image.width - 2);
  y = std::clamp(y, 1U, image.height - 2);
  if (bayer_colour(image.pixel_format, x, y) == channel) return data[y * image.row_stride_bytes + x];
  unsigned edges = 0, edge_sum = 0, corners = 0, corner_sum = 0;
  for (int dy = -1; dy <= 1; ++dy)
    for (int dx = -1; dx <= 1; ++dx) {
      const std::uint32_t nx = x + static_cast<std::uint32_t>(dx), ny = y + static_cast<std::uint32_t>(dy);
      if ((dx == 0 && dy == 0) || bayer_colour(image.pixel_format, nx, ny) != channel) continue;
      const unsigned value = data[ny * image.row_stride_bytes + nx];
      if (dx == 0 || dy == 0) {
        ++edges;
        edge_sum += value;
      } else {
        ++corners;
        corner_sum += value;
      }
    }
  return static_cast<std::uint8_t>(edges > 0 ? (edge_sum + edges / 2) / edges : (corner_sum + corners / 2) / corners);
}

inline std::uint8_t sample(const edgead_image &image, std::uint32_t x, std::uint32_t y, std::uint32_t channel) {
  const auto *row = static_cast<const std::uint8_t *>(image.data) + y * image.row_stride_bytes;
  switch (image.pixel_format) {
    case EDGEAD_PIXEL_MONO8: return row[x];
    case EDGEAD_PIXEL_MONO10: return static_cast<std::uint8_t>(std::min((row[2 * x] | row[2 * x + 1] << 8) >> 2, 255));
    case EDGEAD_PIXEL_MONO12: return static_cast<std::uint8_t>(std::min((row[2 * x] | row[2 * x + 1] << 8) >> 4, 255));
    case EDGEAD_PIXEL_MONO16: return row[2 * x + 1];
    case EDGEAD_PIXEL_RGB8: return row[3 * x + channel];
    case EDGEAD_PIXEL_BGR8: return row[3 * x + 2 - channel];
    case EDGEAD_PIXEL_RGBA8: return row[4 * x + channel];
    case EDGEAD_PIXEL_BGRA8: return row[4 * x + 2 - channel];
    default: return demosaic(image, x, y, channel);
  }
}

inline Rgb region_of_interest(const edgead_image &image) {
  Rgb rgb(image.roi_width, image.roi_height);
  for (std::uint32_t y = 0; y < rgb.height; ++y)
    for (std::uint32_t x = 0; x < rgb.width; ++x)
      for (std::uint32_t c = 0; c < 3; ++c) rgb.at(x, y, c) = sample(image, image.roi_x + x, image.roi_y + y, c);
  return rgb;
}

inline std::uint8_t rounded(std::int64_t sum) {
  return static_cast<std::uint8_t>(std::min<std::int64_t>((sum + (1 << 21)) >> 22, 255));
}

inline Rgb pillow_columns(const Rgb &source, std::uint32_t width) {
  const FilterAxis axis = pillow_axis(source.width, width, 0, width);
  Rgb result(width, source.height);
  for (std::uint32_t y = 0; y < result.height; ++y)
    for (std::uint32_t x = 0; x < width; ++x)
      for (std::uint32_t c = 0; c < 3; ++c) {
        std::int64_t sum = 0;
        for (std::uint32_t k = 0; k < axis.count[x]; ++k)
          sum += std::int64_t{axis.weights[std::size_t{x} * axis.band + k]} * source.at(axis.start[x] + k, y, c);
        result.at(x, y, c) = rounded(sum);
      }
  return result;
}

inline Rgb pillow_rows(const Rgb &source, std::uint32_t height) {
  const FilterAxis axis = pillow_axis(source.height, height, 0, height);
  Rgb result(source.width, height);
  for (std::uint32_t y = 0; y < height; ++y)
    for (std::uint32_t x = 0; x < result.width; ++x)
      for (std::uint32_t c = 0; c < 3; ++c) {
        std::int64_t sum = 0;
        for (std::uint32_t k = 0; k < axis.count[y]; ++k)
          sum += std::int64_t{axis.weights[std::size_t{y} * axis.band + k]} * source.at(x, axis.start[y] + k, c);
        result.at(x, y, c) = rounded(sum);
      }
  return result;
}

inline Rgb pillow(const Rgb &source, std::uint32_t width, std::uint32_t height) {
  const std::int64_t rows_dropped = std::int64_t{source.height} - height;
  if (rows_dropped > 0 && rows_dropped > 2 * (std::int64_t{source.width} - width))
    return pillow_columns(pillow_rows(source, height), width);
  return pillow_rows(pillow_columns(source, width), height);
}

inline Rgb opencv(const Rgb &source, std::uint32_t width, std::uint32_t height) {
  Rgb result(width, height);
  const bool halve = source.width == 2 * width && source.height == 2 * height;
  const auto columns = opencv_axis(source.width, width, 0, width, true);
  const auto rows = opencv_axis(source.height, height, 0, height, false);
  for (std::uint32_t y = 0; y < height; ++y)
    for (std::uint32_t x = 0; x < width; ++x)
      for (std::uint32_t c = 0; c < 3; ++c) {
        if (halve) {
          result.at(x, y, c) = static_cast<std::uint8_t>(
              (source.at(2 * x, 2 * y, c) + source.at(2 * x + 1, 2 * y, c) + source.at(2 * x, 2 * y + 1, c) +
               source.at(2 * x + 1, 2 * y + 1, c) + 2) >> 2);
          continue;
        }
        const LinearTap &h = columns[x], &v = rows[y];
        const auto along = [&](std::uint32_t row) {
          return (source.at(h.low, row, c) * h.weight_low + source.at(h.high, row, c) * h.weight_high) >> 4;
        };
        const int upper = along(v.low) * v.weight_low >> 16, lower = along(v.high) * v.weight_high >> 16;
        result.at(x, y, c) = static_cast<std::uint8_t>((upper + lower + 2) >> 2);
      }
  return result;
}

// The whole resized image of `image` (its ROI filled in).
inline Rgb resize(const edgead_image &image, std::uint32_t resampler, std::uint32_t width, std::uint32_t height) {
  const Rgb source = region_of_interest(image);
  if (source.width == width && source.height == height) return source;
  return resampler == EDGEAD_RESAMPLER_PILLOW_BILINEAR ? pillow(source, width, height) : opencv(source, width, height);
}

}  // namespace edgead::reference
