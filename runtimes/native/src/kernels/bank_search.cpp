// The bank search in the compiler's vector types, along the vectors of a tile: one source for every instruction set.
// Nothing but builtins is called (see CMakeLists.txt).

#include "kernels/bank_search.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace edgead::EDGEAD_LEVEL {
namespace {

#if defined(EDGEAD_LEVEL_avx512)
constexpr std::size_t kLanes = 16, kRegisters = 4;  // of the tile, at a time
#elif defined(EDGEAD_LEVEL_avx2)
constexpr std::size_t kLanes = 8, kRegisters = 2;
#else
constexpr std::size_t kLanes = 4, kRegisters = 2;
#endif
static_assert(kBankTile % (kLanes * kRegisters) == 0);
constexpr std::size_t kExact = 8;  // doubles that `distance` sums side by side, at every level

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::int8_t Chars __attribute__((vector_size(kLanes)));
typedef float EightFloats __attribute__((vector_size(kExact * 4)));
typedef double EightDoubles __attribute__((vector_size(kExact * 8)));

[[gnu::always_inline]] inline void load(Floats &out, const float *from) { __builtin_memcpy(&out, from, sizeof out); }

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

// One bit per lane.
[[gnu::always_inline]] inline std::uint64_t not_above(const Floats &value, float limit) {
  const Floats most = Floats{} + limit;
#if defined(EDGEAD_LEVEL_avx512)
  return _mm512_cmp_ps_mask((__m512)value, (__m512)most, _CMP_LE_OQ);
#elif defined(EDGEAD_LEVEL_avx2)
  return static_cast<std::uint64_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)value, (__m256)most, _CMP_LE_OQ)));
#elif defined(__SSE2__)
  return static_cast<std::uint64_t>(_mm_movemask_ps(_mm_cmple_ps((__m128)value, (__m128)most)));
#else
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < kLanes; ++i) bits |= static_cast<std::uint64_t>(value[i] <= most[i]) << i;
  return bits;
#endif
}

template <std::size_t R>
using Products = Floats[kBankQueries][R];

// Rows of queries times the columns that begin at `other`, whose rows are `width` apart.
template <std::size_t R>
[[gnu::always_inline]] inline void multiply(Products<R> &sum, const float *query, std::size_t stride, std::size_t dim,
                                            const float *other, std::size_t width) {
  for (std::size_t c = 0; c < dim; ++c, other += width) {
    Floats b[R];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < R; ++v) load(b[v], other + v * kLanes);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kBankQueries; ++i) {
      const Floats q = Floats{} + query[i * stride + c];
#pragma GCC unroll 8
      for (std::size_t v = 0; v < R; ++v) multiply_add(sum[i][v], q, b[v]);
    }
  }
}

// base - scales * products: how near the vectors of a register are to a query, but for the query's own length.
[[gnu::always_inline]] inline void approximate(Floats &value, const BankTile &tile, std::size_t at, float scales,
                                               const Floats &products) {
  load(value, tile.base + at);
  multiply_add(value, products, Floats{} - scales);
}

[[gnu::always_inline]] inline float cut(const BankTile &tile, const BankQueries &queries, std::size_t i) {
  return queries.limit[i] + queries.reach[i] * tile.residual + queries.residual[i] * tile.length;
}

// One bit per vector of `N` registers from `at` on.
template <std::size_t N>
[[gnu::always_inline]] inline std::uint64_t judge(const BankTile &tile, std::size_t at, const Floats *products,
                                                  float scales, float most) {
  std::uint64_t found = 0;
#pragma GCC unroll 8
  for (std::size_t v = 0; v < N; ++v) {
    Floats value;
    approximate(value, tile, at + v * kLanes, scales, products[v]);
    found |= not_above(value, most) << (at + v * kLanes);
  }
  return found;
}

std::uint32_t least_of(const float *values) {
  std::uint32_t least = 0;
  for (std::uint32_t j = 1; j < kBankTile; ++j)
    if (values[j] < values[least]) least = j;
  return least;
}

template <typename Each>
[[gnu::always_inline]] inline void products_fp32(const BankTile &tile, const BankQueries &queries, Each each) {
  const auto *const query = static_cast<const float *>(queries.codes);
  const auto *const bank = static_cast<const float *>(tile.codes);
  for (std::size_t at = 0; at < kBankTile; at += kLanes * kRegisters) {
    Products<kRegisters> sum = {};
    multiply<kRegisters>(sum, query, queries.stride / sizeof(float), queries.dim, bank + at, kBankTile);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kBankQueries; ++i) each(i, at, sum[i], tile.scale * queries.scale[i]);
  }
}

void screen_fp32(const BankTile &given, const BankQueries &from, std::uint64_t *masks) {
  const BankTile tile = given;
  const BankQueries queries = from;
  std::uint64_t found[kBankQueries] = {};
  products_fp32(tile, queries, [&](std::size_t i, std::size_t at, const Floats *products, float scales) {
    found[i] |= judge<kRegisters>(tile, at, products, scales, cut(tile, queries, i));
  });
  for (std::size_t i = 0; i < kBankQueries; ++i) masks[i] = found[i];
}

void first_fp32(const BankTile &tile, const BankQueries &queries, std::uint32_t *lanes) {
  float values[kBankQueries][kBankTile];
  products_fp32(tile, queries, [&](std::size_t i, std::size_t at, const Floats *products, float scales) {
    for (std::size_t v = 0; v < kRegisters; ++v) {
      Floats value;
      approximate(value, tile, at + v * kLanes, scales, products[v]);
      __builtin_memcpy(values[i] + at + v * kLanes, &value, sizeof value);
    }
  });
  for (std::size_t i = 0; i < kBankQueries; ++i) lanes[i] = least_of(values[i]);
}

#if defined(EDGEAD_LEVEL_avx512)
// sum += four products of bytes per lane: unsigned bank, signed query. In assembler, for the compiler keeps copies of
// what its own builtin adds to on the stack; and it needs no function of another instruction set.
[[gnu::always_inline]] inline void add_products(Ints &sum, const Ints &bank, const Ints &query) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bank), "v"(query));
}

// Whole numbers, exact: 255 * 127 * 4096 fits.
template <typename Each>
[[gnu::always_inline]] inline void products_int8(const BankTile &tile, const BankQueries &queries, Each each) {
  static_assert(kLanes * kRegisters == kBankTile);
  const auto *const query = static_cast<const std::int8_t *>(queries.codes);
  const auto *bank = static_cast<const std::uint8_t *>(tile.codes);
  Ints sum[kBankQueries][kRegisters];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kBankQueries; ++i)
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kRegisters; ++v) sum[i][v] = Ints{} + queries.bias[i];
  for (std::size_t c = 0; c < queries.dim; c += 4, bank += kBankTile * 4) {
    Ints b[kRegisters];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kRegisters; ++v) __builtin_memcpy(&b[v], bank + v * sizeof b[v], sizeof b[v]);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kBankQueries; ++i) {
      std::int32_t four;
      __builtin_memcpy(&four, query + i * queries.stride + c, sizeof four);
      const Ints q = Ints{} + four;
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kRegisters; ++v) add_products(sum[i][v], b[v], q);
    }
  }
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kBankQueries; ++i) {
    Floats products[kRegisters];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kRegisters; ++v) products[v] = __builtin_convertvector(sum[i][v], Floats);
    each(i, products, tile.scale * queries.scale[i]);
  }
}

void screen_int8(const BankTile &given, const BankQueries &from, std::uint64_t *masks) {
  const BankTile tile = given;
  const BankQueries queries = from;
  products_int8(tile, queries, [&](std::size_t i, const Floats *products, float scales) {
    masks[i] = judge<kRegisters>(tile, 0, products, scales, cut(tile, queries, i));
  });
}

void first_int8(const BankTile &tile, const BankQueries &queries, std::uint32_t *lanes) {
  float values[kBankQueries][kBankTile];
  products_int8(tile, queries, [&](std::size_t i, const Floats *products, float scales) {
    for (std::size_t v = 0; v < kRegisters; ++v) {
      Floats value;
      approximate(value, tile, v * kLanes, scales, products[v]);
      __builtin_memcpy(values[i] + v * kLanes, &value, sizeof value);
    }
  });
  for (std::size_t i = 0; i < kBankQueries; ++i) lanes[i] = least_of(values[i]);
}

std::int32_t product_int8(const std::uint8_t *bank, const std::int8_t *query, std::size_t bytes) {
  Ints sums[2] = {};
  for (std::size_t c = 0; c < bytes; c += sizeof(Ints)) {
    Ints b, q;
    __builtin_memcpy(&b, bank + c, sizeof b);
    __builtin_memcpy(&q, query + c, sizeof q);
    add_products(sums[c / sizeof(Ints) % 2], b, q);
  }
  return _mm512_reduce_add_epi32((__m512i)(sums[0] + sums[1]));
}
#endif

template <std::size_t R>
void project_columns(const float *rows, std::size_t stride, std::size_t dim, const float *axes, std::size_t columns,
                     float *out, std::size_t out_stride) {
  Products<R> sum = {};
  multiply<R>(sum, rows, stride, dim, axes, columns);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kBankQueries; ++i)
#pragma GCC unroll 8
    for (std::size_t v = 0; v < R; ++v) __builtin_memcpy(out + i * out_stride + v * kLanes, &sum[i][v], sizeof(Floats));
}

void project(const float *rows, std::size_t stride, std::size_t dim, const float *axes, std::size_t columns,
             float *out, std::size_t out_stride) {
  static_assert(kBankBox % kLanes == 0);
  std::size_t at = 0;
  for (; at + kLanes * kRegisters <= columns; at += kLanes * kRegisters)
    project_columns<kRegisters>(rows, stride, dim, axes + at, columns, out + at, out_stride);
  for (; at + kLanes * 2 <= columns; at += kLanes * 2)
    project_columns<2>(rows, stride, dim, axes + at, columns, out + at, out_stride);
  for (; at < columns; at += kLanes) project_columns<1>(rows, stride, dim, axes + at, columns, out + at, out_stride);
}

// The next up to kLanes values, zeros behind the last.
[[gnu::always_inline]] inline void load_some(Floats &out, const float *from, std::size_t count) {
  if (count >= kLanes) {
    load(out, from);
  } else {
#if defined(EDGEAD_LEVEL_avx512)
    out = (Floats)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
    float some[kLanes] = {};
    for (std::size_t i = 0; i < count; ++i) some[i] = from[i];
    load(out, some);
#endif
  }
}

[[gnu::always_inline]] inline void store_some(float *to, const Floats &values, std::size_t count) {
  if (count >= kLanes)
    __builtin_memcpy(to, &values, sizeof values);
  else
    for (std::size_t i = 0; i < count; ++i) to[i] = values[i];
}

[[gnu::always_inline]] inline float total(const Floats &values) {
#if defined(EDGEAD_LEVEL_avx512)
  return _mm512_reduce_add_ps((__m512)values);
#else
  float sum = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) sum += values[i];
  return sum;
#endif
}

float centre(const float *vector, const float *centre, std::size_t dim, float *out) {
  Floats squares = {};
  for (std::size_t c = 0; c < dim; c += kLanes) {
    Floats x, m;
    load_some(x, vector + c, dim - c);
    load_some(m, centre + c, dim - c);
    x -= m;
    multiply_add(squares, x, x);
    store_some(out + c, x, dim - c);
  }
  return total(squares);
}

BankCode code_int8(const float *values, std::size_t dim, std::int8_t *codes) {
  Floats most = {};
  for (std::size_t c = 0; c < dim; c += kLanes) {
    Floats x;
    load_some(x, values + c, dim - c);
    const Floats size = x < 0.0f ? -x : x;
    most = size > most ? size : most;
  }
  float largest = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
  // Below, 127 / largest could be infinite.
  const bool coded = largest > 1e-30f && largest < 1e30f;
  const float scale = coded ? largest / 127.0f : 0.0f, inverse = coded ? 127.0f / largest : 0.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a sum with it has no digits behind the point
  Floats residual = {};
  Ints sum = {};
  const Floats round = Floats{} + kRound;
  for (std::size_t c = 0; c < dim; c += kLanes) {
    Floats x;
    load_some(x, values + c, dim - c);
    const Floats whole = (x * inverse + round) - round;
    const Floats rest = x - whole * scale;
    multiply_add(residual, rest, rest);
    const Ints code = __builtin_convertvector(whole, Ints);
    sum += code;
    const Chars bytes = __builtin_convertvector(code, Chars);
    if (dim - c >= kLanes)
      __builtin_memcpy(codes + c, &bytes, sizeof bytes);
    else
      for (std::size_t i = 0; i < dim - c; ++i) codes[c + i] = bytes[i];
  }
  std::int32_t codes_sum = 0;
  for (std::size_t i = 0; i < kLanes; ++i) codes_sum += sum[i];
  return {total(residual), scale, codes_sum};
}

void gaps(const float *tile_low, const float *tile_high, std::size_t tiles, const float *low, const float *high,
          float *squares) {
  for (std::size_t t = 0; t < tiles; t += kLanes) {
    Floats sum = {};
    for (std::size_t c = 0; c < kBankBox; ++c) {
      Floats below, above;
      load(below, tile_low + c * tiles + t);
      load(above, tile_high + c * tiles + t);
      below -= high[c];
      above = low[c] - above;
      Floats gap = below > above ? below : above;
      gap = gap > 0.0f ? gap : Floats{};
      multiply_add(sum, gap, gap);
    }
    __builtin_memcpy(squares + t, &sum, sizeof sum);
  }
}

float rough_distance(const float *left, const float *right, std::size_t dim) {
  Floats sums[2] = {};
  std::size_t c = 0;
  for (; c + 2 * kLanes <= dim; c += 2 * kLanes)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < 2; ++v) {
      Floats l, r;
      load(l, left + c + v * kLanes);
      load(r, right + c + v * kLanes);
      l -= r;
      multiply_add(sums[v], l, l);
    }
  for (; c < dim; c += kLanes) {
    Floats l, r;
    load_some(l, left + c, dim - c);
    load_some(r, right + c, dim - c);
    l -= r;
    multiply_add(sums[0], l, l);
  }
  return total(sums[0] + sums[1]);
}

[[gnu::always_inline]] inline void add_squares(EightDoubles &sum, const float *left, const float *right) {
  EightFloats l, r;
  __builtin_memcpy(&l, left, sizeof l);
  __builtin_memcpy(&r, right, sizeof r);
  const EightDoubles apart = __builtin_convertvector(l, EightDoubles) - __builtin_convertvector(r, EightDoubles);
  sum += apart * apart;
}

double distance(const float *left, const float *right, std::size_t dim) {
  EightDoubles sum = {};
  std::size_t c = 0;
  for (; c + kExact <= dim; c += kExact) add_squares(sum, left + c, right + c);
  if (c < dim) {
    float l[kExact] = {}, r[kExact] = {};
    for (std::size_t i = 0; c + i < dim; ++i) {
      l[i] = left[c + i];
      r[i] = right[c + i];
    }
    add_squares(sum, l, r);
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

#if defined(EDGEAD_LEVEL_avx512)
constexpr BankScreen kScreen = screen_int8;
constexpr BankFirst kFirst = first_int8;
constexpr auto kProduct = product_int8;
#else
constexpr BankScreen kScreen = nullptr;
constexpr BankFirst kFirst = nullptr;
constexpr std::int32_t (*kProduct)(const std::uint8_t *, const std::int8_t *, std::size_t) = nullptr;
#endif
constexpr BankKernels kKernels{screen_fp32, kScreen, first_fp32, kFirst,         centre,
                               project,     code_int8, kProduct, gaps,   rough_distance, distance};

}  // namespace

const BankKernels &bank_kernels() noexcept { return kKernels; }

}  // namespace edgead::EDGEAD_LEVEL
