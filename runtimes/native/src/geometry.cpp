#include "geometry.hpp"

#include <algorithm>
#include <cmath>

namespace edgead {
namespace {

constexpr std::uint64_t MOST_RESIZED = 1U << 20;  // as preprocess.cpp has it

// Half of d, halves to even, as Python's round(d / 2).
std::uint32_t half_to_even(std::uint32_t d) { return d / 2 + ((d & 1U) != 0 ? (d / 2) & 1U : 0); }

struct Edges {
  std::uint32_t first, size;
};

Edges edges(const MapAxis &axis, std::uint32_t first, std::uint32_t size) noexcept {
  // Maps and windows have at most 2^16 pixels a side, frames and resized images 2^20: all products fit.
  const std::uint64_t scale = std::uint64_t{axis.map} * axis.resized;
  const auto at = [&](std::uint64_t p) {
    return (std::uint64_t{axis.offset} * axis.map + p * axis.window) * axis.source;
  };
  const std::uint64_t begin = at(first) / scale;
  const std::uint64_t end = std::min<std::uint64_t>((at(std::uint64_t{first} + size) + scale - 1) / scale, axis.source);
  return {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end - std::min(begin, end))};
}

}  // namespace

Resolved resolve(const Geometry &geometry, std::uint32_t height, std::uint32_t width) {
  std::uint64_t rows = geometry.height, cols = geometry.width;
  if (geometry.shorter_side) {
    const std::uint32_t shorter = std::min(height, width), longer = std::max(height, width);
    const auto scaled =
        static_cast<std::uint64_t>(static_cast<double>(std::uint64_t{geometry.height} * longer) / shorter);
    (height > width ? rows : cols) = scaled;
    (height > width ? cols : rows) = geometry.height;
  }
  if (rows > MOST_RESIZED || cols > MOST_RESIZED)
    raise(EDGEAD_ERR_INVALID_IMAGE, "a frame of %ux%u is too long and thin for this bundle: its shorter side becomes %u",
          width, height, geometry.height);
  Resolved r{};
  r.height = static_cast<std::uint32_t>(rows);
  r.width = static_cast<std::uint32_t>(cols);
  r.window_height = geometry.window ? (*geometry.window)[0] : r.height;
  r.window_width = geometry.window ? (*geometry.window)[1] : r.width;
  r.window_y = half_to_even(r.height - r.window_height);
  r.window_x = half_to_even(r.width - r.window_width);
  return r;
}

MapToFrame map_to_frame(const Resolved &r, const Roi &roi, std::uint32_t map_height, std::uint32_t map_width) {
  return {{map_width, r.window_x, r.window_width, r.width, roi.width, roi.x},
          {map_height, r.window_y, r.window_height, r.height, roi.height, roi.y}};
}

void MapToFrame::move(edgead_region &region) const noexcept {
  // The factors in Python's order, so that the same area rounds the same way.
  double cell = static_cast<double>(std::uint64_t{y.window} * y.source) /
                static_cast<double>(std::uint64_t{y.map} * y.resized);
  cell *= static_cast<double>(std::uint64_t{x.window} * x.source) /
          static_cast<double>(std::uint64_t{x.map} * x.resized);
  const double area = std::nearbyint(region.area * cell);
  region.area = static_cast<std::uint32_t>(std::clamp(area, 1.0, 4294967295.0));
  const Edges across = edges(x, region.x, region.width), down = edges(y, region.y, region.height);
  region.x = x.origin + across.first;
  region.width = across.size;
  region.y = y.origin + down.first;
  region.height = down.size;
}

Seen seen(const MapAxis &axis, std::uint32_t frame) noexcept {
  // Centre of source row s, doubled: (2s + 1) * resized / source; inside: 2 offset <= it < 2 (offset + window).
  const auto first_at = [&](std::uint64_t bound) {  // the first s whose doubled centre is >= 2 * bound
    const std::uint64_t least = (2 * bound * axis.source + axis.resized - 1) / axis.resized;
    return least / 2;  // (2s + 1) >= least
  };
  const std::uint64_t first = std::min<std::uint64_t>(first_at(axis.offset), axis.source);
  const std::uint64_t end = std::min<std::uint64_t>(first_at(std::uint64_t{axis.offset} + axis.window), axis.source);
  const auto place = [&](std::uint64_t s) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(axis.origin + s, frame));
  };
  return {place(first), place(end)};
}

BandedMatrix to_frame(const BandedMatrix &matrix, const MapAxis &axis, std::uint32_t frame) {
  struct Mix {
    std::uint32_t low, high;
    double weight_high;
  };
  const Seen rows = seen(axis, frame);
  const auto mix_of = [&](std::uint32_t y) {
    const double centre = (static_cast<double>(y - axis.origin) + 0.5) * axis.resized / axis.source - axis.offset;
    const double p = std::clamp(centre * axis.map / axis.window - 0.5, 0.0, static_cast<double>(axis.map - 1));
    const auto low = static_cast<std::uint32_t>(p);
    return Mix{low, std::min(low + 1, axis.map - 1), p - low};
  };
  std::uint32_t band = 1;
  for (std::uint32_t y = rows.first; y < rows.end; ++y) {
    const Mix mix = mix_of(y);
    const auto [least, most] = std::minmax(matrix.start[mix.low], matrix.start[mix.high]);
    band = std::max(band, static_cast<std::uint32_t>(most - least) + matrix.band);
  }
  BandedMatrix out{frame, matrix.cols, band, std::vector<std::int32_t>(frame),
                   std::vector<float>(std::size_t{frame} * band)};
  std::vector<double> sums(band);
  for (std::uint32_t y = rows.first; y < rows.end; ++y) {
    const Mix mix = mix_of(y);
    const std::int32_t start = std::min({matrix.start[mix.low], matrix.start[mix.high],
                                         static_cast<std::int32_t>(matrix.cols - band)});
    std::fill(sums.begin(), sums.end(), 0.0);
    const auto add = [&](std::uint32_t row, double weight) {
      const auto shift = static_cast<std::size_t>(matrix.start[row] - start);
      for (std::uint32_t b = 0; b < matrix.band; ++b)
        sums[shift + b] += weight * static_cast<double>(matrix.weights[std::size_t{row} * matrix.band + b]);
    };
    add(mix.low, 1.0 - mix.weight_high);
    add(mix.high, mix.weight_high);
    out.start[y] = start;
    for (std::uint32_t b = 0; b < band; ++b)
      out.weights[std::size_t{y} * band + b] = static_cast<float>(sums[b]);
  }
  return out;
}

}  // namespace edgead
