#pragma once
// The one check of a caller's edgead_image: after it, every byte that the library reads lies inside the view.

#include "edgead/edgead.h"
#include "resampler.hpp"
#include "status.hpp"

namespace edgead {

constexpr std::uint32_t MOST_FRAME_SIDE = 1U << 20;

// Copies the caller's struct, whatever its version, and checks it. Fills in an ROI of the whole frame where there is
// none. With `sizes_only`, data and stride are not looked at (no pixel will be read).
edgead_status check_image(const edgead_image *given, bool sizes_only, edgead_image &image, const PixelFormat *&format,
                          const ErrorSink &error) noexcept;

}  // namespace edgead
