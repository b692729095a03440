// Every kernel level of the post kernel against the plain reference, on random and extreme input, at sizes around
// the vector block; outputs lie between guard bytes.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "edgead/edgead.h"
#include "guarded.hpp"
#include "kernels/post_reference.hpp"

namespace {

using edgead::reference::Banded;
using edgead::reference::Plan;
using Random = std::mt19937;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kGuard = 64;
constexpr std::uint8_t kGuardByte = 0xa5;
constexpr std::uint64_t kLevels[] = {0, EDGEAD_CPU_AVX2, ~std::uint64_t{0}};

// A caller's buffer of exactly n elements between guards, at an odd number of elements from any alignment.
template <typename T>
struct Fenced {
  explicit Fenced(std::size_t n) : size(n), bytes(n * sizeof(T) + 2 * kGuard + sizeof(T), kGuardByte) {}
  T *data() { return reinterpret_cast<T *>(bytes.data() + kGuard + sizeof(T)); }
  bool intact() const {
    for (std::size_t i = 0; i < kGuard + sizeof(T); ++i)
      if (bytes[i] != kGuardByte) return false;
    for (std::size_t i = bytes.size() - kGuard; i < bytes.size(); ++i)
      if (bytes[i] != kGuardByte) return false;
    return true;
  }
  std::size_t size;
  std::vector<std::uint8_t> bytes;
};

std::uint32_t between(Random &random, std::uint32_t low, std::uint32_t high) {
  return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
}

float uniform(Random &random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}

// Rows of random supports (some empty, some cut by zeros), weights of both signs that sum to about 1.
Banded banded(Random &random, std::uint32_t rows, std::uint32_t cols) {
  const std::uint32_t band = between(random, 1, std::min(cols, 12u));
  Banded matrix{rows, cols, band, {}, {}};
  for (std::uint32_t r = 0; r < rows; ++r) {
    matrix.start.push_back(static_cast<std::int32_t>(r * (cols - band) / std::max(1u, rows - 1)));
    const std::uint32_t low = between(random, 0, 3) == 0 ? between(random, 0, band) : 0;
    const std::uint32_t high = between(random, 0, 3) == 0 ? between(random, 0, band) : band;
    for (std::uint32_t b = 0; b < band; ++b)
      matrix.weights.push_back(b < low || b >= high ? 0.0f : uniform(random, -0.2f, 1.0f) / static_cast<float>(band));
  }
  return matrix;
}

enum class Fill { uniform, tiny, huge, constant, infinite, nan, count };

std::vector<float> fill(Random &random, Fill kind, std::size_t n) {
  std::vector<float> values(n);
  const float constant = uniform(random, -3.0f, 3.0f);
  for (float &value : values) {
    value = uniform(random, -1.0f, 4.0f);
    if (kind == Fill::tiny) value *= 1e-40f;
    if (kind == Fill::huge) value *= 1e30f;
    if (kind == Fill::constant) value = constant;
    if (kind == Fill::infinite && between(random, 0, 40) == 0) value = between(random, 0, 1) ? kInfinity : -kInfinity;
    if (kind == Fill::nan && between(random, 0, 40) == 0) value = kNan;
  }
  if (kind == Fill::nan) values[between(random, 0, static_cast<std::uint32_t>(n) - 1)] = kNan;
  return values;
}

Plan random_plan(Random &random) {
  static const std::uint32_t widths[] = {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 79, 127, 128, 129, 200};
  Plan plan{};
  plan.channels = between(random, 1, 3);
  plan.grid_height = between(random, 1, 24);
  plan.grid_width = between(random, 1, 40);
  for (std::size_t k = 0; k < plan.channels; ++k) plan.alpha.push_back(uniform(random, -0.5f, 2.0f));
  plan.gamma = between(random, 0, 1) ? static_cast<double>(uniform(random, -1.0f, 1.0f)) : 0.0;
  plan.gamma_before = between(random, 0, 1) == 0;
  plan.vertical = banded(random, between(random, 1, 40), static_cast<std::uint32_t>(plan.grid_height));
  plan.horizontal = banded(random, widths[between(random, 0, std::size(widths) - 1)],
                           static_cast<std::uint32_t>(plan.grid_width));
  plan.score_rule = between(random, EDGEAD_SCORE_MAX_GRID, EDGEAD_SCORE_GRAPH);
  const std::uint32_t pixels = plan.vertical.rows * plan.horizontal.rows;
  const std::uint32_t choices[] = {1, pixels, between(random, 1, pixels), std::min(pixels, 5u)};
  plan.top_k = choices[between(random, 0, 3)];
  return plan;
}

edgead_postprocessor *create(const Plan &plan, std::uint64_t cpu_mask) {
  edgead_postprocess_options options;
  edgead_postprocess_options_init(&options, sizeof options);
  options.channels = static_cast<std::uint32_t>(plan.channels);
  options.grid_height = static_cast<std::uint32_t>(plan.grid_height);
  options.grid_width = static_cast<std::uint32_t>(plan.grid_width);
  options.alpha = plan.alpha.data();
  options.gamma = static_cast<float>(plan.gamma);
  options.gamma_stage = plan.gamma_before ? EDGEAD_GAMMA_BEFORE : EDGEAD_GAMMA_AFTER;
  options.operator_h = plan.vertical.view();
  options.operator_w = plan.horizontal.view();
  options.score_rule = plan.score_rule;
  options.top_k = static_cast<std::uint32_t>(plan.top_k);
  options.cpu_mask = cpu_mask;
  edgead_postprocessor *created = nullptr;
  char message[256] = "";
  CHECK_EQ(edgead_postprocessor_create(&options, &created, message, sizeof message), EDGEAD_OK);
  if (created == nullptr) {
    std::fprintf(stderr, "create: %s\n", message);
    std::exit(1);
  }
  return created;
}

struct Output {
  explicit Output(std::size_t pixels) : map(pixels), mask(pixels), heatmap(pixels) {}
  Fenced<float> map;
  Fenced<std::uint8_t> mask, heatmap;
  std::vector<edgead_region> regions = std::vector<edgead_region>(4096);
  edgead_post_result result{};
};

void run(edgead_postprocessor *kernel, const std::vector<float> &raw, const edgead_post_params &params, Output &out) {
  const Guarded input(raw.size() * sizeof(float));  // reading past its end crashes
  std::memcpy(input.data(), raw.data(), raw.size() * sizeof(float));
  const auto *values = reinterpret_cast<const float *>(input.data());
  edgead_post_result_init(&out.result, sizeof out.result);
  out.result.map = out.map.data();
  out.result.map_capacity = out.map.size;
  out.result.mask = out.mask.data();
  out.result.mask_capacity = out.mask.size;
  out.result.heatmap = out.heatmap.data();
  out.result.heatmap_capacity = out.heatmap.size;
  out.result.regions = out.regions.data();
  out.result.regions_capacity = static_cast<std::uint32_t>(out.regions.size());
  char message[256] = "";
  CHECK_EQ(edgead_postprocessor_run(kernel, values, raw.size(), &params, &out.result, message, sizeof message),
           EDGEAD_OK);
}

// Equal as numbers, infinities and NaN; finite values within float rounding of sums of that size.
bool close(double expected, double found, double scale) {
  if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) && std::isnan(found);
  if (std::isinf(expected) || std::isinf(found)) return expected == found;
  return std::fabs(expected - found) <= 4e-6 * scale + 1e-42;
}

bool same_bits(const void *a, const void *b, std::size_t bytes) {
  return bytes == 0 || std::memcmp(a, b, bytes) == 0;
}

// NaN compares by kind: its bits are free.
bool same_floats(const float *a, const float *b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
  return true;
}

std::uint8_t shade(float value, const edgead_post_params &params) {
  const double range = double{params.heatmap_high} - double{params.heatmap_low};
  const float scale = static_cast<float>(std::min(255.0 / range, double{std::numeric_limits<float>::max()}));
  const float level = (value - params.heatmap_low) * scale;
  if (!(level > 0.0f)) return 0;
  return static_cast<std::uint8_t>((level < 255.0f ? level : 255.0f) + 0.5f);
}

bool before(const edgead_region &a, const edgead_region &b) {
  if (a.peak != b.peak) return a.peak > b.peak;
  return a.y != b.y ? a.y < b.y : a.x < b.x;
}

bool before_in_full(const edgead_region &a, const edgead_region &b) {
  if (before(a, b) || before(b, a)) return before(a, b);
  if (a.area != b.area) return a.area < b.area;
  return a.height != b.height ? a.height < b.height : a.width < b.width;
}

void check_regions(const Output &out, std::vector<edgead_region> expected) {
  std::vector<edgead_region> found(out.regions.begin(), out.regions.begin() + out.result.regions_count);
  CHECK_EQ(out.result.regions_total, expected.size());
  CHECK_EQ(found.size(), expected.size());
  CHECK(std::is_sorted(found.begin(), found.end(), before));
  std::sort(found.begin(), found.end(), before_in_full);
  std::sort(expected.begin(), expected.end(), before_in_full);
  CHECK(found.size() == expected.size() &&
        same_bits(found.data(), expected.data(), found.size() * sizeof(edgead_region)));
}

void compare(Random &random, Fill kind) {
  const Plan plan = random_plan(random);
  const std::vector<float> raw = fill(random, kind, plan.channels * plan.grid_height * plan.grid_width);
  const std::size_t height = plan.vertical.rows, width = plan.horizontal.rows, pixels = height * width;
  const std::vector<double> grid = edgead::reference::grid(plan, raw.data());
  const std::vector<double> map = edgead::reference::map(plan, grid);
  double scale = std::max(1e-38, std::fabs(plan.gamma));
  for (const float value : raw)
    if (std::isfinite(value)) scale = std::max(scale, 6.0 * std::fabs(double{value}));  // alpha < 2, K <= 3
  edgead_post_params params;
  edgead_post_params_init(&params, sizeof params);
  params.graph_score = 0.75f;
  params.min_area = between(random, 0, 4);
  const double some = map[between(random, 0, static_cast<std::uint32_t>(pixels) - 1)];
  params.pixel_threshold = std::isnan(some) ? 0.5f : static_cast<float>(some);
  const float middle = std::isfinite(params.pixel_threshold) ? params.pixel_threshold : 0.0f;
  params.heatmap_low = middle - static_cast<float>(scale);
  params.heatmap_high = middle + static_cast<float>(scale);

  Output first(pixels);
  for (const std::uint64_t level : kLevels) {
    edgead_postprocessor *kernel = create(plan, level);
    Output out(pixels);
    run(kernel, raw, params, out);
    run(kernel, raw, params, out);  // nothing is left over from a run
    edgead_postprocessor_destroy(kernel);
    CHECK(out.map.intact() && out.mask.intact() && out.heatmap.intact());
    std::size_t wrong = 0;
    double map_max = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < pixels; ++i) {
      const float value = out.map.data()[i];
      wrong += !close(map[i], double{value}, scale);
      wrong += out.mask.data()[i] != (value >= params.pixel_threshold ? 255 : 0);
      wrong += out.heatmap.data()[i] != shade(value, params);
      map_max = std::isnan(map_max) || std::isnan(value) ? double{kNan} : std::max(map_max, double{value});
    }
    CHECK_EQ(wrong, 0);
    CHECK(close(map_max, double{out.result.map_max}, 0.0));
    const double terms = plan.score_rule == EDGEAD_SCORE_TOP_K_SUM ? static_cast<double>(plan.top_k) : 1.0;
    CHECK(close(edgead::reference::score(plan, grid, map, double{params.graph_score}), double{out.result.score_raw},
                scale * terms));
    check_regions(out, edgead::reference::regions(out.map.data(), height, width, params.pixel_threshold,
                                                  params.min_area));
    if (level == kLevels[0]) {
      first = out;
      continue;
    }
    CHECK(same_floats(first.map.data(), out.map.data(), pixels));
    CHECK(same_bits(first.mask.data(), out.mask.data(), pixels));
    CHECK(same_bits(first.heatmap.data(), out.heatmap.data(), pixels));
    CHECK(same_floats(&first.result.score_raw, &out.result.score_raw, 1));
    CHECK_EQ(first.result.regions_count, out.result.regions_count);
    CHECK(same_bits(first.regions.data(), out.regions.data(), first.result.regions_count * sizeof(edgead_region)));
  }
  if (check_failure_count() > 0) {
    std::fprintf(stderr, "fill %d, channels %zu, grid %zu x %zu, map %zu x %zu, bands %u %u, rule %u, top_k %zu\n",
                 static_cast<int>(kind), plan.channels, plan.grid_height, plan.grid_width, height, width,
                 plan.vertical.band, plan.horizontal.band, plan.score_rule, plan.top_k);
    std::exit(1);
  }
}

}  // namespace

int main() {
  Random random(20261123);
  for (int i = 0; i < 400; ++i)
    for (int kind = 0; kind < static_cast<int>(Fill::count); ++kind) compare(random, static_cast<Fill>(kind));
  return check_failures();
}
