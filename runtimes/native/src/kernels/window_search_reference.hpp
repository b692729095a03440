#pragma once
// The windowed search in plain loops, sums in double: what the fast path is compared with. For tests; not compiled into
// the library.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace edgead::reference {

struct SearchLevel {
  std::size_t height, width, window;
  std::vector<double> bank;   // (references, height, dim, width), as numbers
  std::vector<float> query;   // (dim, height, width)
};

struct Search {
  std::size_t dim;
  std::vector<std::int32_t> nearest;
  std::vector<SearchLevel> levels;
  std::vector<float> weight;  // of level 0's size; empty = none
  std::size_t map_height, map_width;
};

inline std::vector<double> distances(const Search &search, const SearchLevel &level) {
  const auto height = static_cast<std::ptrdiff_t>(level.height), width = static_cast<std::ptrdiff_t>(level.width);
  const auto radius = static_cast<std::ptrdiff_t>(level.window / 2);
  std::vector<double> out;
  for (std::ptrdiff_t y = 0; y < height; ++y)
    for (std::ptrdiff_t x = 0; x < width; ++x) {
      double squares = 0.0, best = -std::numeric_limits<double>::infinity();
      const auto query = [&](std::size_t c) {
        return double{level.query[(c * level.height + static_cast<std::size_t>(y)) * level.width +
                                  static_cast<std::size_t>(x)]};
      };
      for (std::size_t c = 0; c < search.dim; ++c) squares += query(c) * query(c);
      for (const std::int32_t reference : search.nearest)
        for (std::ptrdiff_t v = std::max<std::ptrdiff_t>(0, y - radius); v <= std::min(height - 1, y + radius); ++v)
          for (std::ptrdiff_t u = std::max<std::ptrdiff_t>(0, x - radius); u <= std::min(width - 1, x + radius); ++u) {
            double product = 0.0;
            for (std::size_t c = 0; c < search.dim; ++c) {
              const std::size_t row = static_cast<std::size_t>(reference) * level.height + static_cast<std::size_t>(v);
              product += query(c) * level.bank[(row * search.dim + c) * level.width + static_cast<std::size_t>(u)];
            }
            best = std::max(best, product);
          }
      out.push_back(std::isfinite(squares) ? 1.0 - best / (std::sqrt(squares) + 1e-8)
                                           : std::numeric_limits<double>::quiet_NaN());
    }
  return out;
}

// torch's interpolate(mode="bilinear", align_corners=False). A cell of weight 0 is not read: it may be NaN.
inline std::vector<double> interpolate(const std::vector<double> &map, std::size_t h, std::size_t w, std::size_t height,
                                       std::size_t width) {
  const auto place = [](std::size_t i, std::size_t pixels, std::size_t cells) {
    return std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(cells) / static_cast<double>(pixels) - 0.5);
  };
  std::vector<double> out;
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x) {
      const double at_y = place(y, height, h), at_x = place(x, width, w);
      const auto y0 = static_cast<std::size_t>(at_y), x0 = static_cast<std::size_t>(at_x);
      const double fy = at_y - static_cast<double>(y0), fx = at_x - static_cast<double>(x0);
      const std::size_t y1 = fy > 0.0 ? std::min(y0 + 1, h - 1) : y0, x1 = fx > 0.0 ? std::min(x0 + 1, w - 1) : x0;
      out.push_back((1 - fy) * ((1 - fx) * map[y0 * w + x0] + fx * map[y0 * w + x1]) +
                    fy * ((1 - fx) * map[y1 * w + x0] + fx * map[y1 * w + x1]));
    }
  return out;
}

inline std::vector<double> run(const Search &search) {
  const SearchLevel &first = search.levels.front();
  std::vector<double> sum = distances(search, first);
  for (std::size_t i = 1; i < search.levels.size(); ++i) {
    const SearchLevel &level = search.levels[i];
    const std::vector<double> more =
        interpolate(distances(search, level), level.height, level.width, first.height, first.width);
    for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += more[j];
  }
  std::vector<double> map = interpolate(sum, first.height, first.width, search.map_height, search.map_width);
  if (search.weight.empty()) return map;
  const std::vector<double> weight = interpolate({search.weight.begin(), search.weight.end()}, first.height,
                                                 first.width, search.map_height, search.map_width);
  for (std::size_t i = 0; i < map.size(); ++i) map[i] *= weight[i];
  return map;
}

}  // namespace edgead::reference
