#pragma once
// Everything that a windowed search prepares once: checked options, up-sampling in the kernels' layout, scratch.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "banded_rows.hpp"
#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/window_search.hpp"
#include "status.hpp"

namespace edgead {

constexpr std::uint32_t kMostSearchLevels = 8, kMostReferences = 1u << 20, kMostSearchDim = 4096;
constexpr std::uint32_t kMostSearchSide = 1u << 15;
constexpr std::uint64_t kMostBankBytes = std::uint64_t{1} << 36;  // what a bundle may hold

// Bytes of one level's bank; 0 where that is more than kMostBankBytes. `bank_type`: EDGEAD_BANK_*.
std::uint64_t search_bank_bytes(std::uint32_t references, std::uint32_t dim, std::uint32_t bank_type,
                                std::uint32_t height, std::uint32_t width) noexcept;

// What is wrong with a bank's values, or NULL: each must be a part of a vector of length 1.
const char *search_bank_problem(std::uint32_t bank_type, const void *bank, std::size_t bytes) noexcept;

// One search at a time; the banks are read in place. Throws nothing.
class WindowSearchPlan {
 public:
  // Checks the options but not the values of the banks, and prepares all memory.
  [[nodiscard]] edgead_status prepare(const edgead_window_search_options &options, const ErrorSink &sink);

  // The whole work, on arguments that the shell has checked: queries[level] (dim, height, width), `nearest`
  // references, weight (height, width) of level 0 or NULL, map of map_count() values. EDGEAD_ERR_ENGINE where a
  // reference is none of the bank: indices come out of a graph.
  [[nodiscard]] edgead_status run(const float *const *queries, const std::int32_t *references, const float *weight,
                                  float *map, const ErrorSink &sink) noexcept;

  std::size_t levels() const noexcept { return level_count_; }
  std::size_t map_count() const noexcept { return map_height_ * map_width_; }
  bool weighted() const noexcept { return weighted_; }

 private:
  struct Level {
    std::size_t height, width, radius, columns, bank_stride, block_rows;
    const std::uint8_t *bank;
    std::size_t row_bytes;       // of one row of one reference
    Buffer<float> packed;        // queries: height rows of dim * columns
    Buffer<double> total;        // their squared lengths: height * columns
    Buffer<float> best;          // height * columns; afterwards the distances
    Buffer<float> row;           // a widened row of the bank: dim * bank_stride
    BandedTiles to_width;        // the next grid's columns: of level 0, or (level 0) of the map
    BandedRows to_height;
  };

  bool prepare_level(Level &level, const edgead_search_level &given, std::uint32_t bank_type) noexcept;
  bool prepare_upsampling(Level &level, std::size_t height, std::size_t width) noexcept;
  void search(Level &level, const float *query, const std::int32_t *references) noexcept;
  void match_row(Level &level, std::size_t y, const std::uint8_t *row, const std::uint8_t *ahead) noexcept;
  void widen(const Level &level, const float *map, std::size_t stride, float *wide) const noexcept;

  const SearchKernels *kernels_ = nullptr;
  const PostKernels *post_ = nullptr;
  SearchWiden widen_ = nullptr;
  double scale_ = 1.0;
  std::size_t level_count_ = 0, references_ = 0, nearest_ = 0, dim_ = 0, map_height_ = 0, map_width_ = 0;
  bool weighted_ = false;
  Level level_[kMostSearchLevels];
  Buffer<float> wide_, wide_weight_;  // maps at their final width: rows of wide_stride
};

}  // namespace edgead
