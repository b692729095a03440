#pragma once
// An engine that sees tiles, behind the interface of one that sees the whole image.

#include <memory>

#include "engines/engine.hpp"
#include "tiling.hpp"

namespace edgead {

// Runs `engine` once per tile, row by row, and joins the maps: the sum of each tile's weight of a cell, in float, times
// its value, the tiles in their order, as edgead/runtimes/_tiled.py does it. image_score, where the graph gives one, is
// the highest of the tiles', and NaN where one is. `shapes`: of the image and the joined map, batch 1.
std::shared_ptr<Engine> open_tiled(std::shared_ptr<Engine> engine, const TensorShapes &shapes, const Tiling &tiling);

}  // namespace edgead
