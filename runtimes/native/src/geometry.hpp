#pragma once
// The bundle's geometry applied to frames: what edgead.types.Geometry and edgead.imaging.postprocess do in Python,
// with the same rounding.

#include <cstdint>

#include "bundle/manifest.hpp"
#include "edgead/edgead.h"
#include "error.hpp"

namespace edgead {

// Resize to (height, width), keep the window.
struct Resolved {
  std::uint32_t height, width;
  std::uint32_t window_y, window_x, window_height, window_width;
};

// For a frame or ROI of height x width pixels, by torchvision's rounding rules. Throws Error(INVALID_IMAGE) where the
// resized image has no size that can be worked with.
Resolved resolve(const Geometry &geometry, std::uint32_t height, std::uint32_t width);

// One axis of the way from map to frame: position p of the map lies at (offset + p * window / map) * source / resized
// of the ROI, which begins at `origin` of the frame.
struct MapAxis {
  std::uint32_t map, offset, window, resized, source, origin;
};

struct MapToFrame {
  MapAxis x, y;

  // The smallest box of whole frame pixels that covers the region's, clipped to the ROI; area scaled and rounded
  // half to even, at least 1.
  void move(edgead_region &region) const noexcept;
};

MapToFrame map_to_frame(const Resolved &resolved, const Roi &roi, std::uint32_t map_height, std::uint32_t map_width);

// The frame's rows (columns) that the network sees: those whose centre lies in the window.
struct Seen {
  std::uint32_t first, end;
};
Seen seen(const MapAxis &axis, std::uint32_t frame) noexcept;

// `matrix` (map x grid) followed by linear interpolation (half-pixel centres, edges repeated) to the `frame` rows of
// the frame, as one banded matrix; rows that the network does not see are zero.
BandedMatrix to_frame(const BandedMatrix &matrix, const MapAxis &axis, std::uint32_t frame);

}  // namespace edgead
