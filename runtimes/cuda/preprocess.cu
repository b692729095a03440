// The preprocess kernels: a frame as the camera gave it -> ROI -> resize -> window, as (height, width, 3) RGB bytes.
// libedgead's twin (native/src/resampler*.cpp), bit for bit: all arithmetic is in integers, and the weights come from
// the host (_resample_plan.py).
//
//   resize_columns  Pillow's filter along x
//   resize_rows     Pillow's filter along y; the two run one after the other, with RGB bytes between them
//   resize_linear   OpenCV's INTER_LINEAR, both axes at once
//
// One thread per output pixel. blockIdx.x is the row: the grid's other sides end at 65,535.

#include "common.cuh"

#define RESIZE_THREADS 128

enum PixelKind : u32 { DIRECT = 0, WIDE = 1, BAYER = 2 };

// Pixel (0, 0) of the view lies at (left, top) of the frame.
struct PixelView {
  const u8 *data;
  u64 stride;         // bytes from row to row
  u32 width, height;  // of the frame
  u32 left, top;
  u32 kind;
  u32 bytes;             // per pixel
  u32 red, green, blue;  // DIRECT: byte of the pixel, all 0 for gray
  u32 shift;             // WIDE: 16 bits, value >> shift
  u32 red_x, red_y;      // BAYER: parity of the red pixels
};

struct Rgb {
  u32 red, green, blue;
};

// OpenCV's bilinear demosaic; the frame's border takes the nearest pixel that has eight neighbours.
__device__ inline Rgb demosaiced(const PixelView &view, u32 x, u32 y) {
  x = min(max(x, 1u), view.width - 2);
  y = min(max(y, 1u), view.height - 2);
  const u8 *const row = view.data + y * view.stride + x;
  const u8 *const above = row - view.stride, *const below = row + view.stride;
  const bool red_row = (y & 1) == view.red_y;
  const bool seen = ((x & 1) == view.red_x) == red_row;  // the pixel is not green
  const u32 here = row[0];
  const u32 sides = u32{row[-1]} + row[1], ends = u32{above[0]} + below[0];
  const u32 corners = u32{above[-1]} + above[1] + below[-1] + below[1];
  const u32 own = seen ? here : (sides + 1) >> 1;  // the colour that this row has beside green
  const u32 other = seen ? (corners + 2) >> 2 : (ends + 1) >> 1;
  const u32 green = seen ? (sides + ends + 2) >> 2 : here;
  return red_row ? Rgb{own, green, other} : Rgb{other, green, own};
}

__device__ inline Rgb pixel(const PixelView &view, u32 x, u32 y) {
  x += view.left;
  y += view.top;
  if (view.kind == BAYER) return demosaiced(view, x, y);
  const u8 *const at = view.data + y * view.stride + static_cast<u64>(x) * view.bytes;
  if (view.kind == DIRECT) return {at[view.red], at[view.green], at[view.blue]};
  const u32 gray = min((u32{at[0]} | u32{at[1]} << 8) >> view.shift, 255u);  // may lie at any address
  return {gray, gray, gray};
}

// Weights of 2^22 = 1: weights[k * outputs + i] belongs to sample start[i] + k, k < count[i].
struct FilterParams {
  PixelView source;
  const u32 *start, *count, *weights;
  u8 *out;            // (height, width, 3)
  u32 height, width;  // of the result
};

__device__ inline void add(Rgb &sum, const Rgb &sample, u32 weight) {
  sum.red += weight * sample.red;
  sum.green += weight * sample.green;
  sum.blue += weight * sample.blue;
}

__device__ inline void write(const FilterParams &p, u32 x, u32 y, const Rgb &sum) {
  u8 *const out = p.out + (static_cast<u64>(y) * p.width + x) * 3;
  out[0] = static_cast<u8>(min(sum.red >> 22, 255u));
  out[1] = static_cast<u8>(min(sum.green >> 22, 255u));
  out[2] = static_cast<u8>(min(sum.blue >> 22, 255u));
}

// The weights of an output add up to 2^22 but for their rounding: 255 times that, and a half, fit 32 bits.
EDGEAD_KERNEL(resize_columns, RESIZE_THREADS, FilterParams) {
  const u32 x = blockIdx.y * RESIZE_THREADS + threadIdx.x, y = blockIdx.x;
  if (x >= p.width) return;
  const u32 start = p.start[x], count = p.count[x];
  Rgb sum{1u << 21, 1u << 21, 1u << 21};
  for (u32 k = 0; k < count; ++k)
    add(sum, pixel(p.source, start + k, y), p.weights[static_cast<u64>(k) * p.width + x]);
  write(p, x, y, sum);
}

EDGEAD_KERNEL(resize_rows, RESIZE_THREADS, FilterParams) {
  const u32 x = blockIdx.y * RESIZE_THREADS + threadIdx.x, y = blockIdx.x;
  if (x >= p.width) return;
  const u32 start = p.start[y], count = p.count[y];
  Rgb sum{1u << 21, 1u << 21, 1u << 21};
  for (u32 k = 0; k < count; ++k)
    add(sum, pixel(p.source, x, start + k), p.weights[static_cast<u64>(k) * p.height + y]);
  write(p, x, y, sum);
}

// The two samples of one output and their weights of 2^11 = 1.
struct LinearTap {
  u32 low, high, weight_low, weight_high;
};

struct LinearParams {
  PixelView source;
  const LinearTap *columns, *rows;
  u8 *out;            // (height, width, 3)
  u32 height, width;  // of the result
};

__device__ inline u32 blended(u32 low, u32 high, const LinearTap &tap) {
  return (low * tap.weight_low + high * tap.weight_high) >> 4;
}

__device__ inline u8 blended_rows(u32 upper, u32 lower, const LinearTap &tap) {
  return static_cast<u8>(((upper * tap.weight_low >> 16) + (lower * tap.weight_high >> 16) + 2) >> 2);
}

EDGEAD_KERNEL(resize_linear, RESIZE_THREADS, LinearParams) {
  const u32 x = blockIdx.y * RESIZE_THREADS + threadIdx.x, y = blockIdx.x;
  if (x >= p.width) return;
  const LinearTap column = p.columns[x], row = p.rows[y];
  const Rgb a = pixel(p.source, column.low, row.low), b = pixel(p.source, column.high, row.low);
  const Rgb c = pixel(p.source, column.low, row.high), d = pixel(p.source, column.high, row.high);
  u8 *const out = p.out + (static_cast<u64>(y) * p.width + x) * 3;
  out[0] = blended_rows(blended(a.red, b.red, column), blended(c.red, d.red, column), row);
  out[1] = blended_rows(blended(a.green, b.green, column), blended(c.green, d.green, column), row);
  out[2] = blended_rows(blended(a.blue, b.blue, column), blended(c.blue, d.blue, column), row);
}
