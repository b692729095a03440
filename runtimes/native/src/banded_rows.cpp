#include "banded_rows.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu.hpp"

namespace edgead {

bool BandedRows::trim(const edgead_banded &matrix) noexcept {
  const std::size_t band = matrix.band;
  if (!spans.allocate(matrix.rows) || !weights.allocate(matrix.rows * band)) return false;
  std::memcpy(weights.data(), matrix.weights, matrix.rows * band * sizeof(float));
  for (std::size_t r = 0; r < matrix.rows; ++r) {
    const float *row = matrix.weights + r * band;
    std::size_t first = 0, end = band;
    while (end > 0 && row[end - 1] == 0.0f) --end;
    while (first < end && row[first] == 0.0f) ++first;
    spans[r] = {static_cast<std::uint32_t>(matrix.start[r]) + static_cast<std::uint32_t>(first),
                static_cast<std::uint32_t>(end - first), r * band + first};
  }
  return true;
}

bool BandedTiles::prepare(const BandedRows &rows, std::size_t row_count) noexcept {
  count = (row_count + kPostTile - 1) / kPostTile;
  if (!tiles.allocate(count)) return false;
  std::size_t groups = 0;
  for (std::size_t t = 0; t < count; ++t) {
    const std::size_t end = std::min(row_count, (t + 1) * kPostTile);
    std::uint32_t low = std::numeric_limits<std::uint32_t>::max(), high = 0;
    for (std::size_t x = t * kPostTile; x < end; ++x) {
      const PostSpan &span = rows.spans[x];
      if (span.count == 0) continue;
      low = std::min(low, span.first);
      high = std::max(high, span.first + span.count);
    }
    tiles[t] = high == 0 ? PostTile{0, 0, 0} : PostTile{low, high - low, groups * kPostTile};
    groups += tiles[t].count;
  }
  if (!weights.allocate(groups * kPostTile)) return false;
  for (std::size_t x = 0; x < row_count; ++x) {
    const PostSpan &span = rows.spans[x];
    const PostTile &tile = tiles[x / kPostTile];
    for (std::size_t b = 0; b < span.count; ++b)
      weights[tile.weights + (span.first - tile.first + b) * kPostTile + x % kPostTile] =
          rows.weights[span.weights + b];
  }
  return true;
}

const PostKernels &post_kernels_for(std::uint64_t cpu_mask) noexcept {
  switch (select_level(cpu_mask)) {
#ifdef EDGEAD_HAVE_avx512
    case Level::avx512: return avx512::post_kernels();
#endif
#ifdef EDGEAD_HAVE_avx2
    case Level::avx2: return avx2::post_kernels();
#endif
#ifdef EDGEAD_HAVE_neon
    case Level::neon: return neon::post_kernels();
#endif
    default: return scalar::post_kernels();
  }
}

}  // namespace edgead
