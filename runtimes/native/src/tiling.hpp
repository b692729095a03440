#pragma once
// Tiles of a larger image, and the weights that join their maps: what edgead/tiling.py does in Python, to the same bits.

#include <cstdint>
#include <vector>

namespace edgead {

// One axis: `count` tiles of `tile` pixels and `cells` map cells, the next one `step` pixels and `step_cells` cells on
// (0 for one tile alone; at most `cells`).
struct TileAxis {
  std::uint32_t count, tile, cells, step, step_cells;

  std::uint32_t size() const noexcept { return tile + (count - 1) * step; }        // pixels of the image
  std::uint32_t grid() const noexcept { return cells + (count - 1) * step_cells; }  // cells of the joined map
  // count * cells: what each tile's cells weigh in the joined map, where they sum up to 1. A ramp over the cells that
  // neighbours share, over the sum of all ramps.
  std::vector<float> weights() const;
};

struct Tiling {
  TileAxis rows, columns;
};

}  // namespace edgead
