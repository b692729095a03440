#pragma once
// Inner loops of the bank search, one table per instruction set. All levels give the same bits: what is screened differs
// between them, what is exact does not.

#include <cstddef>
#include <cstdint>

namespace edgead {

constexpr std::size_t kBankTile = 64;    // bank vectors that are screened together
constexpr std::size_t kBankQueries = 6;  // queries that are screened together
constexpr std::size_t kBankBox = 16;     // coordinates, the first ones, that a tile's box is of

// A tile of the bank. Of the point b of each vector (bank_index.hpp) it holds b' = scale * code, off by e.
struct BankTile {
  const void *codes;  // fp32: dim rows of kBankTile floats; int8: dim / 4 rows of kBankTile * 4 bytes, code + 128
  const float *base;  // |b'|^2 - |e|^2, less a margin for rounding; infinity where there is no vector
  float scale;        // 2 * scale
  float residual;     // the largest |e|, rounded up
  float length;       // the largest |b| + |e|, rounded up
};

// kBankQueries points, coded alike, and what each of them is screened by.
struct BankQueries {
  const void *codes;  // rows of `stride` bytes: floats, or int8
  std::size_t stride;
  std::size_t dim;  // int8: a multiple of 4
  const float *scale;
  const std::int32_t *bias;  // -128 * sum of the codes; int8 only
  const float *residual;     // 2 * (the point less scale * code)
  const float *reach;        // 2 * (distance of the best vector so far)
  const float *limit;        // reach^2 / 4 - |q|^2, plus a margin for rounding
};

// What coding finds out.
struct BankCode {
  float residual;    // squares of values - scale * code
  float scale;       // 0 where the values are too small or too large for one: codes are 0, too
  std::int32_t sum;  // of the codes
};

using BankScreen = void (*)(const BankTile &tile, const BankQueries &queries, std::uint64_t *masks);
using BankFirst = void (*)(const BankTile &tile, const BankQueries &queries, std::uint32_t *lanes);

struct BankKernels {
  // masks[i], bit j: vector j may be as near to query i as the best so far, or nearer:
  // base - scale * scale_q * <codes> <= limit + reach * residual + residual_q * length.
  BankScreen screen_fp32, screen_int8;  // int8: VNNI; may be NULL
  // lanes[i]: the vector whose left side is least, a guess to begin with.
  BankFirst first_fp32, first_int8;
  // out = vector - centre; returns the sum of squares.
  float (*centre)(const float *vector, const float *centre, std::size_t dim, float *out);
  // kBankQueries rows times `axes`: dim rows of `columns`, a multiple of kBankBox.
  void (*project)(const float *rows, std::size_t stride, std::size_t dim, const float *axes, std::size_t columns,
                  float *out, std::size_t out_stride);
  // The largest value gets code 127 or -127.
  BankCode (*code_int8)(const float *values, std::size_t dim, std::int8_t *codes);
  // Of `bytes`, a multiple of 64, unsigned ones of a row of the bank and signed ones of a query; VNNI, may be NULL.
  std::int32_t (*product_int8)(const std::uint8_t *bank, const std::int8_t *query, std::size_t bytes);
  // Squared distance of the box low .. high from each of `tiles`, a multiple of 16: kBankBox rows of `tiles`.
  void (*gaps)(const float *tile_low, const float *tile_high, std::size_t tiles, const float *low, const float *high,
               float *squares);
  // Sum of squared differences, in floats and some order.
  float (*rough_distance)(const float *left, const float *right, std::size_t dim);
  // In doubles, in one order for all levels.
  double (*distance)(const float *left, const float *right, std::size_t dim);
};

namespace scalar {
const BankKernels &bank_kernels() noexcept;
}
namespace avx2 {
const BankKernels &bank_kernels() noexcept;
}
namespace avx512 {
const BankKernels &bank_kernels() noexcept;
}
namespace neon {
const BankKernels &bank_kernels() noexcept;
}

}  // namespace edgead
