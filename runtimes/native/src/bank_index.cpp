#include "bank_index.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>

#include "bank_axes.hpp"
#include "cpu.hpp"

namespace edgead {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 36;
// Larger values are no features; below, squares of floats and their sums do not overflow.
constexpr float kMostValue = 1e15f;

const BankKernels &kernels_for(std::uint64_t cpu_mask) noexcept {
  switch (select_level(cpu_mask)) {
#ifdef EDGEAD_HAVE_avx512
    case Level::avx512: return avx512::bank_kernels();
#endif
#ifdef EDGEAD_HAVE_avx2
    case Level::avx2: return avx2::bank_kernels();
#endif
#ifdef EDGEAD_HAVE_neon
    case Level::neon: return neon::bank_kernels();
#endif
    default: return scalar::bank_kernels();
  }
}


// Sorts begin .. end so that each tile holds neighbours: halves along the coordinate that varies most, and so on.
void split(const float *points, std::int32_t *begin, std::int32_t *end) noexcept {
  const auto count = static_cast<std::size_t>(end - begin);
  if (count <= kBankTile) return;
  double sum[kBankBox] = {}, squares[kBankBox] = {};
  for (const std::int32_t *i = begin; i != end; ++i)
    for (std::size_t c = 0; c < kBankBox; ++c) {
      const auto value = static_cast<double>(points[static_cast<std::size_t>(*i) * kBankBox + c]);
      sum[c] += value;
      squares[c] += value * value;
    }
  std::size_t widest = 0;
  double most = -1.0;
  for (std::size_t c = 0; c < kBankBox; ++c) {
    const double spread = squares[c] - sum[c] * sum[c] / static_cast<double>(count);
    if (spread > most) most = spread, widest = c;
  }
  std::int32_t *const middle = begin + (count / 2 + kBankTile - 1) / kBankTile * kBankTile;
  std::nth_element(begin, middle, end, [&](std::int32_t a, std::int32_t b) {
    return points[static_cast<std::size_t>(a) * kBankBox + widest] <
           points[static_cast<std::size_t>(b) * kBankBox + widest];
  });
  split(points, begin, middle);
  split(points, middle, end);
}

}  // namespace

std::uint64_t bank_search_bytes(std::uint32_t vectors, std::uint32_t dim) noexcept {
  const std::uint64_t bytes = std::uint64_t{vectors} * dim * sizeof(float);
  return bytes <= kMostBytes ? bytes : 0;
}

edgead_status BankIndex::prepare(const float *bank, std::size_t bytes, std::uint32_t vectors, std::uint32_t dim,
                                 std::uint64_t cpu_mask, const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (vectors == 0 || vectors > kMostBankVectors)
    return sink.fail(bad, "a bank of %u vectors; use 1 to %u", vectors, kMostBankVectors);
  if (dim == 0 || dim > kMostBankDim)
    return sink.fail(bad, "vectors of %u values; use 1 to %u", dim, kMostBankDim);
  const std::uint64_t wanted = bank_search_bytes(vectors, dim);
  if (wanted == 0) return sink.fail(bad, "%u vectors of %u values are more than 64 GiB; keep fewer", vectors, dim);
  if (bank == nullptr || bytes != wanted)
    return sink.fail(bad, "the bank has %zu bytes, its shape asks for %llu", bank != nullptr ? bytes : 0,
                     static_cast<unsigned long long>(wanted));
  const std::size_t values = std::size_t{vectors} * dim;
  for (std::size_t i = 0; i < values; ++i)
    if (!(std::fabs(bank[i]) <= kMostValue))
      return sink.fail(bad, "vector %zu of the bank holds %g; values must be finite and at most 1e15", i / dim,
                       static_cast<double>(bank[i]));
  kernels_ = &kernels_for(cpu_mask);
  bank_ = bank;
  vectors_ = vectors;
  dim_ = dim;
  coded_ = kernels_->screen_int8 != nullptr && (cpu_features() & cpu_mask & EDGEAD_CPU_VNNI) != 0;
  // An fp32 product of dim terms is off by at most dim * 2^-24 of the lengths; the rest is for what follows it.
  margin_ = static_cast<double>(dim + 64) * 0x1p-23;
  bool enough = centre_.allocate(dim_) && zeros_.allocate(dim_);
  if (enough) set_centre();
  enough = enough && set_axes() && set_order() && set_tiles() && (columns_ == 0 || (set_whole() && set_rows()));
  return enough ? EDGEAD_OK
                : sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory to search %u vectors of %u values", vectors, dim);
}

edgead_status BankIndex::set_neighbours(const std::int32_t *near, std::size_t bytes, std::uint32_t neighbours,
                                        const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (neighbours > kMostNeighbours)
    return sink.fail(bad, "%u neighbours; use 0 to %u", neighbours, kMostNeighbours);
  const std::size_t values = vectors_ * neighbours;
  if ((near == nullptr) != (neighbours == 0) || (near != nullptr && bytes != values * sizeof *near))
    return sink.fail(bad, "the neighbours have %zu bytes, their shape asks for %zu", near != nullptr ? bytes : 0,
                     values * sizeof *near);
  for (std::size_t i = 0; i < values; ++i)
    if (near[i] < 0 || static_cast<std::size_t>(near[i]) >= vectors_)
      return sink.fail(bad, "a neighbour of vector %zu is %d, the bank has 0 .. %zu", i / neighbours, near[i],
                       vectors_ - 1);
  near_ = near;
  neighbours_ = neighbours;
  return EDGEAD_OK;
}

// The mean: subtracting it leaves distances as they are, and codes are finest for short vectors.
void BankIndex::set_centre() noexcept {
  for (std::size_t c = 0; c < dim_; ++c) centre_[c] = 0.0f;
  // Blocks of columns in doubles on the stack: a row at a time, as it lies in memory.
  constexpr std::size_t kColumns = 256;
  for (std::size_t begin = 0; begin < dim_; begin += kColumns) {
    const std::size_t count = std::min(kColumns, dim_ - begin);
    double sum[kColumns] = {};
    for (std::size_t i = 0; i < vectors_; ++i)
      for (std::size_t c = 0; c < count; ++c) sum[c] += static_cast<double>(vector(i)[begin + c]);
    for (std::size_t c = 0; c < count; ++c)
      centre_[begin + c] = static_cast<float>(sum[c] / static_cast<double>(vectors_));
  }
}

bool BankIndex::set_axes() noexcept {
  const std::size_t samples = std::min(kMostAxesSample, vectors_) / kBankQueries * kBankQueries;
  Buffer<float> rows;
  if (!rows.allocate(samples * dim_)) return false;
  for (std::size_t s = 0; s < samples; ++s)
    kernels_->centre(vector(s * vectors_ / samples), centre_.data(), dim_, rows.data() + s * dim_);
  const AxesChoice choice = choose_axes(rows.data(), samples, dim_, vectors_, coded_, *kernels_, axes_);
  columns_ = choice.columns;
  rest_ = choice.rest;
  return choice.enough_memory;
}

bool BankIndex::set_whole() noexcept {
  whole_.reset(new (std::nothrow) BankIndex);
  if (whole_ == nullptr) return false;
  BankIndex &other = *whole_;
  other.kernels_ = kernels_;
  other.bank_ = bank_;
  other.vectors_ = vectors_;
  other.dim_ = dim_;
  other.coded_ = coded_;
  other.margin_ = margin_;
  if (!other.centre_.allocate(dim_)) return false;
  std::copy_n(centre_.data(), dim_, other.centre_.data());
  return other.set_order() && other.set_tiles();
}

bool BankIndex::set_rows() noexcept {
  if (!coded_ || dim_ < kFewestOfRow) return true;
  const std::size_t bytes = (dim_ + 63) / 64 * 64;
  Buffer<std::int8_t> codes;
  BankPoints points;
  if (!codes.allocate(bytes) || !allocate(points) || !row_codes_.allocate(vectors_ * bytes) ||
      !rows_.allocate(vectors_))
    return false;
  row_bytes_ = bytes;
  for (std::size_t i = 0; i < vectors_; ++i) {
    const auto number = static_cast<std::size_t>(order_[i]);
    const float squares = kernels_->centre(vector(number), centre_.data(), dim_, points.centred.data());
    rows_[i] = code_row(points.centred.data(), static_cast<double>(squares), codes.data());
    for (std::size_t c = 0; c < bytes; ++c)
      row_codes_[i * bytes + c] = static_cast<std::uint8_t>(static_cast<int>(codes[c]) + 128);
  }
  return true;
}

BankRow BankIndex::code_row(const float *centred, double from, std::int8_t *codes) const noexcept {
  std::fill_n(codes + dim_, row_bytes_ - dim_, std::int8_t{0});
  const BankCode code = kernels_->code_int8(centred, dim_, codes);
  std::int32_t squares = 0;  // 127^2 * 4096 fits
  for (std::size_t c = 0; c < dim_; ++c) squares += static_cast<std::int32_t>(codes[c]) * codes[c];
  const auto scale = static_cast<double>(code.scale);
  // The residual's own sum rounds, and so do its terms and the centring, each by some 2^-24 of the values.
  const double off = std::sqrt(static_cast<double>(code.residual) * (1.0 + margin_) + kBankLeast) +
                     0x1p-20 * std::sqrt(from + kBankLeast);
  return {scale * scale * squares, off, code.scale, code.sum};
}

bool BankIndex::allocate(BankPoints &points) const noexcept {
  return points.centred.allocate(kBankQueries * dim_) && points.values.allocate(kBankQueries * stride());
}

void BankIndex::locate(const float *const *vectors, std::size_t count, BankPoints &out) const noexcept {
  constexpr double kHalf = 0x1p-24;  // a rounding of a float, as a share
  const auto rows = static_cast<double>(columns_);
  float *const rows_to = columns_ != 0 ? out.centred.data() : out.values.data();
  const std::size_t apart = columns_ != 0 ? dim_ : stride();
  for (std::size_t i = 0; i < kBankQueries; ++i) {
    if (i < count)
      out.from[i] = static_cast<double>(kernels_->centre(vectors[i], centre_.data(), dim_, rows_to + i * apart));
    else
      std::fill_n(rows_to + i * apart, dim_, 0.0f);
  }
  if (columns_ != 0)
    kernels_->project(out.centred.data(), dim_, dim_, axes_.data(), columns_, out.values.data(), columns_);
  for (std::size_t i = 0; i < count; ++i) {
    const double squares = out.from[i] + kBankLeast;
    if (columns_ == 0) {
      out.squares[i] = out.from[i];
      out.slack[i] = 4.0 * kHalf * std::sqrt(squares);
      continue;
    }
    float *const point = out.values.data() + i * columns_;
    // A product of dim terms is off by at most dim roundings of |axis| * |x|.
    const double moved = std::sqrt(rows) * static_cast<double>(dim_ + 16) * kHalf * std::sqrt(squares);
    const auto along = static_cast<double>(kernels_->rough_distance(point, zeros_.data(), columns_));
    const double rest = std::sqrt(std::max(out.from[i] - along, 0.0));
    // What the rest's square may be off by; and so the rest: |a - b| = |a^2 - b^2| / (a + b).
    const double off = 4.0 * margin_ * squares + 3.0 * moved * std::sqrt(squares);
    const double rest_moved = off / std::max(std::sqrt(off), rest) + 4.0 * kHalf * (rest + static_cast<double>(rest_));
    point[columns_ - 1] = static_cast<float>(rest) - rest_;
    const auto last = static_cast<double>(point[columns_ - 1]);
    out.squares[i] = along + last * last;
    out.slack[i] = std::sqrt(moved * moved + rest_moved * rest_moved) + 0x1p-60;
  }
}

// With axes neighbours share a tile, so that boxes are small. Without, those of like size do, and so a scale.
bool BankIndex::set_order() noexcept {
  if (!order_.allocate(tiles() * kBankTile)) return false;
  std::iota(order_.data(), order_.data() + vectors_, 0);
  BankPoints points;
  Buffer<float> kept;
  const std::size_t width = columns_ != 0 ? kBankBox : 1;
  if (!allocate(points) || !kept.allocate(vectors_ * width)) return false;
  for (std::size_t first = 0; first < vectors_; first += kBankQueries) {
    const std::size_t count = std::min(kBankQueries, vectors_ - first);
    const float *rows[kBankQueries];
    for (std::size_t i = 0; i < count; ++i) rows[i] = vector(first + i);
    locate(rows, count, points);
    for (std::size_t i = 0; i < count; ++i) {
      const float *const point = points.values.data() + i * stride();
      if (columns_ != 0) {
        std::copy_n(point, kBankBox, kept.data() + (first + i) * kBankBox);
      } else {
        float largest = 0.0f;
        for (std::size_t c = 0; c < dim_; ++c) largest = std::max(largest, std::fabs(point[c]));
        kept[first + i] = largest;
      }
    }
  }
  if (columns_ != 0)
    split(kept.data(), order_.data(), order_.data() + vectors_);
  else
    std::stable_sort(order_.data(), order_.data() + vectors_, [&](std::int32_t a, std::int32_t b) {
      return kept[static_cast<std::size_t>(a)] < kept[static_cast<std::size_t>(b)];
    });
  return true;
}

bool BankIndex::set_tiles() noexcept {
  const std::size_t places = tiles() * kBankTile, boxes = kBankBox * padded_tiles();
  BankPoints points;
  Buffer<float> of_tile;
  Buffer<double> squares, slack;
  if (!allocate(points) || !of_tile.allocate(kBankTile * stride()) || !squares.allocate(kBankTile) ||
      !slack.allocate(kBankTile) || !base_.allocate(places) || !low_.allocate(boxes) || !high_.allocate(boxes) ||
      !codes_.allocate(places * code_bytes()) || !tiles_.allocate(tiles()))
    return false;
  std::fill_n(low_.data(), boxes, kInfinity);
  std::fill_n(high_.data(), boxes, -kInfinity);
  for (std::size_t t = 0; t < tiles(); ++t) {
    const std::size_t filled = std::min(kBankTile, vectors_ - t * kBankTile);
    for (std::size_t first = 0; first < filled; first += kBankQueries) {
      const std::size_t count = std::min(kBankQueries, filled - first);
      const float *rows[kBankQueries];
      for (std::size_t i = 0; i < count; ++i) rows[i] = vector(number(t, first + i));
      locate(rows, count, points);
      std::copy_n(points.values.data(), count * stride(), of_tile.data() + first * stride());
      std::copy_n(points.squares, count, squares.data() + first);
      std::copy_n(points.slack, count, slack.data() + first);
    }
    set_tile(t, of_tile.data(), squares.data(), slack.data());
  }
  return true;
}

void BankIndex::set_tile(std::size_t index, const float *points, const double *squares, const double *slack) noexcept {
  const std::size_t filled = std::min(kBankTile, vectors_ - index * kBankTile), dim = code_dim();
  float largest = 0.0f;
  for (std::size_t j = 0; j < filled; ++j)
    for (std::size_t c = 0; c < dim; ++c) largest = std::max(largest, std::fabs(points[j * stride() + c]));
  const float scale = !coded_ ? 1.0f : largest > 1e-30f ? largest / 127.0f : 0.0f;
  std::uint8_t *const codes = codes_.data() + index * kBankTile * code_bytes();
  if (coded_) std::fill_n(codes, kBankTile * code_bytes(), std::uint8_t{128});
  double rests[kBankTile], kept[kBankTile], most_rest = 0.0, most_kept = 0.0, most_squares = 0.0;
  for (std::size_t j = 0; j < filled; ++j) {
    const float *const point = points + j * stride();
    double squared = 0.0, rest = 0.0;
    for (std::size_t c = 0; c < dim; ++c) {
      const auto value = static_cast<double>(point[c]);
      double approximate = value;
      if (coded_) {
        const double code =
            scale > 0.0f ? std::min(127.0, std::max(-127.0, std::nearbyint(value / static_cast<double>(scale)))) : 0.0;
        codes[(c / 4 * kBankTile + j) * 4 + c % 4] = static_cast<std::uint8_t>(static_cast<int>(code) + 128);
        approximate = code * static_cast<double>(scale);
      } else {
        reinterpret_cast<float *>(codes)[c * kBankTile + j] = point[c];
      }
      squared += approximate * approximate;
      rest += (value - approximate) * (value - approximate);
    }
    kept[j] = squared;
    rests[j] = std::sqrt(rest) + slack[j];
    most_rest = std::max(most_rest, rests[j]);
    most_kept = std::max(most_kept, squared);
    most_squares = std::max(most_squares, squares[j]);
    for (std::size_t c = 0; c < kBankBox; ++c) {
      const auto value = static_cast<double>(point[c]);
      const std::size_t at = c * padded_tiles() + index;
      low_[at] = std::min(low_[at], -rounded_up(slack[j] - value));
      high_[at] = std::max(high_[at], rounded_up(value + slack[j]));
    }
  }
  float *const base = base_.data() + index * kBankTile;
  const double rounding = 4.0 * margin_ * (most_squares + most_kept + most_rest * most_rest) + kBankLeast;
  for (std::size_t j = 0; j < kBankTile; ++j)
    base[j] = j < filled ? -rounded_up(rests[j] * rests[j] + rounding - kept[j]) : kInfinity;
  tiles_[index] = {codes, base, 2.0f * scale, rounded_up(most_rest), rounded_up(std::sqrt(most_kept))};
}

}  // namespace edgead
