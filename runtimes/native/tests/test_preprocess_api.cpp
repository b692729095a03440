// The C interface of the preprocessor: every wrong argument has its status and a sentence, nothing is written on
// failure, structs of other versions, and run allocates nothing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "check.hpp"
#include "edgead/edgead.h"

namespace {
std::size_t allocations = 0;
}

void *operator new(std::size_t size) {
  ++allocations;
  if (void *p = std::malloc(size > 0 ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void *p) noexcept { std::free(p); }
void operator delete(void *p, std::size_t) noexcept { std::free(p); }

namespace {

edgead_preprocess_options good_options() {
  edgead_preprocess_options options;
  edgead_preprocess_options_init(&options, sizeof options);
  options.pixel_format = EDGEAD_PIXEL_RGB8;
  options.source_width = 40;
  options.source_height = 30;
  options.resize_width = 20;
  options.resize_height = 10;
  return options;
}

// Status of create with `change` applied; on failure there is a sentence and no object.
template <typename Change>
edgead_status create(Change change) {
  edgead_preprocess_options options = good_options();
  change(options);
  edgead_preprocessor *made = nullptr;
  char message[200] = "";
  const edgead_status status = edgead_preprocessor_create(&options, &made, message, sizeof message);
  CHECK((status == EDGEAD_OK) == (made != nullptr));
  CHECK((status == EDGEAD_OK) == (message[0] == '\0'));
  edgead_preprocessor_destroy(made);
  return status;
}

void test_create() {
  using Options = edgead_preprocess_options;
  CHECK_EQ(create([](Options &) {}), EDGEAD_OK);
  const edgead_status wrong = EDGEAD_ERR_INVALID_ARGUMENT;
  CHECK_EQ(create([](Options &o) { o.resampler = 0; }), wrong);
  CHECK_EQ(create([](Options &o) { o.resampler = 3; }), wrong);
  CHECK_EQ(create([](Options &o) { o.pixel_format = 0; }), wrong);
  CHECK_EQ(create([](Options &o) { o.pixel_format = 13; }), wrong);
  CHECK_EQ(create([](Options &o) { o.source_width = 0; }), wrong);
  CHECK_EQ(create([](Options &o) { o.source_height = UINT32_MAX; }), wrong);
  CHECK_EQ(create([](Options &o) { o.resize_width = 0; }), wrong);
  CHECK_EQ(create([](Options &o) { o.resize_height = (1U << 20) + 1; }), wrong);
  CHECK_EQ(create([](Options &o) { o.window_x = 1; }), wrong);
  CHECK_EQ(create([](Options &o) { o.window_width = 21, o.window_height = 1; }), wrong);
  CHECK_EQ(create([](Options &o) { o.window_width = 1, o.window_height = 1, o.window_y = 10; }), wrong);
  CHECK_EQ(create([](Options &o) { o.window_width = UINT32_MAX, o.window_height = 1, o.window_x = 2; }), wrong);
  CHECK_EQ(create([](Options &o) { o.window_width = 20, o.window_height = 10; }), EDGEAD_OK);
  CHECK_EQ(create([](Options &o) { o.struct_size = 0; }), wrong);
  CHECK_EQ(create([](Options &o) { o.struct_size -= 1; }), wrong);  // older than the first version

  edgead_preprocess_options options = good_options();
  edgead_preprocessor *made = nullptr;
  CHECK_EQ(edgead_preprocessor_create(nullptr, &made, nullptr, 0), wrong);
  CHECK_EQ(edgead_preprocessor_create(&options, nullptr, nullptr, 0), wrong);
  char tiny[4] = {'x', 'x', 'x', 'x'};
  CHECK_EQ(edgead_preprocessor_create(&options, nullptr, tiny, sizeof tiny), wrong);
  CHECK_EQ(tiny[3], 0);  // cut, and terminated
  edgead_preprocessor_destroy(nullptr);

  // A caller that knows more fields than this library.
  struct {
    edgead_preprocess_options known;
    std::uint64_t later[4];
  } future;
  std::memset(&future, 0xFF, sizeof future);
  edgead_preprocess_options_init(&future.known, sizeof future);
  CHECK_EQ(future.known.struct_size, sizeof future);
  CHECK_EQ(future.later[3], 0);
  const std::uint32_t size = future.known.struct_size;
  future.known = good_options();
  future.known.struct_size = size;
  CHECK_EQ(edgead_preprocessor_create(&future.known, &made, nullptr, 0), EDGEAD_OK);
  edgead_preprocessor_destroy(made);

  // init never writes past the caller's struct.
  std::uint32_t words[3] = {7, 7, 7};
  edgead_image_init(reinterpret_cast<edgead_image *>(words), 8);
  CHECK_EQ(words[0], 8);
  CHECK_EQ(words[1], 0);
  CHECK_EQ(words[2], 7);
  edgead_image_init(nullptr, 8);
}

struct Fixture {
  std::vector<std::uint8_t> frame = std::vector<std::uint8_t>(30 * 120, 9);
  std::vector<std::uint8_t> dst = std::vector<std::uint8_t>(10 * 60, 77);
  edgead_image image;
  edgead_preprocessor *preprocessor = nullptr;

  explicit Fixture(const edgead_preprocess_options &options = good_options()) {
    CHECK_EQ(edgead_preprocessor_create(&options, &preprocessor, nullptr, 0), EDGEAD_OK);
    edgead_image_init(&image, sizeof image);
    image.pixel_format = options.pixel_format;
    image.data = frame.data();
    image.width = 40;
    image.height = 30;
    image.row_stride_bytes = 120;
  }
  ~Fixture() { edgead_preprocessor_destroy(preprocessor); }

  edgead_status run(std::size_t stride = 60, std::size_t capacity = 600) {
    char message[200] = "";
    const edgead_status status =
        edgead_preprocessor_run(preprocessor, &image, dst.data(), stride, capacity, message, sizeof message);
    CHECK((status == EDGEAD_OK) == (message[0] == '\0'));
    std::size_t written = 0;
    for (const std::uint8_t byte : dst) written += byte != 77;
    CHECK((status == EDGEAD_OK) == (written > 0));
    return status;
  }
};

template <typename Change>
edgead_status run(Change change) {
  Fixture fixture;
  change(fixture.image);
  return fixture.run();
}

void test_run() {
  using Image = edgead_image;
  const edgead_status wrong = EDGEAD_ERR_INVALID_IMAGE;
  CHECK_EQ(run([](Image &) {}), EDGEAD_OK);
  CHECK_EQ(run([](Image &i) { i.data = nullptr; }), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(run([](Image &i) { i.struct_size = 4; }), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(run([](Image &i) { i.pixel_format = EDGEAD_PIXEL_BGR8; }), wrong);
  CHECK_EQ(run([](Image &i) { i.pixel_format = 99; }), wrong);
  CHECK_EQ(run([](Image &i) { i.width = 0; }), wrong);
  CHECK_EQ(run([](Image &i) { i.width = 39; }), wrong);  // another size than planned
  CHECK_EQ(run([](Image &i) { i.height = UINT32_MAX; }), wrong);
  CHECK_EQ(run([](Image &i) { i.row_stride_bytes = 119; }), wrong);
  CHECK_EQ(run([](Image &i) { i.row_stride_bytes = SIZE_MAX; }), wrong);
  CHECK_EQ(run([](Image &i) { i.roi_width = 40, i.roi_height = 31; }), wrong);
  CHECK_EQ(run([](Image &i) { i.roi_width = 40, i.roi_height = 30, i.roi_x = 1; }), wrong);
  CHECK_EQ(run([](Image &i) { i.roi_width = 40, i.roi_height = 30, i.roi_x = UINT32_MAX; }), wrong);
  CHECK_EQ(run([](Image &i) { i.roi_width = UINT32_MAX, i.roi_height = 30, i.roi_x = 5; }), wrong);
  CHECK_EQ(run([](Image &i) { i.roi_width = 40; }), wrong);  // no height
  CHECK_EQ(run([](Image &i) { i.roi_x = 3; }), wrong);       // a place without a size
  CHECK_EQ(run([](Image &i) { i.roi_width = 40, i.roi_height = 30; }), EDGEAD_OK);

  Fixture fixture;
  CHECK_EQ(fixture.run(59), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(fixture.run(SIZE_MAX), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(fixture.run(60, 599), EDGEAD_ERR_BUFFER_TOO_SMALL);
  char message[200] = "";
  CHECK_EQ(edgead_preprocessor_run(fixture.preprocessor, &fixture.image, fixture.dst.data(), 60, 599, message,
                                   sizeof message),
           EDGEAD_ERR_BUFFER_TOO_SMALL);
  CHECK(std::strstr(message, "600") != nullptr);  // the message states the needed size
  CHECK_EQ(edgead_preprocessor_run(nullptr, &fixture.image, fixture.dst.data(), 60, 600, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_preprocessor_run(fixture.preprocessor, nullptr, fixture.dst.data(), 60, 600, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_preprocessor_run(fixture.preprocessor, &fixture.image, nullptr, 60, 600, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);

  edgead_preprocess_options bayer = good_options();
  bayer.pixel_format = EDGEAD_PIXEL_BAYER_GB8;
  bayer.source_width = 2;
  Fixture narrow(bayer);
  narrow.image.width = 2;
  CHECK_EQ(narrow.run(), wrong);
}

void test_run_allocates_nothing() {
  for (std::uint32_t format = EDGEAD_PIXEL_MONO8; format <= EDGEAD_PIXEL_BAYER_BG8; ++format)
    for (const std::uint32_t resampler : {EDGEAD_RESAMPLER_PILLOW_BILINEAR, EDGEAD_RESAMPLER_OPENCV_LINEAR})
      for (const std::uint32_t height : {10U, 15U, 29U, 30U}) {
        edgead_preprocess_options options = good_options();
        options.pixel_format = format;
        options.resampler = resampler;
        options.resize_width = height == 30 ? 40 : 20;
        options.resize_height = height;
        Fixture fixture(options);
        fixture.dst.assign(3 * options.resize_width * height, 0);
        fixture.image.row_stride_bytes = 160;
        fixture.frame.assign(30 * 160, 9);
        fixture.image.data = fixture.frame.data();
        const std::size_t before = allocations;
        CHECK_EQ(edgead_preprocessor_run(fixture.preprocessor, &fixture.image, fixture.dst.data(),
                                         std::size_t{3} * options.resize_width, fixture.dst.size(), nullptr, 0),
                 EDGEAD_OK);
        CHECK_EQ(allocations, before);
      }
}

}  // namespace

int main() {
  test_create();
  test_run();
  test_run_allocates_nothing();
  return check_failures();
}
