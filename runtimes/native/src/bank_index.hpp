#pragma once
// A bank prepared for the search: its vectors as points of fewer values that are never farther apart than the vectors,
// coded in tiles of neighbours.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/bank_search.hpp"
#include "status.hpp"

namespace edgead {

constexpr std::uint32_t kMostBankVectors = 1u << 26, kMostBankDim = 4096, kMostNeighbours = 64;
// What sums of floats may lose to underflow, also where denormals count as zero.
constexpr double kBankLeast = 0x1p-100;
// Shorter vectors are compared in floats at once.
constexpr std::size_t kFewestOfRow = 512;

// A float that is no less, nearly the next one.
inline float rounded_up(double value) noexcept {
  return static_cast<float>(value + std::fabs(value) * 0x1p-23 + 0x1p-126);
}

// Bytes of a bank; 0 where that is more than 64 GiB (window_search_plan.hpp).
std::uint64_t bank_search_bytes(std::uint32_t vectors, std::uint32_t dim) noexcept;

// Up to kBankQueries vectors and their points.
struct BankPoints {
  Buffer<float> centred, values;   // values: rows of BankIndex::stride()
  double from[kBankQueries];       // squared length of the vector, centred
  double squares[kBankQueries];    // of the point
  double slack[kBankQueries];      // how far rounding may have moved the point
};

// A vector less the bank's mean, as int8: x' = scale * code.
struct BankRow {
  double squares;  // |x'|^2
  double off;      // |x - x'| at most, rounding included
  float scale;
  std::int32_t sum;  // of the codes
};

// What all searches of a bank share. The bank itself is read in place.
//
// Let x be a vector less the bank's mean and P the axes, an operator that lengthens nothing. The point of x is
// (P x, r(x)) with r(x)^2 = |x|^2 - |P x|^2. Since r is a seminorm, |r(x) - r(y)| <= r(x - y), and so
// |point(x) - point(y)|^2 <= |P (x - y)|^2 + r(x - y)^2 = |x - y|^2. Without axes the point is x itself.
class BankIndex {
 public:
  // Checks the bank, too: every value must be finite and at most 1e15.
  [[nodiscard]] edgead_status prepare(const float *bank, std::size_t bytes, std::uint32_t vectors, std::uint32_t dim,
                                      std::uint64_t cpu_mask, const ErrorSink &sink) noexcept;

  // The same bank without axes, for queries that points do not tell from most vectors; NULL where this one has none.
  const BankIndex *whole() const noexcept { return whole_.get(); }

  // Of each vector of the bank, for BankSearchPlan::score; read in place, too.
  [[nodiscard]] edgead_status set_neighbours(const std::int32_t *near, std::size_t bytes, std::uint32_t neighbours,
                                             const ErrorSink &sink) noexcept;

  std::size_t neighbours() const noexcept { return neighbours_; }
  const std::int32_t *near(std::size_t index) const noexcept { return near_ + index * neighbours_; }
  std::size_t vectors() const noexcept { return vectors_; }
  std::size_t dim() const noexcept { return dim_; }
  const float *vector(std::size_t index) const noexcept { return bank_ + index * dim_; }
  const BankKernels &kernels() const noexcept { return *kernels_; }
  double margin() const noexcept { return margin_; }
  // What a rough distance's square may be off by, as a share: four sums or more go side by side.
  double rough_margin() const noexcept { return static_cast<double>(dim_ / 4 + 32) * 0x1p-24; }

  [[nodiscard]] bool allocate(BankPoints &points) const noexcept;
  // Squares that are no numbers or too large leave the other results without a meaning.
  void locate(const float *const *vectors, std::size_t count, BankPoints &out) const noexcept;
  std::size_t stride() const noexcept { return (point_dim() + kBankBox - 1) / kBankBox * kBankBox; }

  // Long vectors that points leave over are looked at as int8 first, a quarter of the memory to read.
  bool has_rows() const noexcept { return row_bytes_ != 0; }
  std::size_t row_bytes() const noexcept { return row_bytes_; }  // codes, zeros behind the last
  // Of the vector at `place`, its tile * kBankTile + its lane: a tile's rows lie together.
  const BankRow &row(std::size_t place) const noexcept { return rows_[place]; }
  const std::uint8_t *row_codes(std::size_t place) const noexcept { return row_codes_.data() + place * row_bytes_; }
  // `codes` gets row_bytes() of a centred vector whose square is `from`.
  BankRow code_row(const float *centred, double from, std::int8_t *codes) const noexcept;

  bool coded() const noexcept { return coded_; }  // as int8
  // In values of a code: padded to what the screening reads.
  std::size_t code_dim() const noexcept { return (point_dim() + 3) / 4 * 4; }
  std::size_t code_bytes() const noexcept { return code_dim() * (coded_ ? 1 : sizeof(float)); }
  std::size_t tiles() const noexcept { return (vectors_ + kBankTile - 1) / kBankTile; }
  std::size_t padded_tiles() const noexcept { return (tiles() + 15) / 16 * 16; }
  const BankTile &tile(std::size_t index) const noexcept { return tiles_[index]; }
  std::size_t number(std::size_t tile, std::size_t lane) const noexcept {
    return static_cast<std::size_t>(order_[tile * kBankTile + lane]);
  }
  // Of padded_tiles() boxes, kBankBox rows.
  const float *lowest() const noexcept { return low_.data(); }
  const float *highest() const noexcept { return high_.data(); }

 private:
  void set_centre() noexcept;
  [[nodiscard]] bool set_axes() noexcept;
  [[nodiscard]] bool set_whole() noexcept;
  [[nodiscard]] bool set_rows() noexcept;
  [[nodiscard]] bool set_order() noexcept;
  [[nodiscard]] bool set_tiles() noexcept;
  void set_tile(std::size_t index, const float *points, const double *squares, const double *slack) noexcept;
  std::size_t point_dim() const noexcept { return columns_ != 0 ? columns_ : dim_; }

  const BankKernels *kernels_ = nullptr;
  const float *bank_ = nullptr;
  const std::int32_t *near_ = nullptr;
  std::size_t vectors_ = 0, dim_ = 0, neighbours_ = 0;
  std::size_t columns_ = 0;  // of the axes, the last one 0: the rest's place; 0: no axes
  bool coded_ = false;
  double margin_ = 0.0;  // of rounding, as a share of the squares that enter a comparison
  float rest_ = 0.0f;    // subtracted from the rests, so that they are small numbers
  Buffer<float> centre_, axes_, zeros_, base_, low_, high_;
  Buffer<std::int32_t> order_;  // which vector is where in the tiles
  Buffer<std::uint8_t> codes_;
  Buffer<BankTile> tiles_;
  std::size_t row_bytes_ = 0;
  Buffer<std::uint8_t> row_codes_;  // code + 128
  Buffer<BankRow> rows_;
  std::unique_ptr<BankIndex> whole_;
};

}  // namespace edgead
