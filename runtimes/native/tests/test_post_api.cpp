// The C shell of the post kernel: struct versions, bad arguments, optional outputs, no allocation per run.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "check.hpp"
#include "edgead/edgead.h"

namespace {

std::size_t allocations = 0;
bool out_of_memory = false;

void *counted(std::size_t size, std::size_t alignment) noexcept {
  ++allocations;
  if (out_of_memory) return nullptr;
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

}  // namespace

// Every form that the library could call; the plain and array forms end in one of these.
void *operator new(std::size_t size) {
  if (void *memory = counted(size, 16)) return memory;
  std::abort();
}
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return counted(size, 16); }
void *operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t &) noexcept {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// The C allocator, too: nothing may reach it during a run.
extern "C" void *__libc_malloc(std::size_t size);
extern "C" void *malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
#endif

namespace {

constexpr std::uint32_t kHeight = 6, kWidth = 80;  // the map; the grid is 3 x 5

// Nearest-neighbour operators as tables that a caller would own.
struct Setup {
  std::vector<std::int32_t> start_h, start_w;
  std::vector<float> weights_h = std::vector<float>(kHeight, 1.0f), weights_w = std::vector<float>(kWidth, 1.0f);
  std::vector<float> alpha = {1.0f, 0.5f};
  edgead_postprocess_options options;

  Setup() {
    for (std::uint32_t y = 0; y < kHeight; ++y) start_h.push_back(static_cast<std::int32_t>(y / 2));
    for (std::uint32_t x = 0; x < kWidth; ++x) start_w.push_back(static_cast<std::int32_t>(x / 16));
    edgead_postprocess_options_init(&options, sizeof options);
    options.channels = 2;
    options.grid_height = 3;
    options.grid_width = 5;
    options.alpha = alpha.data();
    options.operator_h = {kHeight, 3, 1, start_h.data(), weights_h.data()};
    options.operator_w = {kWidth, 5, 1, start_w.data(), weights_w.data()};
  }

  edgead_status create(edgead_postprocessor **out, char *message = nullptr, std::size_t size = 0) const {
    return edgead_postprocessor_create(&options, out, message, size);
  }
};

template <typename Change>
void refuses(Change change, const char *part) {
  Setup setup;
  change(setup);
  auto *untouched = reinterpret_cast<edgead_postprocessor *>(16);
  edgead_postprocessor *out = untouched;
  char message[256] = "";
  CHECK_EQ(setup.create(&out, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(out == untouched);
  if (std::strstr(message, part) == nullptr) {
    std::fprintf(stderr, "no \"%s\" in: %s\n", part, message);
    CHECK(false);
  }
}

void test_create() {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  refuses([](Setup &s) { s.options.struct_size = 0; }, "struct_size is 0");
  refuses([](Setup &s) { s.options.struct_size = sizeof s.options - 1; }, "struct_size");
  refuses([](Setup &s) { s.options.channels = 0; }, "0 channels");
  refuses([](Setup &s) { s.options.channels = 0xffffffffu; }, "4294967295 channels");
  refuses([](Setup &s) { s.options.grid_height = 0; }, "grid of 0 x 5");
  refuses([](Setup &s) { s.options.grid_width = 1u << 30; }, "1073741824");
  refuses([](Setup &s) { s.options.grid_width = 6; }, "operator_w has 5 columns");
  refuses([=](Setup &s) { s.alpha[1] = nan; }, "alpha of channel 1");
  refuses([=](Setup &s) { s.options.gamma = nan; }, "gamma is");
  refuses([](Setup &s) { s.options.gamma_stage = 2; }, "gamma stage 2");
  refuses([](Setup &s) { s.options.operator_h.start = nullptr; }, "operator_h has no start");
  refuses([](Setup &s) { s.options.operator_w.weights = nullptr; }, "operator_w has no start");
  refuses([](Setup &s) { s.options.operator_h.rows = 0; }, "operator_h has 0 rows");
  refuses([](Setup &s) { s.options.operator_h.band = 0; }, "band of 0");
  refuses([](Setup &s) { s.options.operator_h.band = 4; }, "band of 4");
  refuses([](Setup &s) { s.start_h[2] = -1; }, "row 2 starts at -1");
  refuses([](Setup &s) { s.start_w[7] = 5; }, "row 7 starts at 5");
  refuses([=](Setup &s) { s.weights_w[3] = nan; }, "row 3 has the weight");
  refuses([](Setup &s) { s.options.score_rule = 0; }, "score rule 0");
  refuses([](Setup &s) { s.options.score_rule = 6; }, "score rule 6");
  for (const std::uint32_t rule : {EDGEAD_SCORE_TOP_K_SUM, EDGEAD_SCORE_TOP_K_MEAN}) {
    refuses([=](Setup &s) { s.options.score_rule = rule; s.options.top_k = 0; }, "top_k is 0");
    refuses([=](Setup &s) { s.options.score_rule = rule; s.options.top_k = kHeight * kWidth + 1; }, "480 pixels");
  }
  const Setup setup;
  edgead_postprocessor *out = nullptr;
  CHECK_EQ(edgead_postprocessor_create(nullptr, &out, nullptr, 0), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(setup.create(nullptr), EDGEAD_ERR_INVALID_ARGUMENT);
  edgead_postprocessor_destroy(nullptr);
  out_of_memory = true;
  CHECK_EQ(setup.create(&out), EDGEAD_ERR_OUT_OF_MEMORY);
  out_of_memory = false;
  CHECK(out == nullptr);
}

// A caller compiled with a later header passes a larger struct: its first part is understood, its rest is zeroed
// by init and never touched by a run.
void test_versions() {
  struct Later {
    edgead_postprocess_options options;
    std::uint64_t added;
  } later;
  std::memset(&later, 0xff, sizeof later);
  edgead_postprocess_options_init(&later.options, sizeof later);
  CHECK_EQ(later.options.struct_size, sizeof later);
  CHECK_EQ(later.options.channels, 1);
  CHECK(later.options.cpu_mask == ~std::uint64_t{0} && later.added == 0);
  const Setup setup;
  later.options = setup.options;
  later.options.struct_size = sizeof later;
  edgead_postprocessor *out = nullptr;
  CHECK_EQ(edgead_postprocessor_create(&later.options, &out, nullptr, 0), EDGEAD_OK);
  edgead_postprocessor_destroy(out);

  // An earlier caller's shorter struct: not a byte beyond it is written.
  edgead_post_params params;
  std::memset(&params, 0x11, sizeof params);
  edgead_post_params_init(&params, 0);
  CHECK_EQ(params.struct_size, 0x11111111);
  edgead_post_params_init(&params, sizeof params - sizeof params.min_area);
  CHECK_EQ(params.struct_size, sizeof params - sizeof params.min_area);
  CHECK(params.heatmap_high == 1.0f && params.min_area == 0x11111111);
  edgead_post_params_init(nullptr, sizeof params);
  edgead_post_params_init(&params, sizeof params);
  CHECK(params.heatmap_high == 1.0f && params.min_area == 1);
}

void test_run() {
  const Setup setup;
  edgead_postprocessor *kernel = nullptr;
  CHECK_EQ(setup.create(&kernel), EDGEAD_OK);
  std::vector<float> raw(30, 1.0f);
  raw[7] = 3.0f;  // grid row 1, column 2 of channel 0
  edgead_post_params params;
  edgead_post_params_init(&params, sizeof params);
  params.pixel_threshold = 2.0f;
  params.heatmap_low = 1.5f;
  params.heatmap_high = 3.5f;
  edgead_post_result result;
  edgead_post_result_init(&result, sizeof result);
  char message[256] = "";
  const auto run = [&](std::size_t count) {
    return edgead_postprocessor_run(kernel, raw.data(), count, &params, &result, message, sizeof message);
  };
  // No buffer at all: scores only.
  CHECK_EQ(run(30), EDGEAD_OK);
  CHECK(result.score_raw == 3.5f && result.map_max == 3.5f && result.regions_total == 0);

  std::vector<float> map(kHeight * kWidth);
  std::vector<std::uint8_t> mask(kHeight * kWidth), heatmap(kHeight * kWidth);
  edgead_region regions[2];
  result.map = map.data(), result.map_capacity = map.size();
  result.mask = mask.data(), result.mask_capacity = mask.size();
  result.heatmap = heatmap.data(), result.heatmap_capacity = heatmap.size();
  result.regions = regions, result.regions_capacity = 2;
  const std::size_t before = allocations;
  CHECK_EQ(run(30), EDGEAD_OK);
  CHECK_EQ(allocations - before, 0);
  CHECK_EQ(result.regions_count, 1);
  CHECK_EQ(result.regions_total, 1);
  CHECK(regions[0].x == 32 && regions[0].y == 2 && regions[0].width == 16 && regions[0].height == 2);
  CHECK(regions[0].area == 32 && regions[0].peak == 3.5f);
  CHECK(map[0] == 1.5f && mask[0] == 0 && heatmap[0] == 0);
  CHECK(map[2 * kWidth + 32] == 3.5f && mask[2 * kWidth + 32] == 255 && heatmap[2 * kWidth + 32] == 255);
  params.min_area = 33;
  CHECK_EQ(run(30), EDGEAD_OK);
  CHECK(result.regions_total == 0 && mask[2 * kWidth + 32] == 255);
  params.min_area = 1;

  // Refused runs say why and write nothing.
  result.score_raw = -1.0f;
  map[0] = -1.0f;
  CHECK_EQ(run(29), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(std::strstr(message, "29") != nullptr);
  result.map_capacity -= 1;
  CHECK_EQ(run(30), EDGEAD_ERR_BUFFER_TOO_SMALL);
  CHECK(std::strstr(message, "480 are needed") != nullptr);
  result.map_capacity += 1;
  result.mask_capacity = 0;
  CHECK_EQ(run(30), EDGEAD_ERR_BUFFER_TOO_SMALL);
  result.mask_capacity = mask.size();
  result.heatmap_capacity = 1;
  CHECK_EQ(run(30), EDGEAD_ERR_BUFFER_TOO_SMALL);
  result.heatmap_capacity = heatmap.size();
  params.pixel_threshold = std::nanf("");
  CHECK_EQ(run(30), EDGEAD_ERR_INVALID_ARGUMENT);
  params.pixel_threshold = 2.0f;
  params.heatmap_high = params.heatmap_low;
  CHECK_EQ(run(30), EDGEAD_ERR_INVALID_ARGUMENT);
  params.heatmap_high = INFINITY;
  CHECK_EQ(run(30), EDGEAD_ERR_INVALID_ARGUMENT);
  params.heatmap_high = 3.5f;
  params.struct_size = 4;
  CHECK_EQ(run(30), EDGEAD_ERR_INVALID_ARGUMENT);
  params.struct_size = sizeof params;
  result.struct_size = 0;
  CHECK_EQ(run(30), EDGEAD_ERR_INVALID_ARGUMENT);
  result.struct_size = sizeof result;
  CHECK_EQ(edgead_postprocessor_run(nullptr, raw.data(), 30, &params, &result, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_postprocessor_run(kernel, nullptr, 30, &params, &result, nullptr, 0), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_postprocessor_run(kernel, raw.data(), 30, nullptr, &result, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_postprocessor_run(kernel, raw.data(), 30, &params, nullptr, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(result.score_raw == -1.0f && map[0] == -1.0f);
  char tiny[4] = {'x', 'x', 'x', 'x'};
  CHECK_EQ(edgead_postprocessor_run(kernel, raw.data(), 1, &params, &result, tiny, 3), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(tiny[2] == '\0' && tiny[3] == 'x');

  // A NaN anywhere is seen in the score, whatever the rule; pictures stay defined.
  raw[29] = std::nanf("");
  CHECK_EQ(run(30), EDGEAD_OK);
  CHECK(std::isnan(result.score_raw) && std::isnan(result.map_max));
  CHECK(mask.back() == 0 && heatmap.back() == 0 && result.regions_total == 1);
  edgead_postprocessor_destroy(kernel);
}

void test_no_allocation_in_top_k() {
  Setup setup;
  setup.options.score_rule = EDGEAD_SCORE_TOP_K_MEAN;
  setup.options.top_k = 10;
  edgead_postprocessor *kernel = nullptr;
  CHECK_EQ(setup.create(&kernel), EDGEAD_OK);
  const std::vector<float> raw(30, 2.0f);
  edgead_post_params params;
  edgead_post_params_init(&params, sizeof params);
  edgead_post_result result;
  edgead_post_result_init(&result, sizeof result);
  const std::size_t before = allocations;
  CHECK_EQ(edgead_postprocessor_run(kernel, raw.data(), 30, &params, &result, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(allocations - before, 0);
  CHECK(result.score_raw == 3.0f);
  edgead_postprocessor_destroy(kernel);
}

}  // namespace

int main() {
  test_create();
  test_versions();
  test_run();
  test_no_allocation_in_top_k();
  return check_failures();
}
