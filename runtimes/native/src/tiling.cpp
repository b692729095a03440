#include "tiling.hpp"

#include <algorithm>

namespace edgead {

std::vector<float> TileAxis::weights() const {
  const std::uint32_t shared = cells - step_cells;
  const auto ramp = [&](std::uint32_t i) { return shared > 0 ? std::min((i + 0.5) / shared, 1.0) : 1.0; };
  const auto raw = [&](std::uint32_t index, std::uint32_t i) {
    const double before = index > 0 ? ramp(i) : 1.0, after = index + 1 < count ? ramp(cells - 1 - i) : 1.0;
    return std::min(before, after);
  };
  std::vector<double> total(grid(), 0.0);
  for (std::uint32_t index = 0; index < count; ++index)
    for (std::uint32_t i = 0; i < cells; ++i) total[index * step_cells + i] += raw(index, i);
  std::vector<float> found;
  found.reserve(std::size_t{count} * cells);
  for (std::uint32_t index = 0; index < count; ++index)
    for (std::uint32_t i = 0; i < cells; ++i)
      found.push_back(static_cast<float>(raw(index, i) / total[index * step_cells + i]));
  return found;
}

}  // namespace edgead
