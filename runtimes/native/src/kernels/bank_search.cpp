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

// The bits of query i for the register of the tile that begins at `at`.
[[gnu::always_inline]] inline std::uint64_t judge(const BankTile &tile, const BankQueries &queries, std::size_t i,
                                                  std::size_t at, const Floats &product) {
  Floats value, residual, length, scale;
  load(value, tile.base + at);
  load(residual, tile.residual + at);
  load(length, tile.length + at);
  load(scale, tile.scale + at);
  multiply_add(value, residual, Floats{} - queries.reach[i]);
  multiply_add(value, length, Floats{} - queries.residual[i]);
  multiply_add(value, scale * product, Floats{} - queries.scale[i]);
  return not_above(value, queries.limit[i]) << at;
}

void screen_fp32(const BankTile &given, const BankQueries &from, std::uint64_t *masks) {
  const BankTile tile = given;
  const BankQueries queries = from;
  const std::size_t stride = queries.stride / sizeof(float);
  for (std::size_t first = 0; first < queries.count; first += kBankQueries) {
    const float *const query = static_cast<const float *>(queries.codes) + first * stride;
    std::uint64_t found[kBankQueries] = {};
    for (std::size_t at = 0; at < kBankTile; at += kLanes * kRegisters) {
      Floats sum[kBankQueries][kRegisters] = {};
      const float *bank = static_cast<const float *>(tile.codes) + at;
      for (std::size_t c = 0; c < queries.dim; ++c, bank += kBankTile) {
        Floats b[kRegisters];
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kRegisters; ++v) load(b[v], bank + v * kLanes);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < kBankQueries; ++i) {
          const Floats q = Floats{} + query[i * stride + c];
#pragma GCC unroll 8
          for (std::size_t v = 0; v < kRegisters; ++v) multiply_add(sum[i][v], q, b[v]);
        }
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kBankQueries; ++i)
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kRegisters; ++v)
          found[i] |= judge(tile, queries, first + i, at + v * kLanes, sum[i][v]);
    }
    for (std::size_t i = 0; i < kBankQueries; ++i) masks[first + i] = found[i];
  }
}

#if defined(EDGEAD_LEVEL_avx512)
// sum += four products of bytes per lane: unsigned bank, signed query. In assembler, for the compiler keeps copies of
// what its own builtin adds to on the stack; and it needs no function of another instruction set.
[[gnu::always_inline]] inline void add_products(Ints &sum, const Ints &bank, const Ints &query) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bank), "v"(query));
}

// Whole numbers, exact: 255 * 127 * 4096 fits.
void screen_int8(const BankTile &given, const BankQueries &from, std::uint64_t *masks) {
  const BankTile tile = given;
  const BankQueries queries = from;
  for (std::size_t first = 0; first < queries.count; first += kBankQueries) {
    const auto *const query = static_cast<const std::int8_t *>(queries.codes) + first * queries.stride;
    const auto *bank = static_cast<const std::uint8_t *>(tile.codes);
    Ints sum[kBankQueries][kRegisters];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kBankQueries; ++i)
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kRegisters; ++v) sum[i][v] = Ints{} + queries.bias[first + i];
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
      std::uint64_t found = 0;
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kRegisters; ++v)
        found |= judge(tile, queries, first + i, v * kLanes, __builtin_convertvector(sum[i][v], Floats));
      masks[first + i] = found;
    }
  }
}
#endif

// The next up to kLanes values, zeros behind the last.
[[gnu::always_inline]] inline void load_some(Floats &out, const float *from, std::size_t count) {
  if (count >= kLanes) {
    load(out, from);
  } else {
    float some[kLanes] = {};
    for (std::size_t i = 0; i < count; ++i) some[i] = from[i];
    load(out, some);
  }
}

[[gnu::always_inline]] inline void store_some(float *to, const Floats &values, std::size_t count) {
  if (count >= kLanes)
    __builtin_memcpy(to, &values, sizeof values);
  else
    for (std::size_t i = 0; i < count; ++i) to[i] = values[i];
}

float total(const Floats &values) {
  float sum = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) sum += values[i];
  return sum;
}

float centre_query(const float *query, const float *centre, std::size_t dim, float *out, float &largest) {
  Floats squares = {}, most = {};
  for (std::size_t c = 0; c < dim; c += kLanes) {
    Floats q, m;
    load_some(q, query + c, dim - c);
    load_some(m, centre + c, dim - c);
    const Floats x = q - m, size = x < 0.0f ? -x : x;
    multiply_add(squares, x, x);
    most = size > most ? size : most;
    store_some(out + c, x, dim - c);
  }
  largest = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
  return total(squares);
}

BankCode code_fp32(const float *query, const float *centre, std::size_t dim, float *codes) {
  float largest;
  return {centre_query(query, centre, dim, codes, largest), 0.0f, 1.0f, 0};
}

BankCode code_int8(const float *query, const float *centre, std::size_t dim, float *centred, std::int8_t *codes) {
  float largest;
  const float squares = centre_query(query, centre, dim, centred, largest);
  // Below, 127 / largest could be infinite: the code is 0 then, and the residual all.
  const bool coded = largest > 1e-30f && largest < 1e30f;
  const float scale = coded ? largest / 127.0f : 0.0f, inverse = coded ? 127.0f / largest : 0.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a sum with it has no digits behind the point
  Floats residual = {};
  Ints sum = {};
  const Floats round = Floats{} + kRound;
  for (std::size_t c = 0; c < dim; c += kLanes) {
    Floats x;
    load_some(x, centred + c, dim - c);
    if (!coded) x = Floats{};
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
  for (std::size_t c = dim; c % 4 != 0; ++c) codes[c] = 0;
  std::int32_t codes_sum = 0;
  for (std::size_t i = 0; i < kLanes; ++i) codes_sum += sum[i];
  return {squares, coded ? total(residual) : squares, scale, -128 * codes_sum};
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
constexpr BankKernels kKernels{screen_fp32, screen_int8, code_fp32, code_int8, distance};
#else
constexpr BankKernels kKernels{screen_fp32, nullptr, code_fp32, code_int8, distance};
#endif

}  // namespace

const BankKernels &bank_kernels() noexcept { return kKernels; }

}  // namespace edgead::EDGEAD_LEVEL
