#include "image_view.hpp"

namespace edgead {

// Width x height, as every message gives sizes.
edgead_status check_image(const edgead_image *given, bool sizes_only, edgead_image &image, const PixelFormat *&format,
                          const ErrorSink &error) noexcept {
  image = edgead_image{};
  if (!copy_sized(&image, sizeof image, given, given->struct_size, IMAGE_FIRST_SIZE))
    return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "image.struct_size is %u; call edgead_image_init",
                      given->struct_size);
  format = pixel_format_info(image.pixel_format);
  if (format == nullptr)
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "pixel format %u is unknown; use EDGEAD_PIXEL_*", image.pixel_format);
  if (image.width == 0 || image.height == 0 || image.width > MOST_FRAME_SIDE || image.height > MOST_FRAME_SIDE)
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the frame is %ux%u; a side must be 1 to %u", image.width, image.height,
                      MOST_FRAME_SIDE);
  if (!sizes_only) {
    if (image.data == nullptr) return error.fail(EDGEAD_ERR_INVALID_ARGUMENT, "image.data is NULL");
    const std::size_t row_bytes = static_cast<std::size_t>(image.width) * format->bytes;
    if (image.row_stride_bytes < row_bytes || image.row_stride_bytes > PTRDIFF_MAX / image.height)
      return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the row stride is %zu bytes; a row of %u pixels needs %zu",
                        image.row_stride_bytes, image.width, row_bytes);
  }
  if (image.roi_width == 0 && image.roi_height == 0) {
    if (image.roi_x != 0 || image.roi_y != 0)
      return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the ROI at (%u, %u) has no size", image.roi_x, image.roi_y);
    image.roi_width = image.width;
    image.roi_height = image.height;
  }
  if (image.roi_width == 0 || image.roi_height == 0 || image.roi_x > image.width || image.roi_y > image.height ||
      image.roi_width > image.width - image.roi_x || image.roi_height > image.height - image.roi_y)
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "the ROI %ux%u at (%u, %u) is empty or leaves the frame of %ux%u",
                      image.roi_width, image.roi_height, image.roi_x, image.roi_y, image.width, image.height);
  if (format->kind == PixelFormat::Kind::bayer && (image.width < 3 || image.height < 3))
    return error.fail(EDGEAD_ERR_INVALID_IMAGE, "a Bayer frame of %ux%u has no colours; it must be 3x3 at least",
                      image.width, image.height);
  return EDGEAD_OK;
}

}  // namespace edgead
