#pragma once
// One session's part of a loaded bundle: request, plans and scratch. Frame in, result out, without an allocation once
// the kind of frame is planned.

#include <array>
#include <memory>
#include <vector>

#include "geometry.hpp"
#include "image_view.hpp"
#include "loaded.hpp"
#include "post_plan.hpp"
#include "resampler.hpp"

namespace edgead {

// What a plan is made for. The ROI is that of the image, in which the bundle's own lies.
struct FrameKind {
  std::uint32_t pixel_format, width, height, roi_x, roi_y, roi_width, roi_height;
  bool operator==(const FrameKind &o) const noexcept {
    return pixel_format == o.pixel_format && width == o.width && height == o.height && roi_x == o.roi_x &&
           roi_y == o.roi_y && roi_width == o.roi_width && roi_height == o.roi_height;
  }
};

FrameKind kind_of(const edgead_image &checked) noexcept;

constexpr std::size_t MOST_PLANS = 8;

class Judge {
 public:
  // Throws Error.
  explicit Judge(std::shared_ptr<const Loaded> loaded);

  const Loaded &loaded() const noexcept { return *loaded_; }
  std::size_t map_count() const noexcept { return post_.map_count(); }

  // Makes what frames of this kind need, unless it is there. Throws Error.
  void plan(const FrameKind &kind, std::uint32_t resolution);
  bool planned(const FrameKind &kind, std::uint32_t resolution) const noexcept;
  // The kinds that are planned, and whether for frame resolution too: for the successor after a reload.
  std::vector<std::pair<FrameKind, std::uint32_t>> kinds() const;

  // Checks the caller's buffers for an image of this kind. `preprocessed`: the image is the network's input.
  edgead_status check_buffers(const edgead_image &image, const edgead_result &result, const ErrorSink &error) const
      noexcept;
  // The whole way, for a planned kind; everything is checked. Times and outcome go to `result`, whose decision is
  // left to the caller. EDGEAD_ERR_ENGINE where the engine fails.
  edgead_status run(const edgead_image &image, const ThresholdValues &thresholds, std::uint32_t min_area,
                    edgead_result &result, const ErrorSink &error) noexcept;
  // The network's input as it is: RGB rows of the input's size, `stride` bytes apart.
  edgead_status run_preprocessed(const edgead_image &image, const ThresholdValues &thresholds, std::uint32_t min_area,
                                 edgead_result &result, const ErrorSink &error) noexcept;

  // Score of a golden image; map: map_count() floats. Throws Error(ENGINE).
  float golden_scores(const Golden &golden, float *map);
  // Engine and post kernel on a golden image. Throws Error(ENGINE).
  void warm_up(std::uint32_t runs);

  Judge *older = nullptr;  // link of the session's list of judges that a reload has replaced

 private:
  struct FramePlan {
    FrameKind kind;
    std::uint64_t last_use;
    std::unique_ptr<Resampler> resampler;
    MapToFrame to_frame;
    std::uint32_t roi_x, roi_y;  // of the bundle's ROI in the frame
    Seen rows, columns;          // at frame resolution
    std::unique_ptr<PostPlan> frame_post;
  };

  FramePlan *find(const FrameKind &kind) const noexcept;
  std::unique_ptr<FramePlan> make(const FrameKind &kind) const;
  void add_frame_post(FramePlan &plan) const;
  edgead_status infer_and_post(FramePlan *plan, const ThresholdValues &thresholds, std::uint32_t min_area,
                               std::uint64_t start, edgead_result &result, const ErrorSink &error) noexcept;
  void blank_unseen(const FramePlan &plan, const edgead_result &result) const noexcept;

  std::shared_ptr<const Loaded> loaded_;
  std::unique_ptr<Request> request_;
  PostPlan post_;
  std::array<std::unique_ptr<FramePlan>, MOST_PLANS> plans_;
  std::uint64_t uses_ = 0;
};

std::uint64_t clock_ns() noexcept;

}  // namespace edgead
