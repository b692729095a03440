// The post kernel's loops in the compiler's vector types: one source for every instruction set, with the
// register width of the level that it is compiled for. Nothing but builtins is called (see CMakeLists.txt).

#include "kernels/post.hpp"

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

// Sum of `n` neighbouring registers of one map row; n is a constant, so that the sums stay in registers.
template <std::size_t n>
[[gnu::always_inline]] inline void blend(Floats (&sum)[n], const PostRow &job, std::size_t x) {
  for (std::size_t i = 0; i < n; ++i) sum[i] = Floats{};
  const float *source = job.rows + x;
  for (std::size_t b = 0; b < job.count; ++b, source += job.stride) {
    const float weight = job.weights[b];
    for (std::size_t i = 0; i < n; ++i) {
      Floats value;
      load(value, source + i * kLanes);
      sum[i] += weight * value;
    }
  }
  for (std::size_t i = 0; i < n; ++i) sum[i] += job.offset;
}

template <bool with_mask, bool with_heatmap>
[[gnu::always_inline]] inline void pictures(const Floats &value, const PostRow &job, std::uint8_t *mask,
                                            std::uint8_t *heatmap, std::size_t at) {
  if (with_mask) {
    const Bytes bytes = __builtin_convertvector(value >= job.threshold, Bytes);  // -1 becomes 255
    __builtin_memcpy(mask + at, &bytes, sizeof bytes);
  }
  if (with_heatmap) {
    Floats shade = (value - job.heat_low) * job.heat_scale;
    shade = shade > 0.0f ? shade : Floats{};  // false for NaN
    shade = shade < 255.0f ? shade : Floats{} + 255.0f;
    const Bytes bytes = __builtin_convertvector(__builtin_convertvector(shade + 0.5f, Ints), Bytes);
    __builtin_memcpy(heatmap + at, &bytes, sizeof bytes);
  }
}

template <bool with_mask, bool with_heatmap>
PostRowResult row_of(const PostRow job) {  // a copy: stores to the outputs cannot change it
  Floats max = Floats{} - kInfinity;
  Ints nan{};
  std::size_t x = 0;
  for (; x + kUnroll * kLanes <= job.width; x += kUnroll * kLanes) {
    Floats sum[kUnroll];
    blend(sum, job, x);
    for (std::size_t i = 0; i < kUnroll; ++i) {
      const std::size_t at = x + i * kLanes;
      __builtin_memcpy(job.map + at, &sum[i], sizeof sum[i]);
      keep_max(max, sum[i]);
      nan |= sum[i] != sum[i];
      pictures<with_mask, with_heatmap>(sum[i], job, job.mask, job.heatmap, at);
    }
  }
  for (; x < job.width; x += kLanes) {
    Floats sum[1];
    blend(sum, job, x);
    const std::size_t left = job.width - x;
    if (left >= kLanes) {
      __builtin_memcpy(job.map + x, &sum[0], sizeof sum[0]);
      keep_max(max, sum[0]);
      nan |= sum[0] != sum[0];
      pictures<with_mask, with_heatmap>(sum[0], job, job.mask, job.heatmap, x);
      continue;
    }
    std::uint8_t mask[kLanes], heatmap[kLanes];
    pictures<with_mask, with_heatmap>(sum[0], job, mask, heatmap, 0);
    Floats valid = Floats{} - kInfinity;  // lanes beyond the row count for nothing
    for (std::size_t i = 0; i < left; ++i) {
      valid[i] = sum[0][i];
      job.map[x + i] = sum[0][i];
      if (with_mask) job.mask[x + i] = mask[i];
      if (with_heatmap) job.heatmap[x + i] = heatmap[i];
    }
    keep_max(max, valid);
    nan |= valid != valid;
  }
  return {lane_max(max), any(nan)};
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
