#pragma once
// The post kernel in plain loops, sums in double: what the fast path is compared with. For tests; not compiled
// into the library.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "edgead/edgead.h"

namespace edgead::reference {

struct Banded {
  std::uint32_t rows, cols, band;
  std::vector<std::int32_t> start;
  std::vector<float> weights;

  edgead_banded view() const { return {rows, cols, band, start.data(), weights.data()}; }

  // Calls use(column, weight) for the row from its first to its last non-zero weight.
  template <typename Use>
  void each(std::size_t row, Use use) const {
    const float *w = weights.data() + row * band;
    std::size_t first = 0, end = band;
    while (end > 0 && w[end - 1] == 0.0f) --end;
    while (first < end && w[first] == 0.0f) ++first;
    for (std::size_t b = first; b < end; ++b) use(static_cast<std::size_t>(start[row]) + b, double{w[b]});
  }
};

struct Plan {
  std::size_t channels, grid_height, grid_width;
  std::vector<float> alpha;
  double gamma;
  bool gamma_before;
  Banded vertical, horizontal;
  std::uint32_t score_rule;
  std::size_t top_k;
};

inline std::vector<double> grid(const Plan &plan, const float *raw) {
  const std::size_t cells = plan.grid_height * plan.grid_width;
  std::vector<double> combined(cells, plan.gamma_before ? plan.gamma : 0.0);
  for (std::size_t k = 0; k < plan.channels; ++k)
    for (std::size_t i = 0; i < cells; ++i) combined[i] += double{plan.alpha[k]} * double{raw[k * cells + i]};
  return combined;
}

inline std::vector<double> map(const Plan &plan, const std::vector<double> &grid) {
  const std::size_t height = plan.vertical.rows, width = plan.horizontal.rows;
  std::vector<double> wide(plan.grid_height * width), out(height * width);
  for (std::size_t y = 0; y < plan.grid_height; ++y)
    for (std::size_t x = 0; x < width; ++x)
      plan.horizontal.each(x, [&](std::size_t c, double w) {
        wide[y * width + x] += w * grid[y * plan.grid_width + c];
      });
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x) {
      double sum = 0.0;
      plan.vertical.each(y, [&](std::size_t r, double w) { sum += w * wide[r * width + x]; });
      out[y * width + x] = sum + (plan.gamma_before ? 0.0 : plan.gamma);
    }
  return out;
}

// NaN where the grid, or a map that the rule reads, holds a NaN.
inline double score(const Plan &plan, const std::vector<double> &grid, std::vector<double> map, double graph_score) {
  const auto is_nan = [](double v) { return v != v; };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (std::any_of(grid.begin(), grid.end(), is_nan)) return nan;
  if (plan.score_rule == EDGEAD_SCORE_GRAPH) return graph_score;
  if (plan.score_rule == EDGEAD_SCORE_MAX_GRID) return *std::max_element(grid.begin(), grid.end());
  if (std::any_of(map.begin(), map.end(), is_nan)) return nan;
  std::sort(map.begin(), map.end(), [](double a, double b) { return a > b; });
  if (plan.score_rule == EDGEAD_SCORE_MAX) return map[0];
  double sum = 0.0;
  for (std::size_t i = 0; i < plan.top_k; ++i) sum += map[i];
  return plan.score_rule == EDGEAD_SCORE_TOP_K_SUM ? sum : sum / static_cast<double>(plan.top_k);
}

// By flood fill, sorted as the header promises; `map` as the kernel wrote it.
inline std::vector<edgead_region> regions(const float *map, std::size_t height, std::size_t width, float threshold,
                                          std::uint32_t min_area) {
  std::vector<bool> seen(height * width);
  std::vector<edgead_region> found;
  std::vector<std::size_t> open;
  for (std::size_t seed = 0; seed < height * width; ++seed) {
    if (seen[seed] || !(map[seed] >= threshold)) continue;
    std::size_t left = width, right = 0, top = height, bottom = 0;
    std::uint32_t area = 0;
    float peak = -std::numeric_limits<float>::infinity();
    seen[seed] = true;
    open.assign(1, seed);
    while (!open.empty()) {
      const std::size_t at = open.back(), y = at / width, x = at % width;
      open.pop_back();
      ++area;
      peak = std::max(peak, map[at]);
      left = std::min(left, x), right = std::max(right, x), top = std::min(top, y), bottom = std::max(bottom, y);
      for (std::size_t v = y > 0 ? y - 1 : 0; v <= std::min(y + 1, height - 1); ++v)
        for (std::size_t u = x > 0 ? x - 1 : 0; u <= std::min(x + 1, width - 1); ++u)
          if (!seen[v * width + u] && map[v * width + u] >= threshold) {
            seen[v * width + u] = true;
            open.push_back(v * width + u);
          }
    }
    if (area >= min_area)
      found.push_back({static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(top),
                       static_cast<std::uint32_t>(right - left + 1), static_cast<std::uint32_t>(bottom - top + 1),
                       area, peak});
  }
  std::stable_sort(found.begin(), found.end(), [](const edgead_region &a, const edgead_region &b) {
    if (a.peak != b.peak) return a.peak > b.peak;
    return a.y != b.y ? a.y < b.y : a.x < b.x;
  });
  return found;
}

}  // namespace edgead::reference
