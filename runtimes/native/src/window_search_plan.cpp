#include "window_search_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu.hpp"

namespace edgead {
namespace {

// Query rows that a run of bank rows needs shall stay in the second-level cache while all references pass.
constexpr std::size_t kCacheBytes = 256 * 1024;
// A query longer than this is no measurement: its products could overflow. NaN then, never a small distance.
constexpr double kMostLength = 1e34;
constexpr std::size_t kMostPixels = std::size_t{1} << 28;

const SearchKernels &kernels_for(std::uint64_t cpu_mask) noexcept {
  switch (select_level(cpu_mask)) {
#ifdef EDGEAD_HAVE_avx512
    case Level::avx512: return avx512::search_kernels();
#endif
#ifdef EDGEAD_HAVE_avx2
    case Level::avx2: return avx2::search_kernels();
#endif
#ifdef EDGEAD_HAVE_neon
    case Level::neon: return neon::search_kernels();
#endif
    default: return scalar::search_kernels();
  }
}

std::size_t value_bytes(std::uint32_t bank_type) noexcept {
  return bank_type == EDGEAD_BANK_FP32 ? 4 : bank_type == EDGEAD_BANK_FP16 ? 2 : 1;
}

std::size_t padded(std::size_t n, std::size_t block) noexcept { return (n + block - 1) / block * block; }

edgead_status check(const edgead_window_search_options &o, const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (o.bank_type < EDGEAD_BANK_FP32 || o.bank_type > EDGEAD_BANK_INT8)
    return sink.fail(bad, "bank type %u is unknown; use EDGEAD_BANK_*", o.bank_type);
  if (o.references == 0 || o.references > kMostReferences)
    return sink.fail(bad, "%u references; use 1 to %u", o.references, kMostReferences);
  if (o.nearest == 0 || o.nearest > o.references)
    return sink.fail(bad, "%u nearest of %u references; use 1 to %u", o.nearest, o.references, o.references);
  if (o.dim == 0 || o.dim > kMostSearchDim)
    return sink.fail(bad, "descriptors of %u values; use 1 to %u", o.dim, kMostSearchDim);
  if (o.levels == nullptr || o.levels_count == 0 || o.levels_count > kMostSearchLevels)
    return sink.fail(bad, "%u levels; use 1 to %u", o.levels != nullptr ? o.levels_count : 0, kMostSearchLevels);
  if (o.weighted > 1) return sink.fail(bad, "weighted is %u; use 0 or 1", o.weighted);
  for (std::uint32_t i = 0; i < o.levels_count; ++i) {
    const edgead_search_level &level = o.levels[i];
    if (level.height == 0 || level.width == 0 || level.height > kMostSearchSide || level.width > kMostSearchSide)
      return sink.fail(bad, "level %u is %u x %u; use 1 to %u a side", i, level.height, level.width, kMostSearchSide);
    if (level.window % 2 == 0 || level.window > kSearchWindow)
      return sink.fail(bad, "level %u has a window of %u; use an odd one of 1 to %zu", i, level.window, kSearchWindow);
    const std::uint64_t bytes = search_bank_bytes(o.references, o.dim, o.bank_type, level.height, level.width);
    if (bytes == 0) return sink.fail(bad, "the bank of level %u is larger than 64 GiB; keep fewer references", i);
    if (level.bank == nullptr || level.bank_bytes != bytes)
      return sink.fail(bad, "the bank of level %u has %zu bytes, its shape asks for %llu", i,
                       level.bank != nullptr ? level.bank_bytes : 0, static_cast<unsigned long long>(bytes));
  }
  if (o.map_height == 0 || o.map_width == 0 || o.map_height > kMostSearchSide || o.map_width > kMostSearchSide ||
      std::size_t{o.map_height} * o.map_width > kMostPixels)
    return sink.fail(bad, "a map of %u x %u pixels; use 1 to %u a side, %zu in all", o.map_height, o.map_width,
                     kMostSearchSide, kMostPixels);
  return EDGEAD_OK;
}

// Bilinear interpolation of `cells` to `pixels` along one side: half-pixel centres, the border repeated.
bool bilinear(std::size_t pixels, std::size_t cells, BandedRows &rows) noexcept {
  const std::size_t band = cells > 1 ? 2 : 1;
  Buffer<std::int32_t> start;
  Buffer<float> weights;
  if (!start.allocate(pixels) || !weights.allocate(pixels * band)) return false;
  for (std::size_t i = 0; i < pixels; ++i) {
    const double at = (static_cast<double>(i) + 0.5) * static_cast<double>(cells) / static_cast<double>(pixels) - 0.5;
    const double inside = std::min(std::max(at, 0.0), static_cast<double>(cells - 1));
    const std::size_t low = std::min(static_cast<std::size_t>(inside), cells - band);
    const double share = inside - static_cast<double>(low);
    start[i] = static_cast<std::int32_t>(low);
    weights[i * band] = static_cast<float>(1.0 - share);
    if (band == 2) weights[i * band + 1] = static_cast<float>(share);
  }
  return rows.trim({static_cast<std::uint32_t>(pixels), static_cast<std::uint32_t>(cells),
                    static_cast<std::uint32_t>(band), start.data(), weights.data()});
}

// The one or two rows that an output row blends.
struct Blend {
  std::size_t upper, lower;
  float weight_upper, weight_lower;

  Blend(const BandedRows &rows, std::size_t y) noexcept {
    const PostSpan &span = rows.spans[y];
    upper = span.first;
    lower = span.first + (span.count > 1 ? 1 : 0);
    weight_upper = rows.weights[span.weights];
    weight_lower = span.count > 1 ? rows.weights[span.weights + 1] : 0.0f;
  }
};

}  // namespace

std::uint64_t search_bank_bytes(std::uint32_t references, std::uint32_t dim, std::uint32_t bank_type,
                                std::uint32_t height, std::uint32_t width) noexcept {
  std::uint64_t bytes = value_bytes(bank_type);
  for (const std::uint64_t factor : {references, dim, height, width}) {
    if (factor != 0 && bytes > kMostBankBytes / factor) return 0;
    bytes *= factor;
  }
  return bytes;
}

const char *search_bank_problem(std::uint32_t bank_type, const void *bank, std::size_t bytes) noexcept {
  const auto *data = static_cast<const std::uint8_t *>(bank);
  bool sound = true;
  if (bank_type == EDGEAD_BANK_INT8) {
    for (std::size_t i = 0; i < bytes; ++i) sound &= data[i] != 0x80;
    return sound ? nullptr : "has the value -128; int8 holds round(127 * v)";
  }
  // As bit patterns: infinities and NaN are above every number. A little above 1 for rounding.
  if (bank_type == EDGEAD_BANK_FP32) {
    for (std::size_t i = 0; i < bytes; i += 4) {
      std::uint32_t bits;
      std::memcpy(&bits, data + i, sizeof bits);
      sound &= (bits & 0x7fffffffu) <= 0x3f810000u;
    }
  } else {
    for (std::size_t i = 0; i < bytes; i += 2) {
      std::uint16_t bits;
      std::memcpy(&bits, data + i, sizeof bits);
      sound &= (bits & 0x7fffu) <= 0x3c08u;
    }
  }
  return sound ? nullptr : "has values that are no part of a vector of length 1";
}

edgead_status WindowSearchPlan::prepare(const edgead_window_search_options &options, const ErrorSink &sink) {
  const edgead_status status = check(options, sink);
  if (status != EDGEAD_OK) return status;
  kernels_ = &kernels_for(options.cpu_mask);
  post_ = &post_kernels_for(options.cpu_mask);
  widen_ = options.bank_type == EDGEAD_BANK_FP32   ? kernels_->widen_fp32
           : options.bank_type == EDGEAD_BANK_FP16 ? kernels_->widen_fp16
                                                   : kernels_->widen_int8;
  scale_ = options.bank_type == EDGEAD_BANK_INT8 ? 1.0 / 127.0 : 1.0;
  level_count_ = options.levels_count;
  references_ = options.references;
  nearest_ = options.nearest;
  dim_ = options.dim;
  weighted_ = options.weighted != 0;
  map_height_ = options.map_height;
  map_width_ = options.map_width;
  const edgead_search_level &first = options.levels[0];
  bool enough = true;
  std::size_t widest = first.height * padded(map_width_, kPostTile);
  for (std::size_t i = 0; enough && i < level_count_; ++i) {
    const edgead_search_level &given = options.levels[i];
    enough = prepare_level(level_[i], given, options.bank_type) &&
             (i == 0 ? prepare_upsampling(level_[i], map_height_, map_width_)
                     : prepare_upsampling(level_[i], first.height, first.width));
    if (i > 0) widest = std::max(widest, given.height * padded(first.width, kPostTile));
  }
  enough = enough && wide_.allocate(widest) &&
           (!weighted_ || wide_weight_.allocate(first.height * padded(map_width_, kPostTile)));
  return enough ? EDGEAD_OK : sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory for a search of %zu x %u x %u descriptors",
                                        dim_, first.height, first.width);
}

bool WindowSearchPlan::prepare_level(Level &level, const edgead_search_level &given, std::uint32_t bank_type) noexcept {
  level.height = given.height;
  level.width = given.width;
  level.radius = given.window / 2;
  level.columns = padded(level.width, kSearchBlock);
  level.bank_stride = padded(level.columns + 2 * level.radius, kSearchBlock);
  level.bank = static_cast<const std::uint8_t *>(given.bank);
  level.row_bytes = dim_ * level.width * value_bytes(bank_type);
  const std::size_t rows = kCacheBytes / (dim_ * level.columns * sizeof(float)), beside = 2 * level.radius;
  level.block_rows = rows > beside + 1 ? rows - beside : 1;
  return level.packed.allocate(level.height * dim_ * level.columns) &&
         level.total.allocate(level.height * level.columns) && level.best.allocate(level.height * level.columns) &&
         level.row.allocate(dim_ * level.bank_stride);
}

bool WindowSearchPlan::prepare_upsampling(Level &level, std::size_t height, std::size_t width) noexcept {
  BandedRows columns;
  return bilinear(height, level.height, level.to_height) && bilinear(width, level.width, columns) &&
         level.to_width.prepare(columns, width);
}

// Afterwards level.best holds the distances, rows of level.columns.
void WindowSearchPlan::search(Level &level, const float *query, const std::int32_t *references) noexcept {
  const std::size_t cells = level.height * level.columns, plane = level.height * level.width;
  std::fill_n(level.best.data(), cells, -std::numeric_limits<float>::infinity());
  std::fill_n(level.total.data(), cells, 0.0);
  std::size_t packed_rows = 0;
  for (std::size_t begin = 0; begin < level.height; begin += level.block_rows) {
    const std::size_t end = std::min(level.height, begin + level.block_rows);
    for (; packed_rows < std::min(level.height, end + level.radius); ++packed_rows)
      kernels_->pack(query + packed_rows * level.width, plane, dim_, level.width, level.columns,
                     level.packed.data() + packed_rows * dim_ * level.columns,
                     level.total.data() + packed_rows * level.columns);
    for (std::size_t k = 0; k < nearest_; ++k) {
      const auto row_of = [&](std::size_t nearest, std::size_t y) {
        return level.bank + (static_cast<std::size_t>(references[nearest]) * level.height + y) * level.row_bytes;
      };
      for (std::size_t y = begin; y < end; ++y) {
        const std::uint8_t *ahead = y + 1 < end        ? row_of(k, y + 1)
                                    : k + 1 < nearest_ ? row_of(k + 1, begin)
                                    : end < level.height ? row_of(0, end)
                                                         : nullptr;
        match_row(level, y, row_of(k, y), ahead);
      }
    }
  }
  for (std::size_t y = 0; y < level.height; ++y) {
    float *const row = level.best.data() + y * level.columns;
    kernels_->distance(row, level.total.data() + y * level.columns, scale_, kMostLength, level.columns, row);
  }
}

// Row y of a reference against the query rows whose windows reach it.
void WindowSearchPlan::match_row(Level &level, std::size_t y, const std::uint8_t *row,
                                 const std::uint8_t *ahead) noexcept {
  widen_(row, dim_, level.width, level.radius, level.bank_stride, level.row.data());
  const std::size_t first = y - std::min(y, level.radius), last = std::min(level.height - 1, y + level.radius);
  SearchRow job{};
  job.bank = level.row.data();
  job.bank_stride = level.bank_stride;
  job.query_stride = level.columns;
  job.rows = last - first + 1;
  job.window = 2 * level.radius + 1;
  job.dim = dim_;
  job.columns = level.columns;
  job.ahead = ahead;
  job.ahead_bytes = ahead != nullptr ? level.row_bytes : 0;
  for (std::size_t i = 0; i < job.rows; ++i) {
    job.query[i] = level.packed.data() + (first + i) * dim_ * level.columns;
    job.best[i] = level.best.data() + (first + i) * level.columns;
  }
  kernels_->match(job);
}

void WindowSearchPlan::widen(const Level &level, const float *map, std::size_t stride, float *wide) const noexcept {
  for (std::size_t y = 0; y < level.height; ++y)
    post_->expand(map + y * stride, level.to_width.tiles.data(), level.to_width.count, level.to_width.weights.data(),
                  wide + y * level.to_width.count * kPostTile);
}

edgead_status WindowSearchPlan::run(const float *const *queries, const std::int32_t *references, const float *weight,
                                    float *map, const ErrorSink &sink) noexcept {
  for (std::size_t k = 0; k < nearest_; ++k)
    if (references[k] < 0 || static_cast<std::size_t>(references[k]) >= references_)
      return sink.fail(EDGEAD_ERR_ENGINE, "nearest reference %zu has the index %d, the bank has 0 .. %zu; export the "
                       "MODEL again", k, references[k], references_ - 1);
  for (std::size_t i = 0; i < level_count_; ++i) search(level_[i], queries[i], references);
  Level &first = level_[0];
  for (std::size_t i = 1; i < level_count_; ++i) {
    const Level &level = level_[i];
    const std::size_t stride = level.to_width.count * kPostTile;
    widen(level, level.best.data(), level.columns, wide_.data());
    for (std::size_t y = 0; y < first.height; ++y) {
      const Blend rows(level.to_height, y);
      kernels_->add_blend(wide_.data() + rows.upper * stride, wide_.data() + rows.lower * stride, rows.weight_upper,
                          rows.weight_lower, first.width, first.best.data() + y * first.columns);
    }
  }
  const std::size_t stride = first.to_width.count * kPostTile;
  widen(first, first.best.data(), first.columns, wide_.data());
  if (weighted_) widen(first, weight, first.width, wide_weight_.data());
  for (std::size_t y = 0; y < map_height_; ++y) {
    const Blend rows(first.to_height, y);
    const float *upper = weighted_ ? wide_weight_.data() + rows.upper * stride : nullptr;
    const float *lower = weighted_ ? wide_weight_.data() + rows.lower * stride : nullptr;
    kernels_->blend(wide_.data() + rows.upper * stride, wide_.data() + rows.lower * stride, upper, lower,
                    rows.weight_upper, rows.weight_lower, map_width_, map + y * map_width_);
  }
  return EDGEAD_OK;
}

}  // namespace edgead
