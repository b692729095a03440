// Any frame view, options and output buffer against edgead_preprocessor_create and _run. An oracle in wide
// arithmetic says what must be accepted; the buffers are exactly as large as the header allows to touch, so that
// AddressSanitizer sees a byte too many.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "edgead/edgead.h"

namespace {

using Wide = unsigned __int128;
constexpr std::uint32_t MAX_SIDE = 1U << 20;
constexpr Wide MAX_BYTES = 4 << 20;  // of a buffer here: larger ones would only be slow

class Input {
 public:
  Input(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

  template <typename T>
  T any() {
    T value{};
    const std::size_t n = size_ < sizeof value ? size_ : sizeof value;
    if (n > 0) std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }
  // Mostly small, sometimes a round or wild number.
  std::uint32_t side() {
    const auto kind = any<std::uint8_t>();
    if (kind < 160) return any<std::uint8_t>() % 48;
    if (kind < 240) return any<std::uint16_t>() % 700;
    if (kind < 248) return (1U << any<std::uint8_t>() % 32) + any<std::uint8_t>() % 3 - 1;
    return any<std::uint32_t>();
  }
  std::size_t left() const { return size_; }
  const std::uint8_t *data() const { return data_; }

 private:
  const std::uint8_t *data_;
  std::size_t size_;
};

void require(bool so) {
  if (!so) std::abort();
}

Wide pixel_bytes(std::uint32_t format) {
  constexpr std::uint8_t BYTES[] = {1, 2, 2, 2, 3, 3, 4, 4, 1, 1, 1, 1};
  return BYTES[format - 1];
}

bool sound(const edgead_preprocess_options &o) {
  const auto side = [](std::uint32_t s) { return s >= 1 && s <= MAX_SIDE; };
  const bool whole = o.window_x == 0 && o.window_y == 0 && o.window_width == 0 && o.window_height == 0;
  const bool window = o.window_width > 0 && o.window_height > 0 &&
                      Wide{o.window_x} + o.window_width <= o.resize_width &&
                      Wide{o.window_y} + o.window_height <= o.resize_height;
  return o.struct_size >= sizeof o && (o.resampler == 1 || o.resampler == 2) && o.pixel_format >= 1 &&
         o.pixel_format <= 12 && side(o.source_width) && side(o.source_height) && side(o.resize_width) &&
         side(o.resize_height) && (whole || window);
}

bool sound(const edgead_image &i, const edgead_preprocess_options &o) {
  const auto side = [](std::uint32_t s) { return s >= 1 && s <= MAX_SIDE; };
  if (i.struct_size < offsetof(edgead_image, trigger_timestamp_ns) || i.data == nullptr ||
      i.pixel_format != o.pixel_format || !side(i.width) || !side(i.height))
    return false;
  if (i.row_stride_bytes < pixel_bytes(i.pixel_format) * i.width || Wide{i.row_stride_bytes} * i.height > PTRDIFF_MAX)
    return false;
  if (i.pixel_format >= EDGEAD_PIXEL_BAYER_RG8 && (i.width < 3 || i.height < 3)) return false;
  if (i.roi_width == 0 && i.roi_height == 0)
    return i.roi_x == 0 && i.roi_y == 0 && i.width == o.source_width && i.height == o.source_height;
  return Wide{i.roi_x} + i.roi_width <= i.width && Wide{i.roi_y} + i.roi_height <= i.height &&
         i.roi_width == o.source_width && i.roi_height == o.source_height;
}

edgead_preprocess_options read_options(Input &input) {
  edgead_preprocess_options o;
  edgead_preprocess_options_init(&o, sizeof o);
  if (input.any<std::uint8_t>() == 255) o.struct_size = input.any<std::uint8_t>();
  o.resampler = 1 + input.any<std::uint8_t>() % 2;
  o.pixel_format = 1 + input.any<std::uint8_t>() % 12;
  if (input.any<std::uint8_t>() == 255) o.resampler = input.side();
  if (input.any<std::uint8_t>() == 255) o.pixel_format = input.side();
  o.source_width = input.side();
  o.source_height = input.side();
  o.resize_width = input.side();
  o.resize_height = input.side();
  if (input.any<std::uint8_t>() % 2 == 1) {
    o.window_x = input.side();
    o.window_y = input.side();
    o.window_width = input.side();
    o.window_height = input.side();
  }
  constexpr std::uint64_t MASKS[] = {~0ULL, 0, EDGEAD_CPU_AVX2, EDGEAD_CPU_AVX512 | EDGEAD_CPU_AVX2};
  o.cpu_mask = MASKS[input.any<std::uint8_t>() % 4];
  return o;
}

edgead_image read_image(Input &input, const edgead_preprocess_options &o) {
  edgead_image i;
  edgead_image_init(&i, sizeof i);
  if (input.any<std::uint8_t>() == 255) i.struct_size = input.any<std::uint8_t>();
  i.pixel_format = input.any<std::uint8_t>() == 255 ? input.side() : o.pixel_format;
  const auto how = input.any<std::uint8_t>();
  if (how < 100) {  // the whole frame
    i.width = o.source_width;
    i.height = o.source_height;
  } else if (how < 220) {  // an ROI that fits
    i.roi_x = input.any<std::uint8_t>() % 40;
    i.roi_y = input.any<std::uint8_t>() % 40;
    i.roi_width = o.source_width;
    i.roi_height = o.source_height;
    i.width = i.roi_x + i.roi_width + input.any<std::uint8_t>() % 20;
    i.height = i.roi_y + i.roi_height + input.any<std::uint8_t>() % 20;
  } else {
    i.width = input.side();
    i.height = input.side();
    i.roi_x = input.side();
    i.roi_y = input.side();
    i.roi_width = input.side();
    i.roi_height = input.side();
  }
  const bool known = i.pixel_format >= 1 && i.pixel_format <= 12;
  i.row_stride_bytes = (known ? static_cast<std::size_t>(pixel_bytes(i.pixel_format)) : 1) * i.width;
  const auto stride = input.any<std::uint8_t>();
  if (stride >= 250) i.row_stride_bytes = input.any<std::size_t>();
  else if (stride >= 100) i.row_stride_bytes += stride % 25;
  return i;
}

// `bytes` bytes at an odd or even address, the last of them before the redzone.
struct Block {
  Block(std::size_t bytes, bool odd) : memory(new std::uint8_t[bytes + odd]), data(memory.get() + odd) {}

  std::unique_ptr<std::uint8_t[]> memory;
  std::uint8_t *data;
};

void run(edgead_preprocessor *preprocessor, Input &input, const edgead_preprocess_options &o) {
  edgead_image image = read_image(input, o);
  const auto flags = input.any<std::uint8_t>();
  image.data = &image;  // anything but NULL
  if (flags == 255) image.data = nullptr;
  const bool image_sound = sound(image, o);
  Wide frame_bytes = 1;
  if (image_sound)
    frame_bytes = Wide{image.row_stride_bytes} * (image.height - 1) + pixel_bytes(image.pixel_format) * image.width;
  const std::uint32_t rows = o.window_height > 0 ? o.window_height : o.resize_height;
  const Wide row_bytes = Wide{3} * (o.window_width > 0 ? o.window_width : o.resize_width);
  std::size_t dst_stride = static_cast<std::size_t>(row_bytes);
  const auto spread = input.any<std::uint8_t>();
  if (spread >= 250) dst_stride = input.any<std::size_t>();
  else if (spread >= 120) dst_stride += spread % 50;
  const bool stride_sound = dst_stride >= row_bytes && Wide{dst_stride} * rows <= PTRDIFF_MAX;
  const Wide needed = Wide{dst_stride} * (rows - 1) + row_bytes;
  std::size_t capacity = stride_sound ? static_cast<std::size_t>(needed) : 1;
  if (spread == 100) --capacity;
  if (spread == 101) ++capacity;
  if (spread == 102) capacity = input.side();
  if (frame_bytes > MAX_BYTES || capacity > MAX_BYTES) return;
  const bool accepted = image_sound && stride_sound && capacity >= needed;
  const Block frame(static_cast<std::size_t>(frame_bytes), (flags & 1) != 0), dst(capacity, (flags & 2) != 0);
  std::memset(frame.data, 0x5a, static_cast<std::size_t>(frame_bytes));
  const auto filled = static_cast<std::size_t>(input.left() < frame_bytes ? input.left() : frame_bytes);
  std::memcpy(frame.data, input.data(), filled);
  if (image.data != nullptr) image.data = frame.data;
  char message[16] = "";
  const edgead_status status =
      edgead_preprocessor_run(preprocessor, &image, dst.data, dst_stride, capacity, message, sizeof message);
  require((status == EDGEAD_OK) == accepted);
  require((status == EDGEAD_OK) == (message[0] == '\0'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  const edgead_preprocess_options options = read_options(input);
  const bool options_sound = sound(options);
  const auto large = [](std::uint32_t side) { return side > 2048; };
  if (options_sound && (large(options.source_width) || large(options.source_height) || large(options.resize_width) ||
                        large(options.resize_height)))
    return 0;
  char message[16] = "";
  edgead_preprocessor *preprocessor = nullptr;
  const edgead_status status = edgead_preprocessor_create(&options, &preprocessor, message, sizeof message);
  require((status == EDGEAD_OK) == options_sound);
  require((status == EDGEAD_OK) == (preprocessor != nullptr));
  require((status == EDGEAD_OK) == (message[0] == '\0'));
  if (preprocessor == nullptr) return 0;
  for (int frames = 0; frames < 3; ++frames) run(preprocessor, input, options);
  edgead_preprocessor_destroy(preprocessor);
  return 0;
}
