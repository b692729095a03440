// The C shell of the preprocessor: every argument is checked here, no exception leaves.

#include <cstddef>
#include <cstring>
#include <new>
#include <stdexcept>

#include "edgead/edgead.h"
#include "image_view.hpp"
#include "resampler.hpp"
#include "status.hpp"

struct edgead_preprocessor {
  edgead_preprocess_options options;
  edgead::Resampler resampler;
};

namespace edgead {
namespace {

edgead_status check_options(edgead_preprocess_options &o, const ErrorSink &error) noexcept {
  if (o.resampler != EDGEAD_RESAMPLER_PILLOW_BILINEAR && o.resampler != EDGEAD_RESAMPLER_OPENCV_LINEAR)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "resampler %u is unknown; use EDGEAD_RESAMPLER_*", o.resampler);
  if (pixel_format_info(o.pixel_format) == nullptr)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "pixel format %u is unknown; use EDGEAD_PIXEL_*", o.pixel_format);
  const struct {
    const char *name;
    std::uint32_t value;
  } sides[] = {{"source_width", o.source_width},
               {"source_height", o.source_height},
               {"resize_width", o.resize_width},
               {"resize_height", o.resize_height}};
  for (const auto &side : sides)
    if (side.value == 0 || side.value > MOST_FRAME_SIDE)
      return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is %u; it must be 1 to %u", side.name, side.value,
                        MOST_FRAME_SIDE);
  if (o.window_x == 0 && o.window_y == 0 && o.window_width == 0 && o.window_height == 0) {
    o.window_width = o.resize_width;
    o.window_height = o.resize_height;
  }
  if (o.window_width == 0 || o.window_height == 0 || o.window_x >= o.resize_width || o.window_y >= o.resize_height ||
      o.window_width > o.resize_width - o.window_x || o.window_height > o.resize_height - o.window_y)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "window %ux%u at (%u, %u) leaves the resized image of %ux%u",
                      o.window_width, o.window_height, o.window_x, o.window_y, o.resize_width, o.resize_height);
  return EDGEAD_OK;
}

// That the frame is what the preprocessor was made for.
edgead_status check_plan(const edgead_preprocess_options &o, const edgead_image &image,
                         const ErrorSink &error) noexcept {
  if (image.pixel_format != o.pixel_format)
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the frame has pixel format %u, the preprocessor was made for %u",
                      image.pixel_format, o.pixel_format);
  if (image.roi_width != o.source_width || image.roi_height != o.source_height)
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the frame or ROI is %ux%u, the preprocessor was made for %ux%u",
                      image.roi_width, image.roi_height, o.source_width, o.source_height);
  return EDGEAD_OK;
}

}  // namespace
}  // namespace edgead

extern "C" {

void edgead_image_init(edgead_image *image, uint32_t struct_size) {
  edgead::fill_defaults(image, struct_size, edgead_image{});
}

void edgead_preprocess_options_init(edgead_preprocess_options *options, uint32_t struct_size) {
  edgead_preprocess_options defaults{};
  defaults.resampler = EDGEAD_RESAMPLER_PILLOW_BILINEAR;
  defaults.cpu_mask = ~uint64_t{0};
  edgead::fill_defaults(options, struct_size, defaults);
}

edgead_status edgead_preprocessor_create(const edgead_preprocess_options *options,
                                         edgead_preprocessor **out_preprocessor, char *error_buf,
                                         size_t error_buf_size) {
  const edgead::ErrorSink error{error_buf, error_buf_size};
  if (options == nullptr || out_preprocessor == nullptr)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is NULL", options == nullptr ? "options" : "out_preprocessor");
  edgead_preprocess_options known;
  edgead_preprocess_options_init(&known, sizeof known);
  if (!edgead::copy_sized(&known, sizeof known, options, options->struct_size, sizeof known))
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u; call edgead_preprocess_options_init",
                      options->struct_size);
  const edgead_status status = edgead::check_options(known, error);
  if (status != EDGEAD_OK) return status;
  try {
    *out_preprocessor = new edgead_preprocessor{known, edgead::Resampler(known)};
    return EDGEAD_OK;
  } catch (const std::bad_alloc &) {
    return error.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory to resize %ux%u to %ux%u", known.source_width,
                      known.source_height, known.resize_width, known.resize_height);
  } catch (...) {
    return error.fail(EDGEAD_ERR_INTERNAL, "internal error in edgead_preprocessor_create, please report it");
  }
}

edgead_status edgead_preprocessor_run(edgead_preprocessor *preprocessor, const edgead_image *image, uint8_t *dst,
                                      size_t dst_row_stride_bytes, size_t dst_capacity, char *error_buf,
                                      size_t error_buf_size) {
  const edgead::ErrorSink error{error_buf, error_buf_size};
  if (preprocessor == nullptr || image == nullptr || dst == nullptr)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "preprocessor, image or dst is NULL");
  const edgead_preprocess_options &o = preprocessor->options;
  edgead_image known;
  const edgead::PixelFormat *format = nullptr;
  edgead_status status = edgead::check_image(image, false, known, format, error);
  if (status == EDGEAD_OK) status = edgead::check_plan(o, known, error);
  if (status != EDGEAD_OK) return status;
  const size_t row_bytes = size_t{3} * o.window_width;
  if (dst_row_stride_bytes < row_bytes || dst_row_stride_bytes > PTRDIFF_MAX / o.window_height)
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "dst_row_stride_bytes is %zu; a row of %u RGB pixels needs %zu",
                      dst_row_stride_bytes, o.window_width, row_bytes);
  const size_t needed = (o.window_height - 1) * dst_row_stride_bytes + row_bytes;
  if (dst_capacity < needed)
    return error.fail(EDGEAD_ERR_BUFFER_TOO_SMALL, "dst holds %zu bytes, %zu are needed", dst_capacity, needed);
  preprocessor->resampler.run({static_cast<const uint8_t *>(known.data), known.row_stride_bytes, known.width,
                               known.height, known.roi_x, known.roi_y},
                              dst, dst_row_stride_bytes);
  return EDGEAD_OK;
}

void edgead_preprocessor_destroy(edgead_preprocessor *preprocessor) { delete preprocessor; }

}  // extern "C"
