// The post kernel's loops in the compiler's vector types: one source for every instruction set, with the
// register width of the level that it is compiled for. Nothing but builtins is called (see CMakeLists.txt).

#include "kernels/post.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace edgead::EDGEAD_LEVEL {
namespace {

#if defined(EDGEAD_LEVEL_avx512)
constexpr std::size_t kLanes = 16;
#elif defined(EDGEAD_LEVEL_avx2)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;  // SSE2 and NEON are part of their base architectures
#endif
constexpr std::size_t kUnroll = 4;
constexpr std::size_t kBlock = kUnroll * kLanes;
static_assert(kBlock <= kPostBlock);
constexpr float kInfinity = __builtin_inff();

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));

[[gnu::always_inline]] inline void load(Floats &out, const float *from) {
  __builtin_memcpy(&out, from, sizeof out);
}

// Two comparisons that keep the running value where the new one is NaN.
[[gnu::always_inline]] inline void keep_max(Floats &max, const Floats &value) {
  max = value > max ? value : max;
}

[[gnu::always_inline]] inline float lane_max(const Floats &values) {
  float best = values[0];
  for (std::size_t i = 1; i < kLanes; ++i) best = values[i] > best ? values[i] : best;
  return best;
}

[[gnu::always_inline]] inline bool any(const Ints &mask) {
  std::int32_t all = 0;
  for (std::size_t i = 0; i < kLanes; ++i) all |= mask[i];
  return all != 0;
}

PostGrid combine(const float *raw, std::size_t channels, std::size_t cells, const float *alpha, float gamma,
                 float *grid) {
  PostGrid found{-kInfinity, false, true};
  Floats max = Floats{} - kInfinity;
  Ints nan{}, infinite{};
  std::size_t i = 0;
  for (; i + kLanes <= cells; i += kLanes) {
    Floats value, next;
    load(value, raw + i);
    value *= alpha[0];
    for (std::size_t k = 1; k < channels; ++k) {
      load(next, raw + k * cells + i);
      value += alpha[k] * next;
    }
    value += gamma;
    __builtin_memcpy(grid + i, &value, sizeof value);
    keep_max(max, value);
    nan |= value != value;
    infinite |= (value - value) != Floats{};  // inf - inf is NaN, which is unequal to 0
  }
  found.max = lane_max(max);
  found.nan = any(nan);
  found.finite = !any(infinite);
  for (; i < cells; ++i) {
    float value = alpha[0] * raw[i];
    for (std::size_t k = 1; k < channels; ++k) value += alpha[k] * raw[k * cells + i];
    value += gamma;
    grid[i] = value;
    if (value > found.max) found.max = value;
    if (value != value) found.nan = true;
    if (value - value != 0.0f) found.finite = false;
  }
  return found;
}

void expand(const float *grid_row, const PostTile *tiles, std::size_t tile_count, const float *weights, float *dst) {
  constexpr std::size_t parts = kPostTile / kLanes;
  for (std::size_t t = 0; t < tile_count; ++t) {
    const float *cell = grid_row + tiles[t].first;
    const float *group = weights + tiles[t].weights;
    Floats sum[parts] = {};
    for (std::uint32_t c = 0; c < tiles[t].count; ++c, group += kPostTile) {
      for (std::size_t p = 0; p < parts; ++p) {
        Floats weight;
        load(weight, group + p * kLanes);
        sum[p] += weight * cell[c];
      }
    }
    __builtin_memcpy(dst + t * kPostTile, sum, sizeof sum);
  }
}

// A block of integers, clamped to 0 .. 255, as bytes in order.
[[gnu::always_inline]] inline void store_bytes(std::uint8_t *to, const Ints (&block)[kUnroll]) {
#if defined(EDGEAD_LEVEL_avx512)
  const __m512i low = _mm512_packs_epi32((__m512i)block[0], (__m512i)block[1]);
  const __m512i high = _mm512_packs_epi32((__m512i)block[2], (__m512i)block[3]);
  const __m512i bytes = _mm512_packus_epi16(low, high);  // every 128 bits hold four bytes of each register
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi32(0xffff, order, bytes));
#elif defined(EDGEAD_LEVEL_avx2)
  const __m256i low = _mm256_packs_epi32((__m256i)block[0], (__m256i)block[1]);
  const __m256i high = _mm256_packs_epi32((__m256i)block[2], (__m256i)block[3]);
  const __m256i bytes = _mm256_packus_epi16(low, high);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm256_permutevar8x32_epi32(bytes, order));
#elif defined(__SSE2__)
  const __m128i low = _mm_packs_epi32((__m128i)block[0], (__m128i)block[1]);
  const __m128i high = _mm_packs_epi32((__m128i)block[2], (__m128i)block[3]);
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_packus_epi16(low, high));
#else
  for (std::size_t i = 0; i < kUnroll; ++i) {
    const Ints positive = block[i] > 0 ? block[i] : Ints{};
    const Bytes bytes = __builtin_convertvector(positive < 255 ? positive : Ints{} + 255, Bytes);
    __builtin_memcpy(to + i * kLanes, &bytes, sizeof bytes);
  }
#endif
}

struct Running {
  Floats max = Floats{} - kInfinity;
  Ints nan{};
};

// kBlock pixels from column x on, written to map, mask and heatmap (their first byte).
template <bool with_mask, bool with_heatmap>
[[gnu::always_inline]] inline void block_of(const PostRow &job, std::size_t x, float *map, std::uint8_t *mask,
                                            std::uint8_t *heatmap, Running &running) {
  Floats sum[kUnroll] = {};
  const float *source = job.rows + x;
  for (std::size_t b = 0; b < job.count; ++b, source += job.stride) {
    const float weight = job.weights[b];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kUnroll; ++i) {
      Floats value;
      load(value, source + i * kLanes);
      sum[i] += weight * value;
    }
  }
  const Floats most = Floats{} + 255.5f;
  Ints above[kUnroll], shade[kUnroll];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < kUnroll; ++i) {
    const Floats value = sum[i] + job.offset;
    __builtin_memcpy(map + i * kLanes, &value, sizeof value);
    keep_max(running.max, value);
    running.nan |= value != value;
    if (with_mask) above[i] = (value >= job.threshold) & 255;
    if (with_heatmap) {
      // The instructions behind the conversion give NaN and -inf a value that is not above 0, but +inf, too.
      const Floats level = (value - job.heat_low) * job.heat_scale + 0.5f;
      shade[i] = __builtin_convertvector(most < level ? most : level, Ints);
    }
  }
  if (with_mask) store_bytes(mask, above);
  if (with_heatmap) store_bytes(heatmap, shade);
}

template <bool with_mask, bool with_heatmap>
PostRowResult row_of(const PostRow job) {  // a copy: stores to the outputs cannot change it
  Running running;
  if (job.width < kBlock) {
    // One block beside the outputs, of which the row's own pixels count.
    float map[kBlock];
    std::uint8_t mask[kBlock], heatmap[kBlock];
    Running ignored;
    block_of<with_mask, with_heatmap>(job, 0, map, mask, heatmap, ignored);
    PostRowResult found{-kInfinity, false};
    for (std::size_t x = 0; x < job.width; ++x) {
      job.map[x] = map[x];
      if (with_mask) job.mask[x] = mask[x];
      if (with_heatmap) job.heatmap[x] = heatmap[x];
      if (map[x] > found.max) found.max = map[x];
      if (map[x] != map[x]) found.nan = true;
    }
    return found;
  }
  for (std::size_t x = 0; x < job.width; x += kBlock) {
    const std::size_t at = x + kBlock <= job.width ? x : job.width - kBlock;  // the last block may overlap
    block_of<with_mask, with_heatmap>(job, at, job.map + at, with_mask ? job.mask + at : nullptr,
                                      with_heatmap ? job.heatmap + at : nullptr, running);
  }
  return {lane_max(running.max), any(running.nan)};
}

PostRowResult row(const PostRow &job) {
  if (job.mask != nullptr) return job.heatmap != nullptr ? row_of<true, true>(job) : row_of<true, false>(job);
  return job.heatmap != nullptr ? row_of<false, true>(job) : row_of<false, false>(job);
}

float max(const float *values, std::size_t n) {
  Floats best = Floats{} - kInfinity;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Floats value;
    load(value, values + i);
    keep_max(best, value);
  }
  float found = lane_max(best);
  for (; i < n; ++i) found = values[i] > found ? values[i] : found;
  return found;
}

constexpr PostKernels kKernels{combine, expand, row, max};

}  // namespace

const PostKernels &post_kernels() noexcept { return kKernels; }

}  // namespace edgead::EDGEAD_LEVEL
