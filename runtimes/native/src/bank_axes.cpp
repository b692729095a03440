// Axes by subspace iteration: times the sample's second moments, made orthogonal again, a few times over. Their number
// by an estimate of what a search costs: vectors of the sample are searched for among the others.

#include "bank_axes.hpp"

#include "bank_index.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace edgead {
namespace {

constexpr int kIterations = 3;
constexpr std::size_t kMostColumns = 128, kFewestVectors = 4 * kBankTile, kTrials = 60;
// Of the cost, in multiply-adds of a screening: what each vector takes besides them, and to compare one in full.
constexpr double kEach = 12.0, kCompared = 3000.0;
// The same of one that is looked at as int8 first, for each of its values.
constexpr double kComparedOfRow = 8.0;
// Tiles that their boxes do not rule out, as a multiple of the vectors that the box's axes do not.
constexpr double kVisited = 10.0;
// More left over than this, and most queries would be searched for twice (BankSearchPlan::visit).
constexpr double kMostLeft = 0.25;
// Queries are of other images than the bank: they are farther from it than its own vectors are from each other.
constexpr float kFarther = 1.1f;
// Multiply-adds of floats take as long as so many of int8.
constexpr double kFloats = 4.0;
// What the axes are shortened by, for they are rounded to floats.
constexpr double kShorter = 1.0 - 0x1p-12;

double dot(const float *left, const float *right, std::size_t dim) noexcept {
  double sum = 0.0;
  for (std::size_t c = 0; c < dim; ++c) sum += static_cast<double>(left[c]) * static_cast<double>(right[c]);
  return sum;
}

// Of `count` rows, in order and twice, since one time leaves what rounding did. A row that the others make up is 0.
void make_orthonormal(float *rows, std::size_t count, std::size_t dim) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    float *const row = rows + i * dim;
    for (int turn = 0; turn < 2; ++turn) {
      const double before = std::sqrt(dot(row, row, dim));
      for (std::size_t j = 0; j < i; ++j) {
        const float *const other = rows + j * dim;
        const auto share = static_cast<float>(dot(row, other, dim));
        for (std::size_t c = 0; c < dim; ++c) row[c] -= share * other[c];
      }
      const double length = std::sqrt(dot(row, row, dim));
      const double factor = length > 1e-5 * before && length > 1e-15 ? 1.0 / length : 0.0;
      for (std::size_t c = 0; c < dim; ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) * factor);
    }
  }
}

// The operator's norm is at most the root of the largest sum of a row of |axes * axes^T|.
bool never_lengthens(const float *rows, std::size_t count, std::size_t dim) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0.0;
    for (std::size_t j = 0; j < count; ++j) sum += std::fabs(dot(rows + i * dim, rows + j * dim, dim));
    if (!(sum <= 1.0)) return false;
  }
  return true;
}

void transpose(const float *rows, std::size_t count, std::size_t dim, std::size_t columns, float *out) noexcept {
  for (std::size_t c = 0; c < dim; ++c)
    for (std::size_t i = 0; i < columns; ++i) out[c * columns + i] = i < count ? rows[i * dim + c] : 0.0f;
}

// `count` axes: dim rows of `columns` > count floats, zeros behind the last. False where there is no memory.
bool find_axes(const float *rows, std::size_t samples, std::size_t dim, std::size_t count, std::size_t columns,
               const BankKernels &kernels, float *out) noexcept {
  Buffer<float> axes, along;
  if (!axes.allocate(count * dim) || !along.allocate(kBankQueries * columns)) return false;
  // Begins with vectors of the sample: they lie in the space that is looked for.
  for (std::size_t i = 0; i < count; ++i)
    std::copy_n(rows + i * samples / count * dim, dim, axes.data() + i * dim);
  make_orthonormal(axes.data(), count, dim);
  for (int turn = 0; turn < kIterations; ++turn) {
    transpose(axes.data(), count, dim, columns, out);
    std::fill_n(axes.data(), count * dim, 0.0f);
    for (std::size_t s = 0; s < samples; s += kBankQueries) {
      kernels.project(rows + s * dim, dim, dim, out, columns, along.data(), columns);
      for (std::size_t k = 0; k < kBankQueries; ++k) {
        const float *const row = rows + (s + k) * dim, *const share = along.data() + k * columns;
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t c = 0; c < dim; ++c) axes[i * dim + c] += share[i] * row[c];
      }
    }
    make_orthonormal(axes.data(), count, dim);
  }
  for (std::size_t i = 0; i < count * dim; ++i)
    axes[i] = static_cast<float>(static_cast<double>(axes[i]) * kShorter);
  if (!never_lengthens(axes.data(), count, dim)) std::fill_n(axes.data(), count * dim, 0.0f);
  transpose(axes.data(), count, dim, columns, out);
  return true;
}

// A sample along `columns` axes, and what searches in it find.
struct Sample {
  const float *rows;
  std::size_t count, dim, columns;
  bool coded;
  Buffer<float> along, lengths, nearest;  // count * columns; squares of whole vectors; squared, per trial

  const float *row(std::size_t i) const noexcept { return rows + i * dim; }
  std::size_t trial(std::size_t k) const noexcept { return k * count / std::min(kTrials, count); }

  // What of vector i is left off the first `axes` ones.
  float rest(std::size_t i, std::size_t axes) const noexcept {
    float squares = lengths[i];
    for (std::size_t c = 0; c < axes; ++c) squares -= along[i * columns + c] * along[i * columns + c];
    return std::sqrt(std::max(squares, 0.0f));
  }

  // How far int8 puts values, of which `largest` gets the highest code.
  static float coding(const float *values, std::size_t count, float largest) noexcept {
    if (!(largest > 1e-30f)) return 0.0f;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a sum with it has no digits behind the point
    const float scale = largest / 127.0f, inverse = 127.0f / largest;
    float squares = 0.0f;
    for (std::size_t c = 0; c < count; ++c) {
      const float rest = values[c] - ((values[c] * inverse + kRound) - kRound) * scale;
      squares += rest * rest;
    }
    return std::sqrt(squares);
  }

  // The share of vectors that `axes` do not rule out; 0 axes: whole vectors are screened.
  double left_over(std::size_t axes) const noexcept {
    Buffer<float> rests, off, largest, sorted;
    if (!rests.allocate(count) || !off.allocate(count) || !largest.allocate(count) || !sorted.allocate(count))
      return 1.0;
    const std::size_t values = axes != 0 ? axes : dim;
    const auto from = [&](std::size_t i) { return axes != 0 ? along.data() + i * columns : row(i); };
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t c = 0; c < values; ++c) largest[i] = std::max(largest[i], std::fabs(from(i)[c]));
      rests[i] = axes != 0 ? rest(i, axes) : 0.0f;
    }
    // Tiles of neighbours share a scale, and one in some fifty vectors sets it; whole vectors are sorted by size.
    std::copy_n(largest.data(), count, sorted.data());
    float *const high = sorted.data() + count * 49 / 50;
    std::nth_element(sorted.data(), high, sorted.data() + count);
    for (std::size_t i = 0; i < count && coded; ++i)
      off[i] = coding(from(i), values, axes != 0 ? std::max(largest[i], *high) : largest[i]);
    std::size_t left = 0;
    const std::size_t trials = std::min(kTrials, count);
    for (std::size_t k = 0; k < trials; ++k) {
      const std::size_t one = trial(k);
      for (std::size_t i = 0; i < count; ++i) {
        float squares = (rests[one] - rests[i]) * (rests[one] - rests[i]);
        for (std::size_t c = 0; c < values; ++c) squares += (from(one)[c] - from(i)[c]) * (from(one)[c] - from(i)[c]);
        left += std::sqrt(squares) <= kFarther * std::sqrt(nearest[k]) + off[one] + off[i];
      }
    }
    return static_cast<double>(left) / static_cast<double>(trials * count);
  }
};

}  // namespace

AxesChoice choose_axes(const float *rows, std::size_t samples, std::size_t dim, std::size_t vectors, bool coded,
                       const BankKernels &kernels, Buffer<float> &axes) noexcept {
  const std::size_t most = std::min(kMostColumns, dim * 3 / 4 / kBankBox * kBankBox);
  if (vectors < kFewestVectors || most == 0) return {true, 0, 0.0f};
  Sample sample{rows, samples, dim, most, coded, {}, {}, {}};
  Buffer<float> all, zeros;
  if (!all.allocate(dim * most) || !zeros.allocate(dim) || !sample.along.allocate(samples * most) ||
      !sample.lengths.allocate(samples) || !sample.nearest.allocate(kTrials) ||
      !find_axes(rows, samples, dim, most - 1, most, kernels, all.data()))
    return {false, 0, 0.0f};
  for (std::size_t s = 0; s < samples; s += kBankQueries)
    kernels.project(rows + s * dim, dim, dim, all.data(), most, sample.along.data() + s * most, most);
  for (std::size_t i = 0; i < samples; ++i)
    sample.lengths[i] = kernels.rough_distance(sample.row(i), zeros.data(), dim);
  for (std::size_t k = 0; k < std::min(kTrials, samples); ++k) {
    sample.nearest[k] = std::numeric_limits<float>::infinity();
    const float *const one = sample.row(sample.trial(k));
    for (std::size_t i = 0; i < samples; ++i)
      if (i != sample.trial(k))
        sample.nearest[k] = std::min(sample.nearest[k], kernels.rough_distance(one, sample.row(i), dim));
  }
  const double value = coded ? 1.0 : kFloats;
  const double visited = std::min(1.0, kVisited * sample.left_over(kBankBox - 1));
  std::size_t columns = 0;
  const double compared = coded && dim >= kFewestOfRow ? kComparedOfRow * static_cast<double>(dim) : kCompared;
  double least = value * static_cast<double>(dim) + kEach + kCompared * sample.left_over(0);
  for (std::size_t tried = kBankBox; tried <= most; tried += kBankBox) {
    const auto wide = static_cast<double>(tried);
    const double projecting = kFloats * wide * static_cast<double>(dim) / static_cast<double>(vectors);
    const double left = sample.left_over(tried - 1);
    const double cost = visited * (value * wide + kEach) + projecting + compared * left;
    if (cost < least && left < kMostLeft) least = cost, columns = tried;
  }
  if (columns == 0) return {true, 0, 0.0f};
  if (!axes.allocate(dim * columns)) return {false, 0, 0.0f};
  for (std::size_t c = 0; c < dim; ++c) std::copy_n(all.data() + c * most, columns - 1, axes.data() + c * columns);
  double rest = 0.0;
  for (std::size_t i = 0; i < samples; ++i) rest += static_cast<double>(sample.rest(i, columns - 1));
  return {true, columns, static_cast<float>(rest / static_cast<double>(samples))};
}

}  // namespace edgead
