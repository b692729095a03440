#pragma once
// Inner loops of the bank search, one table per instruction set. All levels give the same bits: what is screened differs
// between them, what is exact does not.

#include <cstddef>
#include <cstdint>

namespace edgead {

constexpr std::size_t kBankTile = 64;    // bank vectors that are screened together
constexpr std::size_t kBankQueries = 6;  // queries that are screened together; counts are padded to it

// A tile of the bank. A vector b, its centre subtracted, is stored as the approximation b' = scale * code, off by e.
struct BankTile {
  const void *codes;  // fp32: dim rows of kBankTile floats; int8: dim / 4 rows of kBankTile * 4 bytes, code + 128
  const float *base;      // |b'|^2 - |e|^2, less a margin for rounding; infinity where there is no vector
  const float *residual;  // |e|, rounded up
  const float *length;    // |b| + |e|, rounded up
  const float *scale;     // 2 * scale
};

// Queries, centred and coded alike, and what each of them is screened by.
struct BankQueries {
  const void *codes;  // rows of `stride` bytes: floats, or int8
  std::size_t stride;
  std::size_t dim;    // int8: a multiple of 4
  std::size_t count;  // a multiple of kBankQueries
  const float *scale;
  const std::int32_t *bias;  // -128 * sum of the codes; int8 only
  const float *residual;     // 2 * (bound of the query's own residual)
  const float *reach;        // 2 * (distance of the best vector so far)
  const float *limit;        // reach^2 / 4 - |q|^2, plus a margin for rounding
};

// What `code` finds out about a query.
struct BankCode {
  float squares;   // of the centred query
  float residual;  // squares of centred - scale * code
  float scale;
  std::int32_t bias;
};

struct BankKernels {
  // masks[i], bit j: vector j may be as near to query i as the best so far, or nearer:
  // base - reach * residual_b - residual_q * length - scale * scale_b * <codes> <= limit.
  void (*screen_fp32)(const BankTile &tile, const BankQueries &queries, std::uint64_t *masks);
  void (*screen_int8)(const BankTile &tile, const BankQueries &queries, std::uint64_t *masks);  // VNNI; may be NULL
  // query - centre as floats; returns the sum of their squares. `codes` is padded with zeros to a multiple of 4.
  BankCode (*code_fp32)(const float *query, const float *centre, std::size_t dim, float *codes);
  BankCode (*code_int8)(const float *query, const float *centre, std::size_t dim, float *centred, std::int8_t *codes);
  // Sum of squared differences in doubles, in one order for all levels.
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
