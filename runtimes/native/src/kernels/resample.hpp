#pragma once
// The kernels of the preprocessor, one table per instruction set. Every level gives the same bytes.
//
// Pillow's filter runs over «quads»: a 32-bit word holds four neighbouring samples (bytes) along the axis that is
// being filtered, and neighbouring words hold other, independent lines. So both passes are the same dot product,
// lane by lane, without a shuffle:
//   pack_rows    LANES rows -> packed[quad of columns][channel][row]
//   horizontal   packed -> ring[quad of rows][column * channels + channel]; four rows again make one word
//   interleave   four rows -> one ring row, unfiltered
//   vertical     ring -> one row

#include <cstddef>
#include <cstdint>

namespace edgead {

// How a source row stores a pixel: gray (1 byte, 1 channel) or colour (3 or 4 bytes, green at byte 1).
struct PixelLayout {
  std::uint32_t bytes;
  std::uint32_t channels;  // 1 or 3
  std::uint32_t red, blue;  // byte of the pixel; 0 where channels = 1
};

// The quads that one output reads: weights lie at 4 * weights in the encoded table.
struct QuadRun {
  std::uint32_t first, count, weights;
};

// A camera's raw Bayer plane. red_x, red_y: column and row parity of its red pixels.
struct BayerPlane {
  const std::uint8_t *data;
  std::size_t stride;
  std::uint32_t width, height;  // >= 3 each
  std::uint32_t red_x, red_y;
};

// The two source pixels of one output column, as byte offsets into the row, and their 11-bit weights. `high` is
// the pixel after `low`, or `low` itself with a weight of 0.
struct LinearTap {
  std::uint32_t low, high;
  std::int16_t weight_low, weight_high;
};

struct ResampleKernels {
  std::uint32_t lanes;  // rows that pack_rows takes, a multiple of 4

  // Four 22-bit weights in the order that this level's dot product wants.
  void (*encode_quad)(const std::int32_t weights[4], std::int32_t encoded[4]);

  // May read 16 bytes past the last pixel of each row. Writes whole quads, four at a time for gray rows.
  void (*pack_rows)(const std::uint8_t *rows, std::size_t stride, std::uint32_t pixels, PixelLayout layout,
                    std::uint32_t *packed);

  // Writes lanes / 4 ring rows, `ring_stride` words apart. `outputs` is a multiple of 4; the last of the four
  // words that a colour output writes is overwritten by its neighbour.
  void (*horizontal)(const std::uint32_t *packed, const QuadRun *runs, const std::int32_t *weights,
                     std::uint32_t outputs, std::uint32_t channels, std::uint32_t *ring, std::size_t ring_stride);

  // out[i] = the four rows' bytes i, the first row's lowest.
  void (*interleave)(const std::uint8_t *const rows[4], std::size_t bytes, std::uint32_t *out);

  // One output row of `columns` bytes from the ring rows (first + i) & ring_mask, i < run.count. Reads whole
  // blocks of 64 words of a ring row.
  void (*vertical)(const std::uint32_t *ring, std::size_t ring_stride, std::uint32_t ring_mask, QuadRun run,
                   const std::int32_t *weights, std::uint32_t columns, std::uint8_t *out);

  // OpenCV's bilinear: one source row of `pixels` to (sum of 2 weighted pixels) >> 4, then two such rows to
  // bytes. May write one value past the last.
  void (*linear_row)(const std::uint8_t *row, std::uint32_t pixels, PixelLayout layout, const LinearTap *taps,
                     std::uint32_t outputs, std::int16_t *out);
  void (*linear_blend)(const std::int16_t *upper, const std::int16_t *lower, std::int16_t weight_upper,
                       std::int16_t weight_lower, std::uint32_t columns, std::uint8_t *out);
  // Mean of 2 x 2 pixels, from the row pair's first needed pixel on.
  void (*halve)(const std::uint8_t *upper, const std::uint8_t *lower, PixelLayout layout, std::uint32_t outputs,
                std::uint8_t *out);

  // Row conversions: to RGB, gray to RGB, little-endian 16 bit to gray (v >> shift, at most 255), Bayer to RGB.
  void (*to_rgb)(const std::uint8_t *row, PixelLayout layout, std::uint32_t pixels, std::uint8_t *rgb);
  void (*narrow)(const std::uint8_t *row, std::uint32_t pixels, std::uint32_t shift, std::uint8_t *gray);
  void (*demosaic)(const BayerPlane &plane, std::uint32_t x, std::uint32_t y, std::uint32_t pixels,
                   std::uint8_t *rgb);
};

namespace scalar {
extern const ResampleKernels resample_kernels;
}
namespace avx2 {
extern const ResampleKernels resample_kernels;
}
namespace avx512 {
extern const ResampleKernels resample_kernels;
}
namespace neon {
extern const ResampleKernels resample_kernels;
}

}  // namespace edgead
