// The windowed search in the compiler's vector types, along the columns of a row: one source for every instruction
// set. Nothing but builtins is called (see CMakeLists.txt).

#include "kernels/window_search.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace edgead::EDGEAD_LEVEL {
namespace {

#if defined(EDGEAD_LEVEL_avx512)
constexpr std::size_t kLanes = 16;
#elif defined(EDGEAD_LEVEL_avx2)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif
constexpr std::size_t kLine = 64;  // bytes that one prefetch brings
static_assert(kSearchBlock % kLanes == 0);

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t Halves __attribute__((vector_size(kLanes * 2)));
typedef std::int8_t Chars __attribute__((vector_size(kLanes)));
typedef double Doubles __attribute__((vector_size(kLanes * 4)));  // half as many
typedef float HalfFloats __attribute__((vector_size(kLanes * 2)));

[[gnu::always_inline]] inline void load(Floats &out, const float *from) {
  __builtin_memcpy(&out, from, sizeof out);
}

// Loads once: the compiler would read the value anew with each use, and unaligned reads are what limits the loop.
[[gnu::always_inline]] inline void load_once(Floats &out, const float *from) {
  load(out, from);
#if defined(__x86_64__)
  asm("" : "+v"(out));
#elif defined(__aarch64__)
  asm("" : "+w"(out));
#endif
}

[[gnu::always_inline]] inline void multiply_add(Floats &sum, const Floats &a, const Floats &b) {
#if defined(EDGEAD_LEVEL_avx512)
  sum = (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(EDGEAD_LEVEL_avx2)
  sum = (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(EDGEAD_LEVEL_neon)
  sum = (Floats)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
  sum += a * b;
#endif
}

[[gnu::always_inline]] inline Doubles root(const Doubles &values) {
#if defined(EDGEAD_LEVEL_avx512)
  return (Doubles)_mm512_maskz_sqrt_pd(0xff, (__m512d)values);
#elif defined(EDGEAD_LEVEL_avx2)
  return (Doubles)_mm256_sqrt_pd((__m256d)values);
#elif defined(__SSE2__)
  return (Doubles)_mm_sqrt_pd((__m128d)values);
#elif defined(__ARM_NEON)
  return (Doubles)vsqrtq_f64((float64x2_t)values);
#else
  Doubles out;
  for (std::size_t i = 0; i < kLanes / 2; ++i) out[i] = __builtin_sqrt(values[i]);
  return out;
#endif
}

// How each type is stored; `widen` gives kLanes values.
struct Fp32 {
  static constexpr std::size_t kBytes = 4;
  [[gnu::always_inline]] static inline void widen(Floats &out, const std::uint8_t *from) {
    __builtin_memcpy(&out, from, sizeof out);
  }
};

// Finite values of at most 1 (checked when a bank is opened): neither infinities nor NaN.
struct Fp16 {
  static constexpr std::size_t kBytes = 2;
  [[gnu::always_inline]] static inline void widen(Floats &out, const std::uint8_t *from) {
    Halves stored;
    __builtin_memcpy(&stored, from, sizeof stored);
#if defined(EDGEAD_LEVEL_avx512)
    out = (Floats)_mm512_maskz_cvtph_ps(0xffff, (__m256i)stored);
#elif defined(EDGEAD_LEVEL_avx2)
    out = (Floats)_mm256_cvtph_ps((__m128i)stored);
#else
    // The bits as those of a float 2^112 times smaller; a power of two scales denormals, too, without rounding.
    const Words bits = __builtin_convertvector(stored, Words);
    out = (Floats)((bits & 0x7fff) << 13) * 0x1p112f;
    out = (Floats)((Words)out | (bits & 0x8000) << 16);
#endif
  }
};

struct Int8 {
  static constexpr std::size_t kBytes = 1;
  [[gnu::always_inline]] static inline void widen(Floats &out, const std::uint8_t *from) {
    Chars stored;
    __builtin_memcpy(&stored, from, sizeof stored);
#if defined(EDGEAD_LEVEL_avx512)
    out = (Floats)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, (__m128i)stored));
#elif defined(EDGEAD_LEVEL_avx2)
    long long low;
    __builtin_memcpy(&low, &stored, sizeof low);
    out = (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(low)));
#else
    out = __builtin_convertvector(__builtin_convertvector(stored, Ints), Floats);
#endif
  }
};

template <typename Stored>
void widen(const std::uint8_t *row, std::size_t dim, std::size_t width, std::size_t radius, std::size_t stride,
           float *bank) {
  for (std::size_t c = 0; c < dim; ++c, row += width * Stored::kBytes, bank += stride) {
    float *const out = bank + radius;
    if (width < kLanes) {
      std::uint8_t copy[kLanes * Stored::kBytes] = {};  // nothing is read past the row
      for (std::size_t i = 0; i < width * Stored::kBytes; ++i) copy[i] = row[i];
      Floats values;
      Stored::widen(values, copy);
      for (std::size_t x = 0; x < width; ++x) out[x] = values[x];
    } else {
      for (std::size_t x = 0; x < width; x += kLanes) {
        const std::size_t at = x + kLanes <= width ? x : width - kLanes;  // the last vector may overlap
        Floats values;
        Stored::widen(values, row + at * Stored::kBytes);
        __builtin_memcpy(out + at, &values, sizeof values);
      }
    }
    for (std::size_t i = 0; i < radius; ++i) {
      bank[i] = out[0];
      out[width + i] = out[width - 1];
    }
  }
}

void pack(const float *__restrict row, std::size_t plane, std::size_t dim, std::size_t width, std::size_t stride,
          float *__restrict packed, double *__restrict total) {
  for (std::size_t c = 0; c < dim; ++c, row += plane, packed += stride)
    for (std::size_t x = 0; x < width; ++x) {
      packed[x] = row[x];
      total[x] += static_cast<double>(row[x]) * static_cast<double>(row[x]);  // exact, so fused or not is the same
    }
}

// `vectors` registers of columns from x on, of `rows` query rows, at all `window` offsets: rows * window * vectors sums
// stay in registers.
template <std::size_t rows, std::size_t window, std::size_t vectors>
[[gnu::always_inline]] inline void block(const SearchRow &job, std::size_t x, std::size_t first,
                                         const std::uint8_t *&ahead, const std::uint8_t *ahead_end) {
  Floats sum[rows][window][vectors] = {};
  const float *bank = job.bank + x;
  const float *query[rows];
  for (std::size_t i = 0; i < rows; ++i) query[i] = job.query[first + i] + x;
  for (std::size_t c = 0; c < job.dim; ++c, bank += job.bank_stride) {
    Floats q[rows][vectors];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < rows; ++i) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < vectors; ++v) load(q[i][v], query[i] + v * kLanes);
      query[i] += job.query_stride;
    }
#pragma GCC unroll 8
    for (std::size_t d = 0; d < window; ++d) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < vectors; ++v) {
        Floats r;
        load_once(r, bank + d + v * kLanes);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < rows; ++i) multiply_add(sum[i][d][v], q[i][v], r);
      }
    }
    if (ahead < ahead_end) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += kLine;
    }
  }
#pragma GCC unroll 8
  for (std::size_t i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v) {
      float *const at = job.best[first + i] + x + v * kLanes;
      Floats best;
      load(best, at);
#pragma GCC unroll 8
      for (std::size_t d = 0; d < window; ++d) best = sum[i][d][v] > best ? sum[i][d][v] : best;
      __builtin_memcpy(at, &best, sizeof best);
    }
  }
}

// All columns; the last ones with fewer registers.
template <std::size_t rows, std::size_t window, std::size_t vectors>
[[gnu::always_inline]] inline void span(const SearchRow &job, std::size_t first, const std::uint8_t *&ahead,
                                        const std::uint8_t *ahead_end) {
  std::size_t x = 0;
  for (; x + vectors * kLanes <= job.columns; x += vectors * kLanes)
    block<rows, window, vectors>(job, x, first, ahead, ahead_end);
  if constexpr (vectors > 2) {
    if (x + 2 * kLanes <= job.columns) {
      block<rows, window, 2>(job, x, first, ahead, ahead_end);
      x += 2 * kLanes;
    }
  }
  if constexpr (vectors > 1) {
    for (; x < job.columns; x += kLanes) block<rows, window, 1>(job, x, first, ahead, ahead_end);
  }
}

void match(const SearchRow &given) {
  const SearchRow job = given;  // a copy: stores to `best` cannot change it
  const std::uint8_t *ahead = job.ahead;
  const std::uint8_t *const end = ahead + job.ahead_bytes;
  if (job.window == 3 && job.rows == 3) {
    span<3, 3, 1>(job, 0, ahead, end);
  } else {
    for (std::size_t i = 0; i < job.rows; ++i) {
      if (job.window == 1) span<1, 1, 4>(job, i, ahead, end);
      if (job.window == 3) span<1, 3, 2>(job, i, ahead, end);
      if (job.window == 5) span<1, 5, 1>(job, i, ahead, end);
      if (job.window == 7) span<1, 7, 1>(job, i, ahead, end);
    }
  }
}

void distance(const float *best, const double *total, double scale, double most, std::size_t columns, float *out) {
  const Doubles nan = Doubles{} + __builtin_nan("");
  for (std::size_t x = 0; x < columns; x += kLanes / 2) {
    Doubles squares;
    HalfFloats found;
    __builtin_memcpy(&squares, total + x, sizeof squares);
    __builtin_memcpy(&found, best + x, sizeof found);
    const Doubles norm = root(squares);
    const Doubles value = 1.0 - __builtin_convertvector(found, Doubles) * scale / (norm + 1e-8);
    const HalfFloats kept = __builtin_convertvector(norm <= most ? value : nan, HalfFloats);
    __builtin_memcpy(out + x, &kept, sizeof kept);
  }
}

void add_blend(const float *__restrict upper, const float *__restrict lower, float weight_upper, float weight_lower,
               std::size_t n, float *__restrict out) {
  for (std::size_t x = 0; x < n; ++x) out[x] += upper[x] * weight_upper + lower[x] * weight_lower;
}

void blend(const float *__restrict upper, const float *__restrict lower, const float *__restrict weigh_upper,
           const float *__restrict weigh_lower, float weight_upper, float weight_lower, std::size_t n,
           float *__restrict out) {
  for (std::size_t x = 0; x < n; ++x) out[x] = upper[x] * weight_upper + lower[x] * weight_lower;
  if (weigh_upper == nullptr) return;
  for (std::size_t x = 0; x < n; ++x) out[x] *= weigh_upper[x] * weight_upper + weigh_lower[x] * weight_lower;
}

constexpr SearchKernels kKernels{widen<Fp32>, widen<Fp16>, widen<Int8>, pack, match, distance, add_blend, blend};

}  // namespace

const SearchKernels &search_kernels() noexcept { return kKernels; }

}  // namespace edgead::EDGEAD_LEVEL
