#pragma once
// What the tests of model and session share: a bundle on disk, an open model, frames, a result with buffers.

#include <cstring>
#include <string>
#include <vector>

#include "bundle_maker.hpp"
#include "check.hpp"
#include "edgead/edgead.h"

struct Opened {
  edgead_model *model = nullptr;
  edgead_status status;
  std::string message;

  explicit Opened(const std::filesystem::path &path, const edgead_model_options *options = nullptr) {
    char text[1024] = "";
    status = edgead_model_open(path.c_str(), options, &model, text, sizeof text);
    message = text;
    if (status != EDGEAD_OK) model = nullptr;
  }
  Opened(const Opened &) = delete;
  Opened &operator=(const Opened &) = delete;
  ~Opened() { edgead_model_close(model); }
};

struct OpenedSession {
  edgead_session *session = nullptr;

  explicit OpenedSession(edgead_model *model, const edgead_session_options *options = nullptr) {
    char text[1024] = "";
    if (edgead_session_create(model, options, &session, text, sizeof text) != EDGEAD_OK) {
      std::fprintf(stderr, "no session: %s\n", text);
      ++check_failure_count();
    }
  }
  OpenedSession(const OpenedSession &) = delete;
  OpenedSession &operator=(const OpenedSession &) = delete;
  ~OpenedSession() { edgead_session_destroy(session); }
};

// A BGR8 frame that owns its pixels.
struct TestFrame {
  std::vector<std::uint8_t> pixels;
  edgead_image image;

  TestFrame(std::uint32_t width, std::uint32_t height) : pixels(std::size_t{width} * height * 3) {
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 7);
    edgead_image_init(&image, sizeof image);
    image.pixel_format = EDGEAD_PIXEL_BGR8;
    image.data = pixels.data();
    image.width = width;
    image.height = height;
    image.row_stride_bytes = std::size_t{width} * 3;
  }
};

struct TestResult {
  std::vector<float> map;
  std::vector<std::uint8_t> mask, heatmap;
  std::vector<edgead_region> regions;
  edgead_result result;
  std::string message;

  explicit TestResult(std::size_t pixels, std::uint32_t most_regions = 8)
      : map(pixels), mask(pixels), heatmap(pixels), regions(most_regions) {
    edgead_result_init(&result, sizeof result);
    result.map = map.data();
    result.map_capacity = pixels;
    result.mask = mask.data();
    result.mask_capacity = pixels;
    result.heatmap = heatmap.data();
    result.heatmap_capacity = pixels;
    result.regions = regions.data();
    result.regions_capacity = most_regions;
  }

  edgead_status run(edgead_session *session, const edgead_image &image) {
    char text[1024] = "";
    const edgead_status status = edgead_session_run(session, &image, &result, text, sizeof text);
    message = text;
    return status;
  }
};

inline bool has(const std::string &text, const std::string &part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) std::fprintf(stderr, "«%s» is not in «%s»\n", part.c_str(), text.c_str());
  return found;
}
