#pragma once
// Inner loops of the windowed search, one table per instruction set. Levels with a fused multiply-add give the same
// bits; the scalar one rounds its sums twice as often.

#include <cstddef>
#include <cstdint>

namespace edgead {

// Rows of queries, of the widened bank and of results are padded to this many columns: one AVX-512 register of floats.
constexpr std::size_t kSearchBlock = 16;
constexpr std::size_t kSearchWindow = 7;  // the largest

// One row of one reference against the query rows whose windows hold it. `bank` and `query` are dim rows of floats,
// `stride` apart; bank column x stands at x + radius, with `radius` more on either side.
struct SearchRow {
  const float *bank;
  std::size_t bank_stride;
  const float *query[kSearchWindow];
  float *best[kSearchWindow];  // the largest product so far of each query column, `columns` each
  std::size_t query_stride;
  std::size_t rows, window;  // rows <= window
  std::size_t dim;
  std::size_t columns;  // a multiple of kSearchBlock
  const std::uint8_t *ahead;  // the bank's next row, fetched into the cache meanwhile
  std::size_t ahead_bytes;
};

// Stored values as floats, int8 without its scale. Columns outside are the nearest ones: they lie in the same window,
// so the maximum does not change. `row`: dim runs of `width` values. Padding beyond is left alone.
using SearchWiden = void (*)(const std::uint8_t *row, std::size_t dim, std::size_t width, std::size_t radius,
                             std::size_t stride, float *bank);

struct SearchKernels {
  SearchWiden widen_fp32, widen_fp16, widen_int8;
  // One query row out of (dim, height, width), `plane` = height * width: packed[c * stride + x], and total[x] = the sum
  // of its squares, which must be 0 before.
  void (*pack)(const float *row, std::size_t plane, std::size_t dim, std::size_t width, std::size_t stride,
               float *packed, double *total);
  // best = max(best, products); a product that is NaN is left out.
  void (*match)(const SearchRow &job);
  // out = 1 - best * scale / (sqrt(total) + 1e-8); NaN where total is NaN or beyond `most`. Padded columns included.
  void (*distance)(const float *best, const double *total, double scale, double most, std::size_t columns, float *out);
  // out[x] += upper[x] * weight_upper + lower[x] * weight_lower
  void (*add_blend)(const float *upper, const float *lower, float weight_upper, float weight_lower, std::size_t n,
                    float *out);
  // out[x] = the blend of map rows, times that of weight rows where there are any (NULL)
  void (*blend)(const float *upper, const float *lower, const float *weigh_upper, const float *weigh_lower,
                float weight_upper, float weight_lower, std::size_t n, float *out);
};

namespace scalar {
const SearchKernels &search_kernels() noexcept;
}
namespace avx2 {
const SearchKernels &search_kernels() noexcept;
}
namespace avx512 {
const SearchKernels &search_kernels() noexcept;
}
namespace neon {
const SearchKernels &search_kernels() noexcept;
}

}  // namespace edgead
