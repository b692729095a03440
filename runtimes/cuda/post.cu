// The post kernel: raw channels -> combined grid -> map operator -> score, map, mask, heatmap. libedgead's twin
// (native/src/post_plan.cpp), and bit for bit: products and sums run in the same order, and the file is compiled
// without contraction, so that a mask does not depend on who made it.
//
//   post_expand   channels combined, operator along the rows of the grid; the grid's maximum
//   post_rows     operator along the columns; map, mask, heatmap, the map's maximum; the score unless it is a top k
//   post_select   three times, for a top k: one digit of the k-th largest value each, from the highest bits on
//
// Every launch takes all images of a batch: blockIdx.z is the image.

#include "common.cuh"

#define EXPAND_THREADS 128
#define ROWS_THREADS 128
#define ROWS_PER_BLOCK 4
#define SELECT_THREADS 256
#define SELECT_BINS 2048  // of 11 bits

enum ScoreRule : u32 { MAX_GRID = 1, MAX = 2, TOP_K_SUM = 3, TOP_K_MEAN = 4, GRAPH = 5 };

// The non-zero part of one row of a banded matrix: 0 * inf must not reach pixels that do not use a cell.
struct PostSpan {
  u32 first, count;  // columns
  u32 weights;       // index of the first one's weight
};

// What may be set between frames, in device memory: a captured graph keeps its arguments.
struct PostLimits {
  float threshold;             // mask = value >= threshold ? 255 : 0
  float heat_low, heat_scale;  // heatmap = clamp(trunc((value - low) * scale + 0.5), 0, 255); NaN gives 0
};

// What the blocks of one image tell each other: all 0 between frames.
struct PostState {
  u32 grid_max, map_max;  // as `ordered`, 0 = there was no number
  u32 grid_nan, map_nan;
  u32 blocks;             // that are done
  u32 prefix;             // upper bits of the k-th largest value, found so far
  u32 left;               // its rank among the values with that prefix
};

struct PostResult {
  float score_raw;  // NaN where the grid, or a map that the rule reads, holds a NaN
  float map_max;    // NaN where the map holds one
};

struct PostParams {
  const void *raw;    // (images, channels, grid_height, grid_width), float or half
  const float *alpha;
  const PostSpan *columns, *rows;  // of M_w (map_width) and M_h (map_height)
  const float *column_weights, *row_weights;
  const PostLimits *limits;
  const float *graph_score;  // (images), for the rule GRAPH
  float *expanded;           // (images, grid_height, map_width)
  float *map;                // (images, map_height, map_width), as mask and heatmap; NULL = not wanted
  u8 *mask, *heatmap;
  PostState *state;    // (images)
  PostResult *result;  // (images)
  u32 *histogram;      // (images, SELECT_BINS), all 0 between launches; for a top k, as `sums`
  double *sums;        // (images, 2, blocks of post_select)
  u32 channels, grid_height, grid_width, map_height, map_width;
  u32 score_rule, top_k;
  float gamma_before, gamma_after;
};

struct FloatCells {
  const float *values;
  __device__ FloatCells(const void *raw, u64 first) : values(static_cast<const float *>(raw) + first) {}
  __device__ float operator[](u64 i) const { return values[i]; }
};

struct HalfCells {
  const u16 *values;
  __device__ HalfCells(const void *raw, u64 first) : values(static_cast<const u16 *>(raw) + first) {}
  __device__ float operator[](u64 i) const { return half_to_float(values[i]); }
};

template <class Cells>
__device__ inline float combined(const PostParams &p, const Cells &raw, u64 cell) {
  const u64 cells = static_cast<u64>(p.grid_height) * p.grid_width;
  float value = p.alpha[0] * raw[cell];
  for (u32 k = 1; k < p.channels; ++k) value += p.alpha[k] * raw[k * cells + cell];
  return value + p.gamma_before;
}

// One pixel of the expanded grid per thread; the channels are combined anew for each, which is less work than another
// pass. The blocks at x = 0 look for the maximum of their grid row.
template <class Cells>
__device__ inline void expand(const PostParams &p) {
  const u32 y = blockIdx.y, image = blockIdx.z;
  const u64 cells = static_cast<u64>(p.grid_height) * p.grid_width;
  const Cells raw(p.raw, image * p.channels * cells);
  const u64 row = static_cast<u64>(y) * p.grid_width;
  const u32 x = blockIdx.x * EXPAND_THREADS + threadIdx.x;
  if (x < p.map_width) {
    const PostSpan span = p.columns[x];
    float sum = 0.0f;
    for (u32 b = 0; b < span.count; ++b)
      sum += p.column_weights[span.weights + b] * combined(p, raw, row + span.first + b);
    p.expanded[(static_cast<u64>(image) * p.grid_height + y) * p.map_width + x] = sum;
  }
  if (blockIdx.x != 0) return;
  u32 largest = 0;
  bool nan = false;
  for (u32 i = threadIdx.x; i < p.grid_width; i += EXPAND_THREADS) {
    const float value = combined(p, raw, row + i);
    if (is_nan(value))
      nan = true;
    else
      largest = max(largest, ordered(value));
  }
  largest = block_max(largest);
  if (nan) p.state[image].grid_nan = 1;
  if (threadIdx.x == 0) atomicMax(&p.state[image].grid_max, largest);
}

EDGEAD_KERNEL(post_expand_fp32, EXPAND_THREADS, PostParams) { expand<FloatCells>(p); }
EDGEAD_KERNEL(post_expand_fp16, EXPAND_THREADS, PostParams) { expand<HalfCells>(p); }

__device__ inline float number_or_inf(u32 key) { return key != 0 ? from_ordered(key) : __uint_as_float(0xff800000u); }

__device__ inline bool is_top_k(u32 rule) { return rule == TOP_K_SUM || rule == TOP_K_MEAN; }

__device__ inline void finish(PostState &state, PostResult &result, float score, bool reads_map) {
  const float nan = __uint_as_float(0x7fc00000u);
  result.map_max = state.map_nan != 0 ? nan : number_or_inf(state.map_max);
  result.score_raw = state.grid_nan != 0 || (reads_map && state.map_nan != 0) ? nan : score;
  state = PostState{};
}

EDGEAD_KERNEL(post_rows, ROWS_THREADS, PostParams) {
  const u32 image = blockIdx.z;
  const u32 x = blockIdx.x * ROWS_THREADS + threadIdx.x;
  const PostLimits limits = *p.limits;
  u32 largest = 0;
  bool nan = false;
  for (u32 i = 0; i < ROWS_PER_BLOCK; ++i) {
    const u32 y = blockIdx.y * ROWS_PER_BLOCK + i;
    if (x >= p.map_width || y >= p.map_height) break;
    const PostSpan span = p.rows[y];
    const float *source = p.expanded + (static_cast<u64>(image) * p.grid_height + span.first) * p.map_width + x;
    float sum = 0.0f;
    for (u32 b = 0; b < span.count; ++b) sum += p.row_weights[span.weights + b] * source[static_cast<u64>(b) * p.map_width];
    const float value = sum + p.gamma_after;
    const u64 at = (static_cast<u64>(image) * p.map_height + y) * p.map_width + x;
    if (p.map != nullptr) p.map[at] = value;
    if (p.mask != nullptr) p.mask[at] = value >= limits.threshold ? 255 : 0;
    if (p.heatmap != nullptr) {
      float level = (value - limits.heat_low) * limits.heat_scale + 0.5f;
      level = 255.5f < level ? 255.5f : level;
      p.heatmap[at] = level > 0.0f ? static_cast<u8>(level) : 0;
    }
    if (is_nan(value))
      nan = true;
    else
      largest = max(largest, ordered(value));
  }
  PostState &state = p.state[image];
  largest = block_max(largest);
  if (nan) state.map_nan = 1;
  if (threadIdx.x == 0) atomicMax(&state.map_max, largest);
  if (!is_last_block(&state.blocks, gridDim.x * gridDim.y) || threadIdx.x != 0) return;
  if (is_top_k(p.score_rule)) {
    state.left = p.top_k;  // post_select goes on
    return;
  }
  const float score = p.score_rule == MAX_GRID ? number_or_inf(state.grid_max)
                      : p.score_rule == MAX    ? number_or_inf(state.map_max)
                                               : p.graph_score[image];
  finish(state, p.result[image], score, p.score_rule == MAX);
}

struct SelectParams {
  PostParams post;
  u32 pass;  // 0, 1, 2
};

// Radix select over `ordered` keys: 11, 11 and 10 bits. What lies above the digit just found is summed in the next
// pass, and in the last one a bin is one value: its count times the value. So no value is moved, and the sum has the
// same order every time.
EDGEAD_KERNEL(post_select, SELECT_THREADS, SelectParams) {
  const PostParams &post = p.post;
  const u32 image = blockIdx.z, thread = threadIdx.x, blocks = gridDim.x;
  PostState &state = post.state[image];
  u32 *const histogram = post.histogram + static_cast<u64>(image) * SELECT_BINS;
  double *const sums = post.sums + static_cast<u64>(image) * 2 * blocks;
  const u32 below = p.pass == 0 ? 32 : p.pass == 1 ? 21 : 10;  // bits not yet found
  const u32 shift = p.pass == 0 ? 21 : p.pass == 1 ? 10 : 0;
  const u32 digits = (1u << (below - shift)) - 1;
  const u32 prefix = state.prefix;

  __shared__ u32 bins[SELECT_BINS];
  for (u32 i = thread; i < SELECT_BINS; i += SELECT_THREADS) bins[i] = 0;
  __syncthreads();
  const u64 count = static_cast<u64>(post.map_height) * post.map_width;
  const float *const map = post.map + image * count;
  double above = 0.0;
  for (u64 i = static_cast<u64>(blockIdx.x) * SELECT_THREADS + thread; i < count; i += blocks * SELECT_THREADS) {
    const float value = map[i];
    const u32 key = ordered(value);
    if (p.pass == 0 || key >> below == prefix)
      atomicAdd(&bins[(key >> shift) & digits], 1u);
    else if (key >> below > prefix && (p.pass == 1 || key >> 21 == prefix >> 11))
      above += static_cast<double>(value);
  }
  if (p.pass > 0) {
    above = block_sum(above);
    if (thread == 0) sums[(p.pass - 1) * blocks + blockIdx.x] = above;
  }
  __syncthreads();
  for (u32 i = thread; i < SELECT_BINS; i += SELECT_THREADS)
    if (bins[i] != 0) atomicAdd(&histogram[i], bins[i]);
  if (!is_last_block(&state.blocks, blocks)) return;

  // Each thread holds 8 bins, the first one the highest.
  constexpr u32 each = SELECT_BINS / SELECT_THREADS;
  const u32 highest = SELECT_BINS - 1 - thread * each;
  u32 held[each], total = 0;
  for (u32 i = 0; i < each; ++i) {
    held[i] = histogram[highest - i];
    histogram[highest - i] = 0;
    total += held[i];
  }
  u32 *const running = bins;  // how many values the threads up to this one hold
  __syncthreads();
  running[thread] = total;
  __syncthreads();
  for (u32 step = 1; step < SELECT_THREADS; step *= 2) {
    const u32 before = thread >= step ? running[thread - step] : 0;
    __syncthreads();
    running[thread] += before;
    __syncthreads();
  }
  const u32 left = state.left;
  __shared__ u32 digit, rank;  // the digit found, and what is still to take of its bin
  u32 seen = running[thread] - total;
  if (seen < left && left <= running[thread]) {
    for (u32 i = 0; i < each; ++i) {
      if (left <= seen + held[i]) {
        digit = highest - i;
        rank = left - seen;
        break;
      }
      seen += held[i];
    }
  }
  __syncthreads();
  if (p.pass < 2) {
    if (thread == 0) {
      state.prefix = prefix << (below - shift) | digit;
      state.left = rank;
    }
    return;
  }
  double sum = 0.0;
  for (u32 i = thread; i < 2 * blocks; i += SELECT_THREADS) sum += sums[i];
  for (u32 i = 0; i < each; ++i) {
    const u32 bin = highest - i;
    const u32 taken = bin > digit ? held[i] : bin == digit ? rank : 0;
    if (taken > 0) sum += static_cast<double>(taken) * static_cast<double>(from_ordered(prefix << 10 | bin));
  }
  sum = block_sum(sum);
  if (thread != 0) return;
  if (post.score_rule == TOP_K_MEAN) sum /= static_cast<double>(post.top_k);
  finish(state, post.result[image], static_cast<float>(sum), true);
}
