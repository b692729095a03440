#pragma once
// Everything that a postprocessor prepares once: checked options, operators in the kernels' layout, scratch.

#include <cstddef>
#include <cstdint>

#include "banded_rows.hpp"
#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/post.hpp"
#include "regions.hpp"
#include "status.hpp"

namespace edgead {

class PostPlan {
 public:
  // Checks the options and prepares all memory.
  [[nodiscard]] edgead_status prepare(const edgead_postprocess_options &options, const ErrorSink &sink) noexcept;

  // The whole work, on arguments that the shell has checked.
  void run(const float *raw, const edgead_post_params &params, edgead_post_result &result) noexcept;

  std::size_t raw_count() const noexcept { return channels_ * grid_height_ * grid_width_; }
  std::size_t map_count() const noexcept { return map_height_ * map_width_; }

 private:
  bool needs_top_k() const noexcept {
    return score_rule_ == EDGEAD_SCORE_TOP_K_SUM || score_rule_ == EDGEAD_SCORE_TOP_K_MEAN;
  }
  bool prepare_memory(const edgead_postprocess_options &options) noexcept;
  void expand_exactly() noexcept;
  float score(const PostGrid &grid, float map_max, bool map_nan, const float *map, float graph_score) noexcept;

  const PostKernels *kernels_ = nullptr;
  std::size_t channels_ = 0, grid_height_ = 0, grid_width_ = 0, map_height_ = 0, map_width_ = 0;
  std::size_t stride_ = 0;  // of expanded_, floats
  std::uint32_t score_rule_ = 0, top_k_ = 0;
  float gamma_before_ = 0.0f, gamma_after_ = 0.0f;
  Buffer<float> alpha_;
  BandedRows vertical_, horizontal_;
  BandedTiles tiles_;
  Buffer<float> grid_;      // the combined channels
  Buffer<float> expanded_;  // grid height rows of stride_ columns
  Buffer<float> row_;       // a map row where the caller wants no map
  Buffer<std::uint8_t> mask_row_;
  Buffer<float> row_max_, map_, candidates_;  // for the top_k rules
  RegionFinder regions_;
};

}  // namespace edgead
