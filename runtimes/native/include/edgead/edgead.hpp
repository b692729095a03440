// edgead.hpp - C++17 over edgead.h: objects that close themselves, errors that throw.
//
// Header-only: what you compile is this file, what you link is libedgead's C ABI. Only functions of this file throw,
// and only edgead::Error (and std::bad_alloc, from its own strings and vectors). Model, Session and Result move, but
// do not copy; close() twice, or of a moved-from object, does nothing; any other call on such an object throws
// EDGEAD_ERR_INVALID_ARGUMENT. Threads as in edgead.h: one Model for all of them, one Session and Result each.
//
//   edgead::Model model("part.edgead");
//   edgead::Session session(model);
//   edgead::Result result(model);
//   session.prepare(edgead::image(nullptr, 1280, 1024, 1280, EDGEAD_PIXEL_MONO8));
//   while (const unsigned char *pixels = next_frame()) {  // yours
//     if (session.run(edgead::image(pixels, 1280, 1024, 1280, EDGEAD_PIXEL_MONO8), result) != edgead::Decision::ok)
//       reject();  // NG or ERROR
//   }
#ifndef EDGEAD_HPP
#define EDGEAD_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "edgead/edgead.h"

namespace edgead {

// A call that failed: what() is the library's sentence, status() one of EDGEAD_ERR_*.
class Error : public std::runtime_error {
 public:
  Error(edgead_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  edgead_status status() const noexcept { return status_; }

 private:
  edgead_status status_;
};

enum class Decision : std::int32_t { error = EDGEAD_DECISION_ERROR, ok = EDGEAD_DECISION_OK, ng = EDGEAD_DECISION_NG };

namespace detail {

// Room for one message of the library.
struct Message {
  char text[1024] = "";
  static constexpr std::size_t size = sizeof text;
};

inline void check(edgead_status status, const Message &message) {
  if (status == EDGEAD_OK) return;
  throw Error(status, message.text[0] != '\0' ? message.text : edgead_status_string(status));
}

struct CloseModel {
  void operator()(edgead_model *model) const noexcept { edgead_model_close(model); }
};

struct DestroySession {
  void operator()(edgead_session *session) const noexcept { edgead_session_destroy(session); }
};

}  // namespace detail

// Structs of edgead.h with their defaults, to set fields of.
inline edgead_model_options model_options() noexcept {
  edgead_model_options options;
  edgead_model_options_init(&options, sizeof options);
  return options;
}

inline edgead_session_options session_options() noexcept {
  edgead_session_options options;
  edgead_session_options_init(&options, sizeof options);
  return options;
}

// A view of the caller's pixels, which must stay until the call that it is given to returns. data may be null for
// Session::prepare. ROI, part_id and trigger_timestamp_ns are fields of what is returned.
inline edgead_image image(const void *data, std::uint32_t width, std::uint32_t height, std::size_t row_stride_bytes,
                          std::uint32_t pixel_format) noexcept {
  edgead_image view;
  edgead_image_init(&view, sizeof view);
  view.data = data;
  view.width = width;
  view.height = height;
  view.row_stride_bytes = row_stride_bytes;
  view.pixel_format = pixel_format;
  return view;
}

// An opened bundle and its engine. May be used by many threads at once, but for the object's own life: moving and
// closing it is one thread's business.
class Model {
 public:
  // Opens a bundle's directory or zip (UTF-8) and, by default, self-tests it: takes as long as the engine compiles.
  explicit Model(const std::string &path, const edgead_model_options &options = model_options()) {
    detail::Message message;
    detail::check(edgead_abi_check(EDGEAD_ABI_VERSION, message.text, message.size), message);
    edgead_model *opened = nullptr;
    detail::check(edgead_model_open(path.c_str(), &options, &opened, message.text, message.size), message);
    handle_.reset(opened);
  }

  // Sessions stay usable; what they share goes with the last of them.
  void close() noexcept { handle_.reset(); }
  bool is_open() const noexcept { return handle_ != nullptr; }
  edgead_model *handle() const noexcept { return handle_.get(); }  // for what only edgead.h offers

  // What the model is. Its strings live until the next reload or close.
  edgead_model_info inspect() const {
    detail::Message message;
    edgead_model_info info;
    edgead_model_info_init(&info, sizeof info);
    detail::check(edgead_model_inspect(handle(), &info, message.text, message.size), message);
    return info;
  }

  // The bundle's targets, such as "openvino:fp32"; the preferred one first.
  std::vector<std::string> targets() const {
    std::vector<std::string> names;
    const std::uint32_t count = inspect().targets_count;
    for (std::uint32_t index = 0; index < count; ++index)
      if (const char *name = edgead_model_target(handle(), index)) names.emplace_back(name);
    return names;
  }

  edgead_thresholds thresholds() const {
    detail::Message message;
    edgead_thresholds limits;
    edgead_thresholds_init(&limits, sizeof limits);
    detail::check(edgead_model_get_thresholds(handle(), &limits, message.text, message.size), message);
    return limits;
  }

  // Every session decides by them from its next frame on. Nothing is written to disk.
  void set_thresholds(const edgead_thresholds &limits) {
    detail::Message message;
    detail::check(edgead_model_set_thresholds(handle(), &limits, message.text, message.size), message);
  }

  // Runs the golden images. Throws where they cannot run; look at `passed` for whether they gave what they should.
  edgead_self_test_result self_test() {
    detail::Message message;
    edgead_self_test_result found;
    edgead_self_test_result_init(&found, sizeof found);
    detail::check(edgead_model_self_test(handle(), &found, message.text, message.size), message);
    return found;
  }

  // Runs a golden image whenever no session has run for that long; at least 1 ms; 0 or less stops it.
  void keep_warm(std::chrono::nanoseconds interval) {
    detail::Message message;
    const auto count = interval.count() > 0 ? static_cast<std::uint64_t>(interval.count()) : 0;
    detail::check(edgead_model_keep_warm(handle(), count, message.text, message.size), message);
  }

  // Opens, self-tests and warms up another bundle, then hands over between two frames. If it throws, the old one stays.
  void reload(const std::string &path) {
    detail::Message message;
    detail::check(edgead_model_reload(handle(), path.c_str(), message.text, message.size), message);
  }

 private:
  std::unique_ptr<edgead_model, detail::CloseModel> handle_;
};

// Which buffers a Result owns: what is not wanted costs no time.
struct Outputs {
  bool map = false;
  bool mask = true;
  bool heatmap = true;
  std::uint32_t regions = 64;  // the highest peaks; 0 = none
};

// Regions of a Result, highest peak first: for (const edgead_region &region : result.regions()).
class Regions {
 public:
  Regions(const edgead_region *data, std::size_t size) noexcept : data_(data), size_(size) {}
  const edgead_region *begin() const noexcept { return data_; }
  const edgead_region *end() const noexcept { return data_ + size_; }
  const edgead_region &operator[](std::size_t index) const noexcept { return data_[index]; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  const edgead_region *data_;
  std::size_t size_;
};

// The answer to one frame, with its buffers: made once, filled by each run, so that a run allocates nothing.
class Result {
 public:
  // Map, mask and heatmap at the network's resolution. A reload keeps that, so the result stays good.
  explicit Result(const Model &model, const Outputs &outputs = {}) {
    const edgead_model_info info = model.inspect();
    width_ = info.map_width;
    height_ = info.map_height;
    allocate(outputs, EDGEAD_RESOLUTION_NETWORK);
  }

  // Map, mask and heatmap at the frame's resolution, for frames of up to width * height pixels.
  Result(std::uint32_t frame_width, std::uint32_t frame_height, const Outputs &outputs = {})
      : width_(frame_width), height_(frame_height) {
    allocate(outputs, EDGEAD_RESOLUTION_FRAME);
  }

  Result(Result &&other) noexcept { swap(other); }
  Result &operator=(Result &&other) noexcept {
    Result taken(std::move(other));  // what this one owned goes here, at the end
    swap(taken);
    return *this;
  }
  Result(const Result &) = delete;
  Result &operator=(const Result &) = delete;

  Decision decision() const noexcept { return static_cast<Decision>(raw_.decision); }  // error before the first run
  double score() const noexcept { return raw_.score; }      // 0.5 at the threshold
  float score_raw() const noexcept { return raw_.score_raw; }  // the detector's units
  bool deadline_missed() const noexcept { return raw_.deadline_missed != 0; }
  std::uint64_t part_id() const noexcept { return raw_.part_id; }

  // width() * height() values, rows packed; null where Outputs did not ask for them. Valid until the next run.
  std::uint32_t width() const noexcept { return width_; }
  std::uint32_t height() const noexcept { return height_; }
  const float *map() const noexcept { return raw_.map; }
  const std::uint8_t *mask() const noexcept { return raw_.mask; }
  const std::uint8_t *heatmap() const noexcept { return raw_.heatmap; }
  Regions regions() const noexcept { return {raw_.regions, raw_.regions_count}; }

  // Every other field: stage times, map_max, regions_total, generation.
  const edgead_result &raw() const noexcept { return raw_; }
  // Why the last run failed; "" where it did not.
  const char *message() const noexcept { return message_.text; }
  // Frames to come are the network's input as it is: see edgead_result.preprocessed.
  void set_preprocessed(bool preprocessed) noexcept { raw_.preprocessed = preprocessed ? 1 : 0; }

 private:
  friend class Session;

  // The buffers' addresses survive the swap of vectors, so raw_ stays right. A moved-from result is all zero: the
  // library refuses it.
  void swap(Result &other) noexcept {
    std::swap(width_, other.width_);
    std::swap(height_, other.height_);
    map_.swap(other.map_);
    mask_.swap(other.mask_);
    heatmap_.swap(other.heatmap_);
    regions_.swap(other.regions_);
    std::swap(raw_, other.raw_);
    std::swap(message_, other.message_);
  }

  void allocate(const Outputs &outputs, std::uint32_t resolution) {
    const std::size_t pixels = std::size_t{width_} * height_;
    edgead_result_init(&raw_, sizeof raw_);
    raw_.resolution = resolution;
    if (outputs.map) map_.resize(pixels);
    if (outputs.mask) mask_.resize(pixels);
    if (outputs.heatmap) heatmap_.resize(pixels);
    regions_.resize(outputs.regions);
    raw_.map = map_.empty() ? nullptr : map_.data();
    raw_.map_capacity = map_.size();
    raw_.mask = mask_.empty() ? nullptr : mask_.data();
    raw_.mask_capacity = mask_.size();
    raw_.heatmap = heatmap_.empty() ? nullptr : heatmap_.data();
    raw_.heatmap_capacity = heatmap_.size();
    raw_.regions = regions_.empty() ? nullptr : regions_.data();
    raw_.regions_capacity = outputs.regions;
  }

  std::uint32_t width_ = 0, height_ = 0;
  std::vector<float> map_;
  std::vector<std::uint8_t> mask_, heatmap_;
  std::vector<edgead_region> regions_;
  edgead_result raw_{};
  detail::Message message_;
};

// One worker's way from frame to decision: one thread at a time.
class Session {
 public:
  explicit Session(const Model &model, const edgead_session_options &options = session_options()) {
    detail::Message message;
    edgead_session *created = nullptr;
    detail::check(edgead_session_create(model.handle(), &options, &created, message.text, message.size), message);
    handle_.reset(created);
  }

  void close() noexcept { handle_.reset(); }
  bool is_open() const noexcept { return handle_ != nullptr; }
  edgead_session *handle() const noexcept { return handle_.get(); }

  // Plans for frames like `frame`, so that the first one is as fast as the rest. resolution: EDGEAD_RESOLUTION_*.
  void prepare(const edgead_image &frame, std::uint32_t resolution = EDGEAD_RESOLUTION_NETWORK) {
    detail::Message message;
    detail::check(edgead_session_prepare(handle(), &frame, resolution, message.text, message.size), message);
  }

  void warm_up(std::uint32_t runs) {
    detail::Message message;
    detail::check(edgead_session_warm_up(handle(), runs, message.text, message.size), message);
  }

  // Judges a frame. Throws where there is no answer; the result's decision then is error.
  Decision run(const edgead_image &frame, Result &result) {
    detail::check(try_run(frame, result), result.message_);
    return result.decision();
  }

  // The same for loops that must go on: no throw, no allocation. The sentence is in result.message().
  edgead_status try_run(const edgead_image &frame, Result &result) noexcept {
    result.message_.text[0] = '\0';
    result.raw_.decision = EDGEAD_DECISION_ERROR;  // nothing of the frame before shows through where this one fails
    result.raw_.regions_count = 0;
    const edgead_status status =
        edgead_session_run(handle(), &frame, &result.raw_, result.message_.text, result.message_.size);
    if (status == EDGEAD_OK && result.raw_.resolution == EDGEAD_RESOLUTION_FRAME) {
      result.width_ = frame.width;
      result.height_ = frame.height;
    }
    return status;
  }

 private:
  std::unique_ptr<edgead_session, detail::DestroySession> handle_;
};

}  // namespace edgead

#endif  // EDGEAD_HPP
