// The bank search: the nearest vector of a bank for each query, exactly as libedgead defines it
// (native/src/bank_search_plan.cpp): the least sum of squared differences in double, of equal ones the first.
//
//   bank_code    queries less the bank's centre, in tiles
//   bank_screen  a lower bound of the squared distance, per query and group of 32 vectors, from products in fp32
//   bank_refine  per query: the groups whose bound does not rule them out, in double
//   bank_score   per image: the largest distance, weighted by the neighbours of the vector found
//
// The bound, with q and b centred and rounded to float and u = 2^-24. A chain of D fused multiply-adds is off by at
// most D u |q| |b| <= D u (|q|^2 + |b|^2) / 2. Centring moves the difference of the two by at most u (|q| + |b|), so
// its square by less than 5 u (|q|^2 + |b|^2); the last sum rounds by less than 2 u (|q|^2 + |b|^2). Hence
//   |q|^2 + |b|^2 - 2 <q, b>, as computed, >= d^2 - (D + 16) u (|q|^2 + |b|^2).
// `margin` is more than twice that share, and has room for the rounding of everything in double. `base` has the bank's
// part of it, bank_refine takes the query's. No list can overflow: where bounds rule out little, more is compared.

#include "common.cuh"

#define BANK_THREADS 256
#define BANK_TILE 128   // queries and vectors
#define BANK_STEP 8     // channels that lie in shared memory at a time
#define BANK_QUADS 32   // of a tile: float4
#define BANK_GROUPS 4   // of a tile of vectors
#define BANK_CODED 32   // channels that a block of bank_code takes
#define BANK_NEIGHBOURS 64

struct BankParams {
  const float *queries;      // (count, dim)
  const float *bank;         // (vectors, dim)
  const float *centre;       // (dim)
  const float4 *bank_codes;  // (tiles, steps * BANK_STEP, BANK_TILE): centred; 0 where there is nothing
  const float *base;         // (tiles * BANK_TILE): |b|^2 less the margin; infinite where there is no vector
  float4 *query_codes;       // as bank_codes
  float *lowest;             // (count, tiles * BANK_GROUPS): base - 2 <q, b>, the least of each group
  double *squares;           // (count), of the vector found; NaN for a query that is not finite
  int *indices;              // (count)
  float *distances;          // (count)
  u32 count, vectors, dim, steps;
  double margin;
};

__device__ inline u32 tiles_of(u32 count) { return (count + BANK_TILE - 1) / BANK_TILE; }

// A tile of queries and 32 channels per block, turned: neighbours in memory are channels, then queries.
EDGEAD_KERNEL(bank_code, BANK_THREADS, BankParams) {
  __shared__ float turned[BANK_CODED][BANK_TILE + 1];
  const u32 lane = threadIdx.x % 32, channel = blockIdx.y * BANK_CODED + lane;
  for (u32 row = threadIdx.x / 32; row < BANK_TILE; row += BANK_THREADS / 32) {
    const u32 query = blockIdx.x * BANK_TILE + row;
    const bool inside = query < p.count && channel < p.dim;
    turned[lane][row] = inside ? p.queries[static_cast<u64>(query) * p.dim + channel] - p.centre[channel] : 0.0f;
  }
  __syncthreads();
  const u32 channels = p.steps * BANK_STEP;
  for (u32 row = threadIdx.x / 32; row < BANK_CODED && blockIdx.y * BANK_CODED + row < channels;
       row += BANK_THREADS / 32) {
    const float *const four = turned[row] + 4 * lane;
    const u64 at = static_cast<u64>(blockIdx.x) * channels + blockIdx.y * BANK_CODED + row;
    p.query_codes[at * BANK_QUADS + lane] = float4{four[0], four[1], four[2], four[3]};
  }
}

__device__ inline void load_eight(float (&out)[8], const float4 &low, const float4 &high) {
  const float4 first = low, second = high;
  out[0] = first.x, out[1] = first.y, out[2] = first.z, out[3] = first.w;
  out[4] = second.x, out[5] = second.y, out[6] = second.z, out[7] = second.w;
}

// A tile of queries times a tile of vectors per block: 8 x 8 products per thread, 32 x 64 per warp. The next channels
// are on their way while these are multiplied. Blocks that follow each other share the vectors.
EDGEAD_KERNEL(bank_screen, BANK_THREADS, BankParams) {
  __shared__ float4 query_part[2][BANK_STEP * BANK_QUADS], bank_part[2][BANK_STEP * BANK_QUADS];
  const u32 thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const u32 query_tiles = tiles_of(p.count), query_tile = blockIdx.x % query_tiles, tile = blockIdx.x / query_tiles;
  // Lanes lie so that half a warp reads 2 quads of queries and 8 of vectors.
  const u32 lane_row = lane / 16 * 2 + lane % 2, lane_column = lane / 2 % 8;
  const u32 row = warp / 2 * 8 + lane_row, column = warp % 2 * 16 + lane_column;  // in quads; the second is 4 or 8 on
  const u64 tile_quads = static_cast<u64>(p.steps) * (BANK_STEP * BANK_QUADS);
  const float4 *query_codes = p.query_codes + query_tile * tile_quads + thread;
  const float4 *bank_codes = p.bank_codes + tile * tile_quads + thread;
  query_part[0][thread] = *query_codes;
  bank_part[0][thread] = *bank_codes;
  __syncthreads();
  float sum[8][8] = {};
  for (u32 step = 0; step < p.steps; ++step) {
    const u32 now = step % 2;
    const bool more = step + 1 < p.steps;
    float4 next_query, next_bank;
    if (more) {
      query_codes += BANK_STEP * BANK_QUADS;
      bank_codes += BANK_STEP * BANK_QUADS;
      next_query = *query_codes;
      next_bank = *bank_codes;
    }
#pragma unroll
    for (u32 c = 0; c < BANK_STEP; ++c) {
      const float4 *const queries = query_part[now] + c * BANK_QUADS + row;
      const float4 *const vectors = bank_part[now] + c * BANK_QUADS + column;
      float q[8], b[8];
      load_eight(q, queries[0], queries[4]);
      load_eight(b, vectors[0], vectors[8]);
#pragma unroll
      for (u32 i = 0; i < 8; ++i)
#pragma unroll
        for (u32 j = 0; j < 8; ++j) sum[i][j] = fmaf(q[i], b[j], sum[i][j]);
    }
    if (more) {  // nobody reads this half since the last barrier
      query_part[1 - now][thread] = next_query;
      bank_part[1 - now][thread] = next_bank;
    }
    __syncthreads();
  }
  const float4 *const base = reinterpret_cast<const float4 *>(p.base) + tile * BANK_QUADS + column;
  float bases[8];
  load_eight(bases, base[0], base[8]);
  const u32 groups = tiles_of(p.vectors) * BANK_GROUPS;
  const u32 group = tile * BANK_GROUPS + warp % 2 * 2 + lane_column / 4;
#pragma unroll
  for (u32 i = 0; i < 8; ++i) {
    float low = fmaf(-2.0f, sum[i][0], bases[0]);
#pragma unroll
    for (u32 j = 1; j < 8; ++j) low = min(low, fmaf(-2.0f, sum[i][j], bases[j]));
    low = min(low, __shfl_xor_sync(0xffffffffu, low, 2));
    low = min(low, __shfl_xor_sync(0xffffffffu, low, 4));
    const u32 query = query_tile * BANK_TILE + (row + i / 4 * 4) * 4 + i % 4;
    if (lane_column % 4 == 0 && query < p.count) p.lowest[static_cast<u64>(query) * groups + group] = low;
  }
}

struct Nearest {
  double squares;
  u32 vector;

  __device__ void take(double other_squares, u32 other) {
    if (other_squares < squares || (other_squares == squares && other < vector)) {
      squares = other_squares;
      vector = other;
    }
  }
};

// The block's least, for all of its threads.
__device__ inline Nearest block_nearest(Nearest own) {
  __shared__ double squares[BANK_THREADS / 32];
  __shared__ u32 vectors[BANK_THREADS / 32];
  for (u32 step = 16; step > 0; step /= 2) {
    const double other = __shfl_xor_sync(0xffffffffu, own.squares, step);
    own.take(other, __shfl_xor_sync(0xffffffffu, own.vector, step));
  }
  if (threadIdx.x % 32 == 0) {
    squares[threadIdx.x / 32] = own.squares;
    vectors[threadIdx.x / 32] = own.vector;
  }
  __syncthreads();
  for (u32 warp = 0; warp < BANK_THREADS / 32; ++warp) own.take(squares[warp], vectors[warp]);
  __syncthreads();
  return own;
}

// Sums of the 8 threads of a team, in the order of libedgead's `distance`.
template <class T>
__device__ inline T team_sum(T value) {
  for (u32 step = 4; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// In double, for all 8 threads of the team; 0 where it is not `wanted`.
__device__ inline double team_squares(const float *left, const float *right, u32 dim, bool wanted) {
  double sum = 0.0;
#pragma unroll 8
  for (u32 c = threadIdx.x % 8; wanted && c < dim; c += 8) {
    const double apart = static_cast<double>(left[c]) - static_cast<double>(right[c]);
    sum += apart * apart;
  }
  return team_sum(sum);
}

// Compares the 32 vectors of a group, one per team of 8 threads: in float first, where a sum of squared differences is
// off by less than `share` of itself, then in double what may be the nearest.
__device__ inline void examine(const BankParams &p, const float *query, u32 group, Nearest &best) {
  constexpr float least = 1e-30f;  // more than what is lost to underflow
  const u32 team = threadIdx.x / 8;
  const u32 vector = group / 4 * BANK_TILE + group % 4 / 2 * 64 + team / 16 * 32 + group % 2 * 16 + team % 16;
  const bool there = vector < p.vectors;
  const float *const row = p.bank + static_cast<u64>(there ? vector : 0) * p.dim;
  float near = 0.0f;
#pragma unroll 8  // what takes time is the way to memory
  for (u32 c = threadIdx.x % 8; c < p.dim; c += 8) {
    const float apart = query[c] - row[c];
    near = fmaf(apart, apart, near);
  }
  near = team_sum(near);
  if (!there) near = __uint_as_float(0x7f800000u);
  // Rounding of the difference twice, D / 8 sums, 3 sums of the team.
  const float share = static_cast<float>(p.dim / 8 + 16) * 0x1p-24f;
  const float nearest = __uint_as_float(~block_max(~__float_as_uint(near)));  // they are not negative
  const float limit = min(nearest * (1.0f + 4.0f * share), static_cast<float>(best.squares) * (1.0f + 2.0f * share));
  const bool wanted = there && !(near > limit + least);
  const double squares = team_squares(query, row, p.dim, wanted);
  const Nearest found = block_nearest(wanted ? Nearest{squares, vector} : best);
  best.take(found.squares, found.vector);
}

// One query per block.
EDGEAD_KERNEL(bank_refine, BANK_THREADS, BankParams) {
  constexpr double most = 1e34;   // a query of more squares is compared with every vector: its products may overflow
  constexpr double least = 1e-30;  // more than what floats lose to underflow
  __shared__ u32 listed[BANK_THREADS], count;
  const u32 query = blockIdx.x, thread = threadIdx.x, groups = tiles_of(p.vectors) * BANK_GROUPS;
  const float *const row = p.queries + static_cast<u64>(query) * p.dim;
  const float *const lowest = p.lowest + static_cast<u64>(query) * groups;
  const double infinity = static_cast<double>(__uint_as_float(0x7f800000u));
  double squares = 0.0;
  for (u32 c = thread; c < p.dim; c += BANK_THREADS) {
    const double value = static_cast<double>(row[c]) - static_cast<double>(p.centre[c]);
    squares += value * value;
  }
  squares = block_sum(squares);
  if (!(squares < infinity)) {
    if (thread != 0) return;
    const float nan = __uint_as_float(0x7fc00000u);
    p.squares[query] = static_cast<double>(nan);
    p.distances[query] = nan;
    p.indices[query] = 0;
    return;
  }
  const bool screened = squares <= most;
  // The group of the least bound first: the rest is then hardly ever looked at.
  Nearest first{infinity, 0};
  for (u32 group = thread; screened && group < groups; group += BANK_THREADS)
    first.take(static_cast<double>(lowest[group]), group);
  first = block_nearest(first);
  Nearest best{infinity, 0};
  examine(p, row, first.vector, best);
  const double own = (1.0 - p.margin) * squares - least;
  const auto possible = [&](u32 group) {
    return group != first.vector && (!screened || static_cast<double>(lowest[group]) <= best.squares - own);
  };
  for (u32 begin = 0; begin < groups; begin += BANK_THREADS) {
    if (thread == 0) count = 0;
    __syncthreads();
    const u32 group = begin + thread;
    if (group < groups && possible(group)) listed[atomicAdd(&count, 1u)] = group;
    __syncthreads();
    const u32 found = count;
    for (u32 i = 0; i < found; ++i)
      if (possible(listed[i])) examine(p, row, listed[i], best);
    __syncthreads();  // all have read the count
  }
  if (thread != 0) return;
  p.squares[query] = best.squares;
  p.distances[query] = static_cast<float>(sqrt(best.squares));
  p.indices[query] = static_cast<int>(best.vector);
}

struct ScoreParams {
  const float *queries;   // (images, cells, dim)
  const float *bank;      // (vectors, dim)
  const int *near;        // (vectors, neighbours)
  const double *squares;  // (images, cells)
  const int *indices;     // (images, cells)
  float *score;           // (images); NaN where a distance is
  u32 cells, dim, neighbours;
};

// One image per block.
EDGEAD_KERNEL(bank_score, BANK_THREADS, ScoreParams) {
  __shared__ double distances[BANK_NEIGHBOURS];
  const u64 first = static_cast<u64>(blockIdx.x) * p.cells;
  Nearest own{1.0, ~0u};  // the least of the negative squares, of equal ones the first
  u32 nan = 0;
  for (u32 i = threadIdx.x; i < p.cells; i += BANK_THREADS) {
    const double squares = p.squares[first + i];
    if (squares != squares) nan = 1;
    own.take(-squares, i);
  }
  nan = block_max(nan);
  if (nan != 0) {
    if (threadIdx.x == 0) p.score[blockIdx.x] = __uint_as_float(0x7fc00000u);
    return;
  }
  const Nearest worst = block_nearest(own);
  const float *const query = p.queries + (first + worst.vector) * p.dim;
  const int *const near = p.near + static_cast<u64>(p.indices[first + worst.vector]) * p.neighbours;
  for (u32 begin = 0; begin < p.neighbours; begin += BANK_THREADS / 8) {
    const u32 k = begin + threadIdx.x / 8;
    const bool wanted = k < p.neighbours;
    const float *const other = p.bank + (wanted ? static_cast<u64>(near[k]) * p.dim : 0);
    const double squares = team_squares(query, other, p.dim, wanted);
    if (wanted && threadIdx.x % 8 == 0) distances[k] = sqrt(squares);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double most = 0.0, sum = 0.0;
  for (u32 k = 0; k < p.neighbours; ++k) most = max(most, distances[k]);
  for (u32 k = 0; k < p.neighbours; ++k) sum += exp(distances[k] - most);
  p.score[blockIdx.x] = static_cast<float>(sqrt(-worst.squares) * (1.0 - exp(distances[0] - most) / sum));
}
