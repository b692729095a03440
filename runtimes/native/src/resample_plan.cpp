#include "resample_plan.hpp"

#include <algorithm>
#include <cmath>

namespace edgead {
namespace {

constexpr double ONE = 1 << 22;

}  // namespace

std::uint32_t FilterAxis::first_sample() const { return *std::min_element(start.begin(), start.end()); }

std::uint32_t FilterAxis::end_sample() const {
  std::uint32_t end = 0;
  for (std::size_t i = 0; i < start.size(); ++i) end = std::max(end, start[i] + count[i]);
  return end;
}

// The order of the operations is Pillow's: another one would round some weights differently.
FilterAxis pillow_axis(std::uint32_t source, std::uint32_t resized, std::uint32_t first, std::uint32_t n) {
  const double scale = static_cast<double>(source) / resized;
  const double stretch = std::max(scale, 1.0);
  const double support = stretch;  // the triangle reaches 1 sample at scale 1
  const double inverse = 1.0 / stretch;

  FilterAxis axis;
  axis.band = static_cast<std::uint32_t>(std::min(std::ceil(support) * 2 + 1, static_cast<double>(source)));
  axis.start.resize(n);
  axis.count.resize(n);
  axis.weights.assign(static_cast<std::size_t>(n) * axis.band, 0);
  std::vector<double> exact(axis.band);
  for (std::uint32_t i = 0; i < n; ++i) {
    const double center = (first + i + 0.5) * scale;
    const auto low = static_cast<std::int64_t>(center - support + 0.5);
    const auto high = static_cast<std::int64_t>(center + support + 0.5);
    const std::int64_t start = std::max<std::int64_t>(low, 0);
    const std::int64_t end = std::min<std::int64_t>(high, source);
    double total = 0.0;
    for (std::int64_t s = start; s < end; ++s) {
      const double distance = std::fabs((static_cast<double>(s) - center + 0.5) * inverse);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      exact[static_cast<std::size_t>(s - start)] = weight;
      total += weight;
    }
    std::int32_t *weights = &axis.weights[static_cast<std::size_t>(i) * axis.band];
    std::uint32_t count = 0;
    for (std::int64_t s = start; s < end; ++s) {
      const auto k = static_cast<std::size_t>(s - start);
      weights[k] = static_cast<std::int32_t>(0.5 + exact[k] / total * ONE);
      if (weights[k] != 0) count = static_cast<std::uint32_t>(k + 1);
    }
    axis.start[i] = static_cast<std::uint32_t>(start);
    axis.count[i] = count;
  }
  return axis;
}

QuadAxis quad_axis(const FilterAxis &axis, std::int64_t origin, const ResampleKernels &kernels) {
  QuadAxis quads;
  quads.runs.assign((axis.outputs() + 3) / 4 * 4, QuadRun{0, 0, 0});
  for (std::uint32_t i = 0; i < axis.outputs(); ++i) {
    const std::int64_t from = axis.start[i] - origin;
    QuadRun &run = quads.runs[i];
    run.first = static_cast<std::uint32_t>(from / 4);
    run.count = static_cast<std::uint32_t>((from + axis.count[i] + 3) / 4) - run.first;
    run.weights = static_cast<std::uint32_t>(quads.weights.size() / 4);
    for (std::uint32_t q = 0; q < run.count; ++q) {
      std::int32_t plain[4] = {0, 0, 0, 0};
      for (std::int64_t b = 0; b < 4; ++b) {
        const std::int64_t k = 4 * (static_cast<std::int64_t>(run.first) + q) + b - from;
        if (k >= 0 && k < axis.count[i])
          plain[b] = axis.weights[static_cast<std::size_t>(i) * axis.band + static_cast<std::size_t>(k)];
      }
      std::int32_t encoded[4];
      kernels.encode_quad(plain, encoded);
      quads.weights.insert(quads.weights.end(), encoded, encoded + 4);
    }
    quads.longest = std::max(quads.longest, run.count);
    quads.end = std::max(quads.end, run.first + run.count);
  }
  return quads;
}

std::vector<LinearTap> opencv_axis(std::uint32_t source, std::uint32_t resized, std::uint32_t first,
                                   std::uint32_t n, bool columns) {
  const double scale = 1.0 / (static_cast<double>(resized) / source);
  const auto last = static_cast<std::int64_t>(source) - 1;
  std::vector<LinearTap> taps(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto at = static_cast<float>((first + i + 0.5) * scale - 0.5);
    auto low = static_cast<std::int64_t>(std::floor(at));
    float fraction = at - static_cast<float>(low);
    if (columns && (low < 0 || low >= last)) {
      fraction = 0.0F;
      low = low < 0 ? 0 : last;
    }
    taps[i].low = static_cast<std::uint32_t>(std::clamp<std::int64_t>(low, 0, last));
    taps[i].high = static_cast<std::uint32_t>(std::clamp<std::int64_t>(low + 1, 0, last));
    taps[i].weight_low = static_cast<std::int16_t>(std::nearbyint((1.0F - fraction) * 2048.0F));
    taps[i].weight_high = static_cast<std::int16_t>(std::nearbyint(fraction * 2048.0F));
  }
  return taps;
}

}  // namespace edgead
