// Every kernel level of the preprocessor against the plain reference: random and extreme pixels, all formats,
// sizes around the vector tiles, ROIs, windows, strides, exact-size source buffers, guard bytes around dst.
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "edgead/edgead.h"
#include "guarded.hpp"
#include "kernels/resample_reference.hpp"

namespace {

constexpr std::uint8_t GUARD = 0xA5;

struct Case {
  std::uint32_t format, resampler;
  std::uint32_t width, height, roi_x, roi_y, roi_width, roi_height;
  std::uint32_t resize_width, resize_height;
  std::uint32_t window_x, window_y, window_width, window_height;
  std::size_t padding, dst_padding;
  int fill;  // 0 random, 1 zeros, 2 ones, 3 checkerboard, 4 random extremes
};

std::uint32_t pixel_bytes(std::uint32_t format) {
  if (format >= EDGEAD_PIXEL_MONO10 && format <= EDGEAD_PIXEL_MONO16) return 2;
  if (format == EDGEAD_PIXEL_RGB8 || format == EDGEAD_PIXEL_BGR8) return 3;
  return format == EDGEAD_PIXEL_RGBA8 || format == EDGEAD_PIXEL_BGRA8 ? 4 : 1;
}

void fill_frame(std::uint8_t *data, std::size_t size, int fill, std::mt19937 &random) {
  for (std::size_t i = 0; i < size; ++i) {
    const auto value = static_cast<std::uint8_t>(random());
    switch (fill) {
      case 1: data[i] = 0; break;
      case 2: data[i] = 255; break;
      case 3: data[i] = i % 2 ? 255 : 0; break;
      case 4: data[i] = value & 1 ? 255 : 0; break;
      default: data[i] = value;
    }
  }
}

void run_case(const Case &c, std::mt19937 &random) {
  const std::size_t row_bytes = std::size_t{c.width} * pixel_bytes(c.format), stride = row_bytes + c.padding;
  const std::size_t frame_bytes = (c.height - 1) * stride + row_bytes;
  const Guarded frame(frame_bytes);
  fill_frame(frame.data(), frame_bytes, c.fill, random);

  edgead_image image;
  edgead_image_init(&image, sizeof image);
  image.pixel_format = c.format;
  image.data = frame.data();
  image.width = c.width;
  image.height = c.height;
  image.row_stride_bytes = stride;
  image.roi_x = c.roi_x;
  image.roi_y = c.roi_y;
  image.roi_width = c.roi_width;
  image.roi_height = c.roi_height;
  const auto expected = edgead::reference::resize(image, c.resampler, c.resize_width, c.resize_height);

  const std::size_t dst_row = std::size_t{3} * c.window_width, dst_stride = dst_row + c.dst_padding;
  const std::size_t capacity = (c.window_height - 1) * dst_stride + dst_row;
  for (const std::uint64_t mask : {std::uint64_t{0}, EDGEAD_CPU_AVX2, EDGEAD_CPU_AVX2 | EDGEAD_CPU_AVX512,
                                   EDGEAD_CPU_NEON}) {
    if ((edgead_cpu_features() & mask) != mask) continue;
    edgead_preprocess_options options;
    edgead_preprocess_options_init(&options, sizeof options);
    options.resampler = c.resampler;
    options.pixel_format = c.format;
    options.source_width = c.roi_width;
    options.source_height = c.roi_height;
    options.resize_width = c.resize_width;
    options.resize_height = c.resize_height;
    options.window_x = c.window_x;
    options.window_y = c.window_y;
    options.window_width = c.window_width;
    options.window_height = c.window_height;
    options.cpu_mask = mask;
    edgead_preprocessor *preprocessor = nullptr;
    char message[256] = "";
    CHECK_EQ(edgead_preprocessor_create(&options, &preprocessor, message, sizeof message), EDGEAD_OK);

    const Guarded memory(capacity + 64);
    std::memset(memory.data(), GUARD, capacity + 64);
    std::uint8_t *dst = memory.data() + 64;
    for (int again = 0; again < 2; ++again)  // a plan keeps nothing of the frame before
      CHECK_EQ(edgead_preprocessor_run(preprocessor, &image, dst, dst_stride, capacity, message, sizeof message),
               EDGEAD_OK);
    edgead_preprocessor_destroy(preprocessor);

    std::size_t wrong = 0, touched = 0;
    for (int i = 0; i < 64; ++i) touched += memory.data()[i] != GUARD;
    for (std::uint32_t y = 0; y < c.window_height; ++y) {
      const std::uint8_t *row = dst + y * dst_stride;
      const std::uint8_t *want = &expected.bytes[(std::size_t{c.window_y + y} * c.resize_width + c.window_x) * 3];
      for (std::size_t i = 0; i < dst_row; ++i) wrong += row[i] != want[i];
      if (y + 1 < c.window_height)
        for (std::size_t i = dst_row; i < dst_stride; ++i) touched += row[i] != GUARD;
    }
    if (wrong > 0 || touched > 0) {
      ++check_failure_count();
      std::fprintf(stderr,
                   "%s: format %u resampler %u frame %ux%u roi %ux%u+%u+%u -> %ux%u window %ux%u+%u+%u fill %d: "
                   "%zu bytes differ, %zu outside touched\n",
                   edgead_kernel_name(mask), c.format, c.resampler, c.width, c.height, c.roi_width, c.roi_height,
                   c.roi_x, c.roi_y, c.resize_width, c.resize_height, c.window_width, c.window_height, c.window_x,
                   c.window_y, c.fill, wrong, touched);
    }
  }
}

std::uint32_t pick(std::mt19937 &random, std::uint32_t low, std::uint32_t high) {
  return low + static_cast<std::uint32_t>(random() % (high - low + 1));
}

// Sizes around the tiles of 4, 8, 16 and 64, and small ones.
std::uint32_t pick_size(std::mt19937 &random) {
  constexpr std::uint32_t tiles[] = {4, 8, 16, 32, 64, 128};
  switch (random() % 4) {
    case 0: return pick(random, 1, 5);
    case 1: return pick(random, 1, 150);
    default: return tiles[random() % 6] + pick(random, 0, 2) - 1;
  }
}

Case random_case(std::mt19937 &random) {
  Case c{};
  c.format = pick(random, EDGEAD_PIXEL_MONO8, EDGEAD_PIXEL_BAYER_BG8);
  c.resampler = pick(random, EDGEAD_RESAMPLER_PILLOW_BILINEAR, EDGEAD_RESAMPLER_OPENCV_LINEAR);
  c.roi_width = pick_size(random);
  c.roi_height = pick_size(random);
  c.roi_x = pick(random, 0, 3);
  c.roi_y = pick(random, 0, 3);
  c.width = c.roi_x + c.roi_width + pick(random, 0, 3);
  c.height = c.roi_y + c.roi_height + pick(random, 0, 3);
  if (c.format >= EDGEAD_PIXEL_BAYER_RG8) {
    c.width = c.width < 3 ? 3 : c.width;
    c.height = c.height < 3 ? 3 : c.height;
  }
  c.resize_width = random() % 8 == 0 ? c.roi_width : pick_size(random);
  c.resize_height = random() % 8 == 0 ? c.roi_height : pick_size(random);
  if (random() % 8 == 0 && c.roi_width % 2 == 0 && c.roi_height % 2 == 0) {
    c.resize_width = c.roi_width / 2;
    c.resize_height = c.roi_height / 2;
  }
  c.window_x = random() % 2 ? 0 : pick(random, 0, c.resize_width - 1);
  c.window_y = random() % 2 ? 0 : pick(random, 0, c.resize_height - 1);
  c.window_width = pick(random, 1, c.resize_width - c.window_x);
  c.window_height = pick(random, 1, c.resize_height - c.window_y);
  c.padding = random() % 2 ? 0 : pick(random, 0, 37);
  c.dst_padding = random() % 2 ? 0 : pick(random, 0, 37);
  c.fill = static_cast<int>(random() % 5);
  return c;
}

Case whole(std::uint32_t format, std::uint32_t resampler, std::uint32_t width, std::uint32_t height,
           std::uint32_t resize_width, std::uint32_t resize_height, int fill) {
  return {format, resampler, width, height, 0, 0, width, height, resize_width, resize_height, 0, 0,
          resize_width, resize_height, 0, 0, fill};
}

}  // namespace

int main() {
  std::mt19937 random(20240501);
  for (int i = 0; i < 1500; ++i) run_case(random_case(random), random);
  const std::uint32_t extremes[][4] = {{1, 1, 1, 1},    {1, 1, 300, 200}, {1, 999, 7, 3},  {999, 1, 3, 7},
                                       {3000, 40, 1, 1}, {40, 3000, 1, 1}, {5, 4, 700, 600}, {257, 129, 256, 128},
                                       {200, 300, 200, 3}, {300, 200, 3, 200}};
  for (const auto &size : extremes)
    for (const std::uint32_t format : {EDGEAD_PIXEL_MONO8, EDGEAD_PIXEL_RGB8, EDGEAD_PIXEL_BGRA8})
      for (const std::uint32_t resampler : {EDGEAD_RESAMPLER_PILLOW_BILINEAR, EDGEAD_RESAMPLER_OPENCV_LINEAR})
        for (const int fill : {0, 2, 4})
          run_case(whole(format, resampler, size[0], size[1], size[2], size[3], fill), random);
  return check_failures();
}
