#pragma once
// PNG as bundles hold it: 8-bit RGB, not interlaced.

#include <cstdint>
#include <string>
#include <vector>

namespace edgead {

// The picture's RGB pixels, rows packed. Throws Error(BUNDLE): damaged, of another kind, or of another size than
// width x height; `name` stands in the message. Nothing is allocated before the size is known to be right.
std::vector<std::uint8_t> decode_png(const std::vector<std::uint8_t> &data, std::uint32_t width, std::uint32_t height,
                                     const std::string &name);

}  // namespace edgead
