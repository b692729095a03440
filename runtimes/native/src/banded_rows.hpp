#pragma once
// A banded matrix in the layout of the kernels that apply it along rows: the map operator's, and the windowed search's
// up-sampling.

#include <cstddef>
#include <cstdint>

#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/post.hpp"

namespace edgead {

// The non-zero part of one row of a banded matrix.
struct PostSpan {
  std::uint32_t first, count;  // columns
  std::size_t weights;         // index of the first one's weight
};

struct BandedRows {
  Buffer<PostSpan> spans;
  Buffer<float> weights;

  // Leaves out the zeros at both ends of each row: 0 * inf must not reach pixels that do not use a cell. False where
  // there is no memory.
  [[nodiscard]] bool trim(const edgead_banded &matrix) noexcept;
};

// The same, kPostTile rows at a time, as PostKernels::expand takes it.
struct BandedTiles {
  Buffer<PostTile> tiles;
  Buffer<float> weights;
  std::size_t count = 0;

  [[nodiscard]] bool prepare(const BandedRows &rows, std::size_t row_count) noexcept;
};

// The post kernels of the best level that `cpu_mask` allows.
const PostKernels &post_kernels_for(std::uint64_t cpu_mask) noexcept;

}  // namespace edgead
