#include "judge.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

namespace edgead {
namespace {

constexpr float NAN_F = std::numeric_limits<float>::quiet_NaN();

edgead_postprocess_options post_options(const Loaded &loaded, const BandedMatrix &h, const BandedMatrix &w) {
  const PostRecipe &recipe = loaded.manifest().post;
  edgead_postprocess_options options;
  edgead_postprocess_options_init(&options, sizeof options);
  options.channels = recipe.channels;
  options.grid_height = recipe.grid_height;
  options.grid_width = recipe.grid_width;
  options.alpha = recipe.alpha.data();
  options.gamma = recipe.gamma;
  options.gamma_stage = recipe.gamma_stage;
  options.operator_h = h.view();
  options.operator_w = w.view();
  options.score_rule = recipe.score_rule;
  options.top_k = recipe.top_k;
  options.cpu_mask = loaded.cpu_mask;
  return options;
}

void prepare(PostPlan &plan, const edgead_postprocess_options &options, edgead_status refused) {
  char message[512] = "";
  const edgead_status status = plan.prepare(options, {message, sizeof message});
  if (status == EDGEAD_ERR_OUT_OF_MEMORY) raise(status, "%s", message);
  if (status != EDGEAD_OK) raise(refused, "%s", message);
}

// Raw values shown as 0 and 255: as far below and above the pixel threshold as the good median lies; where that is
// nothing in float, a step at the threshold.
void set_limits(edgead_post_params &params, const ThresholdValues &t) noexcept {
  params.pixel_threshold = static_cast<float>(t.pixel);
  const double half = t.pixel - t.pixel_median;
  params.heatmap_low = static_cast<float>(t.pixel - half);
  params.heatmap_high = static_cast<float>(t.pixel + half);
  if (params.heatmap_low < params.heatmap_high) return;
  params.heatmap_low = std::nextafter(params.pixel_threshold, -std::numeric_limits<float>::infinity());
  params.heatmap_high = std::nextafter(params.pixel_threshold, std::numeric_limits<float>::infinity());
}

}  // namespace

std::uint64_t clock_ns() noexcept {
  using namespace std::chrono;
  return static_cast<std::uint64_t>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

FrameKind kind_of(const edgead_image &i) noexcept {
  return {i.pixel_format, i.width, i.height, i.roi_x, i.roi_y, i.roi_width, i.roi_height};
}

Judge::Judge(std::shared_ptr<const Loaded> loaded) : loaded_(std::move(loaded)) {
  request_ = loaded_->engine->create_request();
  prepare(post_, post_options(*loaded_, loaded_->operator_h, loaded_->operator_w), EDGEAD_ERR_BUNDLE);
}

Judge::FramePlan *Judge::find(const FrameKind &kind) const noexcept {
  for (const auto &plan : plans_)
    if (plan && plan->kind == kind) return plan.get();
  return nullptr;
}

bool Judge::planned(const FrameKind &kind, std::uint32_t resolution) const noexcept {
  const FramePlan *plan = find(kind);
  return plan != nullptr && (resolution == EDGEAD_RESOLUTION_NETWORK || plan->frame_post);
}

std::vector<std::pair<FrameKind, std::uint32_t>> Judge::kinds() const {
  std::vector<std::pair<FrameKind, std::uint32_t>> found;
  for (const auto &plan : plans_)
    if (plan)
      found.emplace_back(plan->kind, plan->frame_post ? EDGEAD_RESOLUTION_FRAME : EDGEAD_RESOLUTION_NETWORK);
  return found;
}

void Judge::plan(const FrameKind &kind, std::uint32_t resolution) {
  FramePlan *plan = find(kind);
  if (plan == nullptr) {
    auto made = make(kind);
    // An empty place, else the plan that was longest not used.
    auto &place = *std::min_element(plans_.begin(), plans_.end(), [](const auto &a, const auto &b) {
      return (a ? a->last_use : 0) < (b ? b->last_use : 0);
    });
    place = std::move(made);
    place->last_use = ++uses_;
    plan = place.get();
  }
  if (resolution == EDGEAD_RESOLUTION_FRAME && !plan->frame_post) add_frame_post(*plan);
}

std::unique_ptr<Judge::FramePlan> Judge::make(const FrameKind &kind) const {
  const Geometry &geometry = loaded_->manifest().geometry;
  Roi roi{kind.roi_x, kind.roi_y, kind.roi_width, kind.roi_height};
  if (geometry.roi) {
    const Roi &own = *geometry.roi;
    if (own.x > roi.width || own.y > roi.height || own.width > roi.width - own.x || own.height > roi.height - own.y)
      raise(EDGEAD_ERR_INVALID_IMAGE, "the bundle's ROI %ux%u at (%u, %u) leaves the frame or ROI of %ux%u", own.width,
            own.height, own.x, own.y, roi.width, roi.height);
    roi = {roi.x + own.x, roi.y + own.y, own.width, own.height};
  }
  const Resolved resolved = resolve(geometry, roi.height, roi.width);
  edgead_preprocess_options options;
  edgead_preprocess_options_init(&options, sizeof options);
  options.resampler = geometry.resampler;
  options.pixel_format = kind.pixel_format;
  options.source_width = roi.width;
  options.source_height = roi.height;
  options.resize_width = resolved.width;
  options.resize_height = resolved.height;
  options.window_x = resolved.window_x;
  options.window_y = resolved.window_y;
  options.window_width = resolved.window_width;
  options.window_height = resolved.window_height;
  options.cpu_mask = loaded_->cpu_mask;
  auto plan = std::make_unique<FramePlan>();
  plan->kind = kind;
  plan->resampler = std::make_unique<Resampler>(options);
  plan->roi_x = roi.x;
  plan->roi_y = roi.y;
  const PostRecipe &recipe = loaded_->manifest().post;
  plan->to_frame = map_to_frame(resolved, roi, recipe.output_height, recipe.output_width);
  plan->rows = seen(plan->to_frame.y, kind.height);
  plan->columns = seen(plan->to_frame.x, kind.width);
  return plan;
}

void Judge::add_frame_post(FramePlan &plan) const {
  const BandedMatrix h = to_frame(loaded_->operator_h, plan.to_frame.y, plan.kind.height);
  const BandedMatrix w = to_frame(loaded_->operator_w, plan.to_frame.x, plan.kind.width);
  edgead_postprocess_options options = post_options(*loaded_, h, w);
  options.score_rule = EDGEAD_SCORE_MAX_GRID;  // the score is that of the network's resolution
  options.top_k = 0;
  auto post = std::make_unique<PostPlan>();
  prepare(*post, options, EDGEAD_ERR_UNSUPPORTED);
  plan.frame_post = std::move(post);
}

edgead_status Judge::check_buffers(const edgead_image &image, const edgead_result &result, const ErrorSink &error) const
    noexcept {
  if (result.resolution > EDGEAD_RESOLUTION_FRAME)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "resolution %u is unknown; use EDGEAD_RESOLUTION_*",
                      result.resolution);
  const TensorShapes &shapes = loaded_->shapes;
  if (result.preprocessed != 0 && (image.pixel_format != EDGEAD_PIXEL_RGB8 || image.width != shapes.width ||
                                   image.height != shapes.height || image.roi_width != image.width ||
                                   image.roi_height != image.height))
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "a preprocessed image is RGB8 of %ux%u without ROI, not format %u of "
                      "%ux%u", shapes.width, shapes.height, image.pixel_format, image.width, image.height);
  if (result.preprocessed != 0 && result.resolution == EDGEAD_RESOLUTION_FRAME)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "a preprocessed image has no frame resolution");
  const std::size_t needed = result.resolution == EDGEAD_RESOLUTION_FRAME
                                 ? std::size_t{image.width} * image.height
                                 : map_count();
  edgead_status status = check_buffer(result.map, result.map_capacity, needed, "map", error);
  if (status == EDGEAD_OK) status = check_buffer(result.mask, result.mask_capacity, needed, "mask", error);
  if (status == EDGEAD_OK) status = check_buffer(result.heatmap, result.heatmap_capacity, needed, "heatmap", error);
  return status;
}

edgead_status Judge::run(const edgead_image &image, const ThresholdValues &thresholds, std::uint32_t min_area,
                         edgead_result &result, const ErrorSink &error) noexcept {
  const std::uint64_t start = clock_ns();
  FramePlan *plan = find(kind_of(image));
  plan->last_use = ++uses_;
  plan->resampler->run({static_cast<const std::uint8_t *>(image.data), image.row_stride_bytes, image.width,
                        image.height, plan->roi_x, plan->roi_y},
                       request_->input(), std::size_t{3} * loaded_->shapes.width);
  return infer_and_post(plan, thresholds, min_area, start, result, error);
}

edgead_status Judge::run_preprocessed(const edgead_image &image, const ThresholdValues &thresholds,
                                      std::uint32_t min_area, edgead_result &result, const ErrorSink &error) noexcept {
  const std::uint64_t start = clock_ns();
  const std::size_t row = std::size_t{3} * image.width;
  for (std::uint32_t y = 0; y < image.height; ++y)
    std::memcpy(request_->input() + y * row,
                static_cast<const std::uint8_t *>(image.data) + y * image.row_stride_bytes, row);
  return infer_and_post(nullptr, thresholds, min_area, start, result, error);
}

edgead_status Judge::infer_and_post(FramePlan *plan, const ThresholdValues &thresholds, std::uint32_t min_area,
                                    std::uint64_t start, edgead_result &result, const ErrorSink &error) noexcept {
  const std::uint64_t ready = clock_ns();
  const edgead_status status = request_->infer(error);
  if (status != EDGEAD_OK) return status;
  const std::uint64_t inferred = clock_ns();

  edgead_post_params params{};
  params.struct_size = sizeof params;
  params.min_area = min_area;
  set_limits(params, thresholds);
  if (request_->score() != nullptr) params.graph_score = *request_->score();
  const bool at_frame = result.resolution == EDGEAD_RESOLUTION_FRAME;
  edgead_post_result post{};
  post.regions = result.regions;
  post.regions_capacity = result.regions_capacity;
  if (!at_frame) {
    post.map = result.map;
    post.mask = result.mask;
    post.heatmap = result.heatmap;
  }
  post_.run(request_->map(), params, post);
  if (at_frame && (result.map != nullptr || result.mask != nullptr || result.heatmap != nullptr)) {
    edgead_post_result shown{};
    shown.map = result.map;
    shown.mask = result.mask;
    shown.heatmap = result.heatmap;
    plan->frame_post->run(request_->map(), params, shown);
    blank_unseen(*plan, result);
  }
  for (std::uint32_t i = 0; plan != nullptr && i < post.regions_count; ++i) plan->to_frame.move(result.regions[i]);
  const std::uint64_t done = clock_ns();

  result.regions_count = post.regions_count;
  result.regions_total = post.regions_total;
  result.score_raw = post.score_raw;
  result.map_max = post.map_max;
  result.score = 0.5 + 0.5 * (static_cast<double>(post.score_raw) - thresholds.image) /
                           (thresholds.image - thresholds.image_median);
  result.preprocess_ns = ready - start;
  result.engine_ns = inferred - ready;
  result.post_ns = done - inferred;
  return EDGEAD_OK;
}

// Pixels outside of the window: no number, no mark.
void Judge::blank_unseen(const FramePlan &plan, const edgead_result &result) const noexcept {
  const std::size_t width = plan.kind.width;
  const auto blank = [&](std::size_t begin, std::size_t end) {
    if (result.map != nullptr) std::fill(result.map + begin, result.map + end, NAN_F);
    if (result.mask != nullptr) std::memset(result.mask + begin, 0, end - begin);
    if (result.heatmap != nullptr) std::memset(result.heatmap + begin, 0, end - begin);
  };
  blank(0, plan.rows.first * width);
  blank(plan.rows.end * width, plan.kind.height * width);
  if (plan.columns.first == 0 && plan.columns.end == width) return;
  for (std::size_t y = plan.rows.first; y < plan.rows.end; ++y) {
    blank(y * width, y * width + plan.columns.first);
    blank(y * width + plan.columns.end, (y + 1) * width);
  }
}

float Judge::golden_scores(const Golden &golden, float *map) {
  const TensorShapes &shapes = loaded_->shapes;
  edgead_image image{};
  image.pixel_format = EDGEAD_PIXEL_RGB8;
  image.data = golden.rgb.data();
  image.width = shapes.width;
  image.height = shapes.height;
  image.row_stride_bytes = std::size_t{3} * shapes.width;
  edgead_result result{};
  result.map = map;
  char message[512] = "";
  const edgead_status status =
      run_preprocessed(image, loaded_->thresholds->get(), 1, result, {message, sizeof message});
  if (status != EDGEAD_OK) raise(status, "%s", message);
  return result.score_raw;
}

void Judge::warm_up(std::uint32_t runs) {
  std::vector<float> map(map_count());
  for (std::uint32_t i = 0; i < runs; ++i)
    golden_scores(loaded_->golden[i % loaded_->golden.size()], map.data());
}

}  // namespace edgead
