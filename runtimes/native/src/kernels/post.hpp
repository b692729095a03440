#pragma once
// Inner loops of the post kernel, one table per instruction set. All levels give the same bits: sums run in
// the same order with separate multiply and add (no contraction), so a mask never depends on the CPU.

#include <cstddef>
#include <cstdint>

namespace edgead {

// Columns of one horizontal tile: one AVX-512 register of floats.
constexpr std::size_t kPostTile = 16;
// Rows of the expanded grid are readable up to their width rounded up to this: four AVX-512 registers.
constexpr std::size_t kPostBlock = 64;

// The columns of a tile read cells first .. first + count - 1 of the grid row; their weights are
// `count` groups of kPostTile floats, zero where a column does not use the cell.
struct PostTile {
  std::uint32_t first, count;
  std::size_t weights;  // index of the first group's first float
};

struct PostGrid {
  float max;    // over the values that are not NaN; -inf where there is none
  bool nan;     // a NaN among them
  bool finite;  // neither NaN nor infinite anywhere
};

// One row of the map: out[x] = sum_b weights[b] * rows[b * stride + x] + offset. `rows` may be read up to `width`
// rounded up to kPostBlock.
struct PostRow {
  const float *rows;
  std::size_t stride;
  const float *weights;
  std::size_t count;
  std::size_t width;
  float offset;
  float threshold;            // mask = out >= threshold ? 255 : 0
  float heat_low, heat_scale;  // heatmap = clamp(trunc((out - low) * scale + 0.5), 0, 255); NaN gives 0
  float *map;
  std::uint8_t *mask;     // NULL = not wanted
  std::uint8_t *heatmap;  // NULL = not wanted
};

struct PostRowResult {
  float max;  // over the values that are not NaN; -inf where there is none
  bool nan;
};

struct PostKernels {
  // grid[i] = sum_k alpha[k] * raw[k * cells + i] + gamma
  PostGrid (*combine)(const float *raw, std::size_t channels, std::size_t cells, const float *alpha, float gamma,
                      float *grid);
  // One grid row times the horizontal operator; dst holds tiles * kPostTile floats, 64-byte aligned.
  void (*expand)(const float *grid_row, const PostTile *tiles, std::size_t tile_count, const float *weights,
                 float *dst);
  PostRowResult (*row)(const PostRow &job);
  // Maximum of n >= 1 values, none of them NaN.
  float (*max)(const float *values, std::size_t n);
};

namespace scalar {
const PostKernels &post_kernels() noexcept;
}
namespace avx2 {
const PostKernels &post_kernels() noexcept;
}
namespace avx512 {
const PostKernels &post_kernels() noexcept;
}
namespace neon {
const PostKernels &post_kernels() noexcept;
}

}  // namespace edgead
