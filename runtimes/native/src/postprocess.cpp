// The C shell of the post kernel: versions of structs, arguments, buffers. The work is in post_plan.cpp.

#include <cmath>
#include <new>

#include "edgead/edgead.h"
#include "post_plan.hpp"
#include "status.hpp"

struct edgead_postprocessor {
  edgead::PostPlan plan;
};

namespace {

using edgead::check_buffer;
using edgead::ErrorSink;

edgead_status check_run(const edgead::PostPlan &plan, std::size_t raw_count, const edgead_post_params &params,
                        const edgead_post_result &result, const ErrorSink &sink) noexcept {
  if (raw_count != plan.raw_count())
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "raw has %zu values, the plan is for %zu", raw_count,
                     plan.raw_count());
  if (std::isnan(params.pixel_threshold))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "the pixel threshold is not a number");
  if (!std::isfinite(params.heatmap_low) || !std::isfinite(params.heatmap_high) ||
      !(params.heatmap_low < params.heatmap_high))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "the heatmap range %g .. %g is empty or not finite",
                     static_cast<double>(params.heatmap_low), static_cast<double>(params.heatmap_high));
  edgead_status status = check_buffer(result.map, result.map_capacity, plan.map_count(), "map", sink);
  if (status == EDGEAD_OK)
    status = check_buffer(result.mask, result.mask_capacity, plan.map_count(), "mask", sink);
  if (status == EDGEAD_OK)
    status = check_buffer(result.heatmap, result.heatmap_capacity, plan.map_count(), "heatmap", sink);
  return status;
}

}  // namespace

extern "C" {

void edgead_postprocess_options_init(edgead_postprocess_options *options, uint32_t struct_size) {
  edgead_postprocess_options defaults{};
  defaults.channels = 1;
  defaults.score_rule = EDGEAD_SCORE_MAX_GRID;
  defaults.cpu_mask = ~std::uint64_t{0};
  edgead::fill_defaults(options, struct_size, defaults);
}

void edgead_post_params_init(edgead_post_params *params, uint32_t struct_size) {
  edgead_post_params defaults{};
  defaults.heatmap_high = 1.0f;
  defaults.min_area = 1;
  edgead::fill_defaults(params, struct_size, defaults);
}

void edgead_post_result_init(edgead_post_result *result, uint32_t struct_size) {
  edgead::fill_defaults(result, struct_size, edgead_post_result{});
}

edgead_status edgead_postprocessor_create(const edgead_postprocess_options *options,
                                          edgead_postprocessor **out_postprocessor, char *error_buf,
                                          size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (options == nullptr || out_postprocessor == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options or out_postprocessor is NULL");
  edgead_postprocess_options full{};
  if (!edgead::copy_sized(&full, sizeof full, options, options->struct_size, sizeof full))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u, at least %zu is needed",
                     options->struct_size, sizeof full);
  auto *created = new (std::nothrow) edgead_postprocessor;
  if (created == nullptr) return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory for a postprocessor");
  const edgead_status status = created->plan.prepare(full, sink);
  if (status != EDGEAD_OK) {
    delete created;
    return status;
  }
  *out_postprocessor = created;
  return EDGEAD_OK;
}

edgead_status edgead_postprocessor_run(edgead_postprocessor *postprocessor, const float *raw, size_t raw_count,
                                       const edgead_post_params *params, edgead_post_result *result, char *error_buf,
                                       size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (postprocessor == nullptr || raw == nullptr || params == nullptr || result == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "postprocessor, raw, params or result is NULL");
  edgead_post_params limits{};
  edgead_post_result found{};
  if (!edgead::copy_sized(&limits, sizeof limits, params, params->struct_size, sizeof limits))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "params.struct_size is %u, at least %zu is needed",
                     params->struct_size, sizeof limits);
  if (!edgead::copy_sized(&found, sizeof found, result, result->struct_size, sizeof found))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "result.struct_size is %u, at least %zu is needed",
                     result->struct_size, sizeof found);
  const edgead_status status = check_run(postprocessor->plan, raw_count, limits, found, sink);
  if (status != EDGEAD_OK) return status;
  postprocessor->plan.run(raw, limits, found);
  result->regions_count = found.regions_count;
  result->regions_total = found.regions_total;
  result->score_raw = found.score_raw;
  result->map_max = found.map_max;
  return EDGEAD_OK;
}

void edgead_postprocessor_destroy(edgead_postprocessor *postprocessor) { delete postprocessor; }

}  // extern "C"
