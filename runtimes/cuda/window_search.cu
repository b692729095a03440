// The windowed search: query descriptors against a window around their place in the nearest reference images, level by
// level, to a map. libedgead's twin (native/src/window_search_plan.cpp): each product is the same chain of fused
// multiply-adds, and all that follows runs in the same order. Only the squares of a query's length are added in another
// one, in double: a distance may round to a neighbouring float.
//
//   window_pack       queries in rows that a float4 reads, and the squares of their lengths; are the references there
//   window_match_*    per level: the largest product of each cell, by the bank's type and the window's side
//   window_distances  products to distances
//   window_map        levels summed, interpolated, weighted
//
// blockIdx.z is the image.

#include "common.cuh"

#define WINDOW_LEVELS 8
#define WINDOW_PACK_THREADS 256
#define WINDOW_MATCH_THREADS 128
#define WINDOW_CELL_THREADS 128
#define WINDOW_ROWS 16     // of cells, that a block matches
#define WINDOW_QUADS 8     // four cells each: a block matches 32 columns
#define WINDOW_CHANNELS 4  // that lie in shared memory at a time

// Which cells a pixel blends; where it is one, both are that one and the second weight is 0.
struct WindowTap {
  u32 low, high;
  float weight_low, weight_high;
};

struct WindowLevel {
  const float *query;               // (images, query_dim, height, width)
  const void *bank;                 // (references, height, dim, stride): column x at x + window / 2, borders repeated
  float4 *packed;                   // (images, dim, rows, quads); 0 beyond the query
  double *total;                    // (images, height, width): squares of lengths
  u32 *best;                        // likewise: the largest product as `ordered`, 0 = none; all 0 between runs
  float *distances;                 // likewise
  const WindowTap *columns, *rows;  // of the map for level 0, of level 0 for the others
  u32 height, width, window;
  u32 stride;                     // values, a multiple of 4
  u32 packed_rows, packed_quads;  // multiples of WINDOW_ROWS and WINDOW_QUADS
};

struct WindowParams {
  WindowLevel levels[WINDOW_LEVELS];
  const int *references;  // (images, nearest)
  const float *weight;    // (images, height, width) of level 0; NULL = not weighted
  float *map;             // (images, map_height, map_width)
  u32 *outside;           // (images): not 0 where a reference is none of the bank
  double scale;           // of a stored value
  u32 level_count, reference_count, nearest;
  u32 query_dim, dim;  // the second one is padded to a multiple of WINDOW_CHANNELS
  u32 map_height, map_width;
};

// A row of 32 cells per block, 8 of whose threads each take every eighth channel of a cell. blockIdx.y is the level.
EDGEAD_KERNEL(window_pack, WINDOW_PACK_THREADS, WindowParams) {
  constexpr u32 parts = WINDOW_PACK_THREADS / 32;
  __shared__ double sums[parts][32];
  const u32 image = blockIdx.z, lane = threadIdx.x % 32, part = threadIdx.x / 32;
  if (blockIdx.x == 0 && blockIdx.y == 0) {
    u32 problem = 0;  // the first one that is outside has the largest number
    for (u32 k = threadIdx.x; k < p.nearest; k += WINDOW_PACK_THREADS) {
      const u32 reference = static_cast<u32>(p.references[image * p.nearest + k]);
      if (reference >= p.reference_count) problem = max(problem, p.nearest - k);
    }
    problem = block_max(problem);
    if (threadIdx.x == 0) p.outside[image] = problem;
  }
  const WindowLevel &level = p.levels[blockIdx.y];
  const u32 width = level.packed_quads * 4, blocks = width / 32;
  const u32 y = blockIdx.x / blocks, x = blockIdx.x % blocks * 32 + lane;
  if (y >= level.packed_rows) return;
  const bool inside = y < level.height && x < level.width;
  const u64 plane = static_cast<u64>(level.height) * level.width;
  const float *const query = level.query + image * p.query_dim * plane + static_cast<u64>(y) * level.width + x;
  float *const packed = reinterpret_cast<float *>(level.packed) + static_cast<u64>(y) * width + x;
  double sum = 0.0;
  for (u32 c = part; c < p.dim; c += parts) {
    const float value = inside && c < p.query_dim ? query[c * plane] : 0.0f;
    packed[(static_cast<u64>(image) * p.dim + c) * level.packed_rows * width] = value;
    sum += static_cast<double>(value) * static_cast<double>(value);
  }
  sums[part][lane] = sum;
  __syncthreads();
  if (part != 0 || !inside) return;
  for (u32 other = 1; other < parts; ++other) sum += sums[other][lane];
  level.total[image * plane + static_cast<u64>(y) * level.width + x] = sum;
}

// How four values are stored; int8 without its scale.
struct Fp32Quad {
  float4 bits;
  __device__ float4 values() const { return bits; }
};

struct alignas(8) Fp16Quad {
  u32 low, high;
  __device__ static float half(u32 bits) { return half_to_float(static_cast<u16>(bits)); }
  __device__ float4 values() const { return float4{half(low), half(low >> 16), half(high), half(high >> 16)}; }
};

struct Int8Quad {
  u32 bits;
  __device__ static float byte(u32 highest) { return static_cast<float>(static_cast<int>(highest) >> 24); }
  __device__ float4 values() const { return float4{byte(bits << 24), byte(bits << 16), byte(bits << 8), byte(bits)}; }
};

struct MatchParams {
  WindowLevel level;
  const int *references;
  u32 reference_count, nearest, dim;
};

// A tile of 16 x 32 cells per block; `rows` of the window's rows at a time, the others by other blocks. A thread has
// four cells and all their products with those rows. Cells outside are the nearest ones inside: they lie in the same
// window, so the maximum does not change. The bank's next channels are on their way while these are multiplied.
template <class Quad, u32 window, u32 rows>
__device__ inline void match(const MatchParams &p) {
  constexpr u32 tile_rows = WINDOW_ROWS + rows - 1, tile_quads = WINDOW_QUADS + (window + 2) / 4;
  constexpr u32 reads = 1 + (window + 2) / 4;  // quads that hold a thread's columns
  constexpr u32 channel_quads = tile_rows * tile_quads, step_quads = WINDOW_CHANNELS * channel_quads;
  constexpr u32 loads = (step_quads + WINDOW_MATCH_THREADS - 1) / WINDOW_MATCH_THREADS;
  [[maybe_unused]] constexpr u32 unrolled = window == 7 ? 2 : WINDOW_CHANNELS;  // more would spill on sm_80
  __shared__ float4 bank[2][step_quads];

  const WindowLevel &level = p.level;
  const u32 thread = threadIdx.x, row = thread / WINDOW_QUADS, quad = thread % WINDOW_QUADS;
  const u32 passes = window / rows, pass = blockIdx.x % passes, tile = blockIdx.x / passes;
  const u32 tiles_across = level.packed_quads / WINDOW_QUADS;
  const u32 first_quad = tile % tiles_across * WINDOW_QUADS, first_row = tile / tiles_across * WINDOW_ROWS;
  const u32 stride = level.stride / 4;
  const u32 packed_plane = level.packed_rows * level.packed_quads;
  const float4 *const query = level.packed + static_cast<u64>(blockIdx.z) * p.dim * packed_plane +
                              (first_row + row) * level.packed_quads + first_quad + quad;
  const int top = static_cast<int>(first_row + pass * rows) - static_cast<int>(window / 2);
  Quad next[loads];   // of the next channels
  u32 offset[loads];  // of each in its reference
#pragma unroll
  for (u32 i = 0; i < loads; ++i) {
    const u32 at = min(i * WINDOW_MATCH_THREADS + thread, step_quads - 1);
    const u32 c = at / channel_quads, x = min(first_quad + at % tile_quads, stride - 1);
    const int y = top + static_cast<int>(at % channel_quads / tile_quads);
    offset[i] = (static_cast<u32>(min(max(y, 0), static_cast<int>(level.height) - 1)) * p.dim + c) * stride + x;
  }
  const float minus_infinity = __uint_as_float(0xff800000u);
  float best[4] = {minus_infinity, minus_infinity, minus_infinity, minus_infinity};
  for (u32 k = blockIdx.y; k < p.nearest; k += gridDim.y) {
    const u32 reference = static_cast<u32>(p.references[blockIdx.z * p.nearest + k]);
    if (reference >= p.reference_count) continue;
    const Quad *const rows_of = static_cast<const Quad *>(level.bank) +
                                static_cast<u64>(reference) * level.height * p.dim * stride;
    const auto load = [&](u32 channel) {
      const Quad *const from = rows_of + static_cast<u64>(channel) * stride;
#pragma unroll
      for (u32 i = 0; i < loads; ++i) next[i] = from[offset[i]];
    };
    const auto store = [&](float4 *to) {
#pragma unroll
      for (u32 i = 0; i < loads; ++i) {
        const u32 at = i * WINDOW_MATCH_THREADS + thread;
        if (at < step_quads) to[at] = next[i].values();
      }
    };
    float sum[rows][window][4] = {};
    load(0);
    store(bank[0]);
    __syncthreads();
#pragma unroll 1
    for (u32 channel = 0, now = 0; channel < p.dim; channel += WINDOW_CHANNELS, now = 1 - now) {
      const bool more = channel + WINDOW_CHANNELS < p.dim;
      if (more) load(channel + WINDOW_CHANNELS);
#pragma unroll unrolled
      for (u32 c = 0; c < WINDOW_CHANNELS; ++c) {
        const float4 four = query[static_cast<u64>(channel + c) * packed_plane];
        const float q[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (u32 v = 0; v < rows; ++v) {
          float b[reads * 4];
#pragma unroll
          for (u32 i = 0; i < reads; ++i) {
            const float4 read = bank[now][c * channel_quads + (row + v) * tile_quads + quad + i];
            b[4 * i] = read.x, b[4 * i + 1] = read.y, b[4 * i + 2] = read.z, b[4 * i + 3] = read.w;
          }
#pragma unroll
          for (u32 u = 0; u < window; ++u)
#pragma unroll
            for (u32 x = 0; x < 4; ++x) sum[v][u][x] = fmaf(q[x], b[x + u], sum[v][u][x]);
        }
      }
      if (more) store(bank[1 - now]);  // nobody reads this half since the last barrier
      __syncthreads();
    }
#pragma unroll
    for (u32 v = 0; v < rows; ++v)
#pragma unroll
      for (u32 u = 0; u < window; ++u)
#pragma unroll
        for (u32 x = 0; x < 4; ++x) best[x] = sum[v][u][x] > best[x] ? sum[v][u][x] : best[x];
  }
  const u32 y = first_row + row;
#pragma unroll
  for (u32 i = 0; i < 4; ++i) {
    const u32 x = (first_quad + quad) * 4 + i;
    if (y < level.height && x < level.width && best[i] > minus_infinity)
      atomicMax(&level.best[(static_cast<u64>(blockIdx.z) * level.height + y) * level.width + x], ordered(best[i]));
  }
}

EDGEAD_KERNEL(window_match_fp32_1, WINDOW_MATCH_THREADS, MatchParams) { match<Fp32Quad, 1, 1>(p); }
EDGEAD_KERNEL(window_match_fp32_3, WINDOW_MATCH_THREADS, MatchParams) { match<Fp32Quad, 3, 3>(p); }
EDGEAD_KERNEL(window_match_fp32_5, WINDOW_MATCH_THREADS, MatchParams) { match<Fp32Quad, 5, 1>(p); }
EDGEAD_KERNEL(window_match_fp32_7, WINDOW_MATCH_THREADS, MatchParams) { match<Fp32Quad, 7, 1>(p); }
EDGEAD_KERNEL(window_match_fp16_1, WINDOW_MATCH_THREADS, MatchParams) { match<Fp16Quad, 1, 1>(p); }
EDGEAD_KERNEL(window_match_fp16_3, WINDOW_MATCH_THREADS, MatchParams) { match<Fp16Quad, 3, 3>(p); }
EDGEAD_KERNEL(window_match_fp16_5, WINDOW_MATCH_THREADS, MatchParams) { match<Fp16Quad, 5, 1>(p); }
EDGEAD_KERNEL(window_match_fp16_7, WINDOW_MATCH_THREADS, MatchParams) { match<Fp16Quad, 7, 1>(p); }
EDGEAD_KERNEL(window_match_int8_1, WINDOW_MATCH_THREADS, MatchParams) { match<Int8Quad, 1, 1>(p); }
EDGEAD_KERNEL(window_match_int8_3, WINDOW_MATCH_THREADS, MatchParams) { match<Int8Quad, 3, 3>(p); }
EDGEAD_KERNEL(window_match_int8_5, WINDOW_MATCH_THREADS, MatchParams) { match<Int8Quad, 5, 1>(p); }
EDGEAD_KERNEL(window_match_int8_7, WINDOW_MATCH_THREADS, MatchParams) { match<Int8Quad, 7, 1>(p); }

// blockIdx.y is the level. A query that is NaN or longer than 1e34 is no measurement: its products could overflow.
EDGEAD_KERNEL(window_distances, WINDOW_CELL_THREADS, WindowParams) {
  const WindowLevel &level = p.levels[blockIdx.y];
  const u32 cells = level.height * level.width, cell = blockIdx.x * WINDOW_CELL_THREADS + threadIdx.x;
  if (cell >= cells) return;
  const u64 at = static_cast<u64>(blockIdx.z) * cells + cell;
  const u32 key = level.best[at];
  level.best[at] = 0;
  const float best = key != 0 ? from_ordered(key) : __uint_as_float(0xff800000u);
  const double norm = sqrt(level.total[at]);
  const double value = 1.0 - static_cast<double>(best) * p.scale / (norm + 1e-8);
  level.distances[at] = norm <= 1e34 ? static_cast<float>(value) : __uint_as_float(0x7fc00000u);
}

// What a tap makes of a row of cells: a cell that it does not use may be NaN.
template <class Cell>
__device__ inline float along(const WindowTap &tap, const Cell &cell) {
  const float value = tap.weight_low * cell(tap.low);
  return tap.low != tap.high ? value + tap.weight_high * cell(tap.high) : value;
}

// cell(y, x) interpolated.
template <class Cell>
__device__ inline float blended(const WindowTap &row, const WindowTap &column, const Cell &cell) {
  const float upper = along(column, [&](u32 x) { return cell(row.low, x); });
  const float lower = along(column, [&](u32 x) { return cell(row.high, x); });
  return upper * row.weight_low + lower * row.weight_high;
}

// One pixel per thread; blockIdx.y is the row.
EDGEAD_KERNEL(window_map, WINDOW_CELL_THREADS, WindowParams) {
  const u32 image = blockIdx.z, y = blockIdx.y, x = blockIdx.x * WINDOW_CELL_THREADS + threadIdx.x;
  if (x >= p.map_width) return;
  const WindowLevel &first = p.levels[0];
  const WindowTap row = first.rows[y], column = first.columns[x];
  const auto cell_of = [&](const float *values, const WindowLevel &level, u32 cell_y, u32 cell_x) {
    return values[(static_cast<u64>(image) * level.height + cell_y) * level.width + cell_x];
  };
  const auto summed = [&](u32 cell_y, u32 cell_x) {
    float sum = cell_of(first.distances, first, cell_y, cell_x);
    for (u32 i = 1; i < p.level_count; ++i) {
      const WindowLevel &level = p.levels[i];
      sum += blended(level.rows[cell_y], level.columns[cell_x],
                     [&](u32 v, u32 u) { return cell_of(level.distances, level, v, u); });
    }
    return sum;
  };
  float value = blended(row, column, summed);
  if (p.weight != nullptr)
    value *= blended(row, column, [&](u32 v, u32 u) { return cell_of(p.weight, first, v, u); });
  if (p.outside[image] != 0) value = __uint_as_float(0x7fc00000u);
  p.map[(static_cast<u64>(image) * p.map_height + y) * p.map_width + x] = value;
}
