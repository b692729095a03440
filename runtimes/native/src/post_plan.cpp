#include "post_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "top_k.hpp"

namespace edgead {
namespace {

constexpr std::uint32_t kMostSide = 1u << 15;      // pixels or cells along one side
constexpr std::size_t kMostCells = std::size_t{1} << 28;  // channels * grid, and map

edgead_status check_banded(const edgead_banded &matrix, const char *name, std::uint32_t cols,
                           const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (matrix.start == nullptr || matrix.weights == nullptr)
    return sink.fail(bad, "%s has no start or no weights", name);
  if (matrix.rows == 0 || matrix.rows > kMostSide)
    return sink.fail(bad, "%s has %u rows; use 1 to %u", name, matrix.rows, kMostSide);
  if (matrix.cols != cols)
    return sink.fail(bad, "%s has %u columns, the grid has %u along that side", name, matrix.cols, cols);
  if (matrix.band == 0 || matrix.band > cols)
    return sink.fail(bad, "%s has a band of %u in %u columns", name, matrix.band, cols);
  for (std::uint32_t r = 0; r < matrix.rows; ++r) {
    const std::int32_t start = matrix.start[r];
    if (start < 0 || static_cast<std::uint32_t>(start) > cols - matrix.band)
      return sink.fail(bad, "%s: row %u starts at %d, its band of %u leaves 0 .. %u", name, r, start, matrix.band,
                       cols - 1);
    const float *weights = matrix.weights + std::size_t{r} * matrix.band;
    for (std::uint32_t b = 0; b < matrix.band; ++b)
      if (!std::isfinite(weights[b]))
        return sink.fail(bad, "%s: row %u has the weight %g", name, r, static_cast<double>(weights[b]));
  }
  return EDGEAD_OK;
}

edgead_status check(const edgead_postprocess_options &options, const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (options.grid_height == 0 || options.grid_width == 0 || options.grid_height > kMostSide ||
      options.grid_width > kMostSide)
    return sink.fail(bad, "grid of %u x %u cells; use 1 to %u a side", options.grid_height, options.grid_width,
                     kMostSide);
  const std::size_t cells = std::size_t{options.grid_height} * options.grid_width;
  if (options.channels == 0 || options.channels > kMostCells / cells)
    return sink.fail(bad, "%u channels of %zu cells; use 1 to %zu", options.channels, cells, kMostCells / cells);
  if (options.alpha != nullptr)
    for (std::uint32_t k = 0; k < options.channels; ++k)
      if (!std::isfinite(options.alpha[k]))
        return sink.fail(bad, "alpha of channel %u is %g", k, static_cast<double>(options.alpha[k]));
  if (!std::isfinite(options.gamma)) return sink.fail(bad, "gamma is %g", static_cast<double>(options.gamma));
  if (options.gamma_stage != EDGEAD_GAMMA_BEFORE && options.gamma_stage != EDGEAD_GAMMA_AFTER)
    return sink.fail(bad, "gamma stage %u is unknown", options.gamma_stage);
  edgead_status status = check_banded(options.operator_h, "operator_h", options.grid_height, sink);
  if (status == EDGEAD_OK) status = check_banded(options.operator_w, "operator_w", options.grid_width, sink);
  if (status != EDGEAD_OK) return status;
  const std::size_t pixels = std::size_t{options.operator_h.rows} * options.operator_w.rows;
  if (pixels > kMostCells) return sink.fail(bad, "a map of %zu pixels; use at most %zu", pixels, kMostCells);
  if (options.score_rule < EDGEAD_SCORE_MAX_GRID || options.score_rule > EDGEAD_SCORE_GRAPH)
    return sink.fail(bad, "score rule %u is unknown", options.score_rule);
  const bool top_k = options.score_rule == EDGEAD_SCORE_TOP_K_SUM || options.score_rule == EDGEAD_SCORE_TOP_K_MEAN;
  if (top_k && (options.top_k == 0 || options.top_k > pixels))
    return sink.fail(bad, "top_k is %u; the map has %zu pixels", options.top_k, pixels);
  return EDGEAD_OK;
}

}  // namespace

edgead_status PostPlan::prepare(const edgead_postprocess_options &options, const ErrorSink &sink) noexcept {
  const edgead_status status = check(options, sink);
  if (status != EDGEAD_OK) return status;
  kernels_ = &post_kernels_for(options.cpu_mask);
  channels_ = options.channels;
  grid_height_ = options.grid_height;
  grid_width_ = options.grid_width;
  map_height_ = options.operator_h.rows;
  map_width_ = options.operator_w.rows;
  stride_ = (map_width_ + kPostBlock - 1) / kPostBlock * kPostBlock;
  score_rule_ = options.score_rule;
  top_k_ = options.top_k;
  (options.gamma_stage == EDGEAD_GAMMA_BEFORE ? gamma_before_ : gamma_after_) = options.gamma;
  if (!prepare_memory(options) || !tiles_.prepare(horizontal_, map_width_))
    return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory for a map of %zu x %zu pixels", map_width_, map_height_);
  return EDGEAD_OK;
}

bool PostPlan::prepare_memory(const edgead_postprocess_options &options) noexcept {
  if (!alpha_.allocate(channels_)) return false;
  for (std::size_t k = 0; k < channels_; ++k) alpha_[k] = options.alpha != nullptr ? options.alpha[k] : 1.0f;
  if (needs_top_k() && !(row_max_.allocate(map_height_) && map_.allocate(map_count()))) return false;
  if (needs_top_k() && top_k_ <= map_height_ && !candidates_.allocate(map_count())) return false;
  return vertical_.trim(options.operator_h) && horizontal_.trim(options.operator_w) &&
         grid_.allocate(grid_height_ * grid_width_) && expanded_.allocate(grid_height_ * stride_) &&
         row_.allocate(map_width_) && mask_row_.allocate(map_width_) && regions_.allocate(map_width_);
}

// The horizontal operator where the grid is not finite: each column reads its own cells only.
void PostPlan::expand_exactly() noexcept {
  for (std::size_t y = 0; y < grid_height_; ++y) {
    for (std::size_t x = 0; x < map_width_; ++x) {
      const PostSpan &span = horizontal_.spans[x];
      float sum = 0.0f;
      for (std::size_t b = 0; b < span.count; ++b)
        sum += horizontal_.weights[span.weights + b] * grid_[y * grid_width_ + span.first + b];
      expanded_[y * stride_ + x] = sum;
    }
  }
}

void PostPlan::run(const float *raw, const edgead_post_params &params, edgead_post_result &result) noexcept {
  const PostGrid grid = kernels_->combine(raw, channels_, grid_height_ * grid_width_, alpha_.data(), gamma_before_,
                                          grid_.data());
  if (grid.finite) {
    for (std::size_t y = 0; y < grid_height_; ++y)
      kernels_->expand(grid_.data() + y * grid_width_, tiles_.tiles.data(), tiles_.count, tiles_.weights.data(),
                       expanded_.data() + y * stride_);
  } else {
    expand_exactly();
  }
  const bool with_regions = result.regions != nullptr;
  if (with_regions) regions_.begin(result.regions, result.regions_capacity, params.min_area);
  float *const map = result.map != nullptr ? result.map : needs_top_k() ? map_.data() : nullptr;
  const double heat_range = static_cast<double>(params.heatmap_high) - static_cast<double>(params.heatmap_low);
  const auto heat_scale = static_cast<float>(std::min(255.0 / heat_range, double{std::numeric_limits<float>::max()}));
  float map_max = -std::numeric_limits<float>::infinity();
  bool map_nan = false;
  for (std::size_t y = 0; y < map_height_; ++y) {
    const PostSpan &span = vertical_.spans[y];
    PostRow job{};
    job.rows = expanded_.data() + span.first * stride_;
    job.stride = stride_;
    job.weights = vertical_.weights.data() + span.weights;
    job.count = span.count;
    job.width = map_width_;
    job.offset = gamma_after_;
    job.threshold = params.pixel_threshold;
    job.heat_low = params.heatmap_low;
    job.heat_scale = heat_scale;
    job.map = map != nullptr ? map + y * map_width_ : row_.data();
    job.mask = result.mask != nullptr ? result.mask + y * map_width_ : with_regions ? mask_row_.data() : nullptr;
    job.heatmap = result.heatmap != nullptr ? result.heatmap + y * map_width_ : nullptr;
    const PostRowResult row = kernels_->row(job);
    map_max = std::max(map_max, row.max);
    map_nan = map_nan || row.nan;
    if (needs_top_k()) row_max_[y] = row.max;
    if (!with_regions) continue;
    if (row.max >= params.pixel_threshold)
      regions_.add_row(static_cast<std::uint32_t>(y), job.mask, job.map, *kernels_);
    else
      regions_.add_empty_row();
  }
  if (with_regions) regions_.finish();
  result.regions_count = with_regions ? regions_.count() : 0;
  result.regions_total = with_regions ? regions_.total() : 0;
  result.map_max = map_nan ? std::numeric_limits<float>::quiet_NaN() : map_max;
  result.score_raw = score(grid, map_max, map_nan, map, params.graph_score);
}

float PostPlan::score(const PostGrid &grid, float map_max, bool map_nan, const float *map,
                      float graph_score) noexcept {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  if (grid.nan) return kNan;
  if (score_rule_ == EDGEAD_SCORE_MAX_GRID) return grid.max;
  if (score_rule_ == EDGEAD_SCORE_GRAPH) return graph_score;
  if (map_nan) return kNan;
  if (score_rule_ == EDGEAD_SCORE_MAX) return map_max;
  const float *values = map;
  std::size_t found = map_count();
  if (top_k_ <= map_height_) {
    // The k-th largest of the rows' maxima bounds the k-th largest value from below: most rows stay unread.
    const float bound = kth_largest(row_max_.data(), map_height_, top_k_);
    values = candidates_.data();
    found = 0;
    for (std::size_t y = 0; y < map_height_; ++y) {
      if (!(row_max_[y] >= bound)) continue;
      const float *row = map + y * map_width_;
      for (std::size_t x = 0; x < map_width_; ++x) {
        candidates_[found] = row[x];
        found += row[x] >= bound ? 1 : 0;
      }
    }
  }
  const double sum = top_k_sum(values, found, top_k_);
  return static_cast<float>(score_rule_ == EDGEAD_SCORE_TOP_K_SUM ? sum : sum / static_cast<double>(top_k_));
}

}  // namespace edgead
