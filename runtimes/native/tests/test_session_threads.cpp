// Several sessions on one model: the same results as one thread, also while bundles are reloaded, thresholds are set
// and the model is kept warm. Run under ThreadSanitizer too (make test-sanitize).

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "session_fixture.hpp"

namespace {

constexpr int THREADS = 4;

// Frames per thread: 10,000, or EDGEAD_TEST_FRAMES where a slow checker watches.
int frames() {
  const char *given = std::getenv("EDGEAD_TEST_FRAMES");
  return given != nullptr ? std::atoi(given) : 10'000;
}

struct Outcome {
  float score;
  double normalised;
  std::uint32_t regions;
  edgead_region first;
  std::vector<float> map;
  std::vector<std::uint8_t> heatmap;

  explicit Outcome(const TestResult &r)
      : score(r.result.score_raw), normalised(r.result.score), regions(r.result.regions_count), first(r.regions[0]),
        map(r.map), heatmap(r.heatmap) {}
  bool operator==(const Outcome &o) const {
    return score == o.score && normalised == o.normalised && regions == o.regions && map == o.map &&
           heatmap == o.heatmap && std::memcmp(&first, &o.first, sizeof first) == 0;
  }
};

void check_same_results(const std::filesystem::path &path) {
  const Opened opened(path);
  std::vector<TestFrame> kinds;
  for (const std::uint32_t width : {40U, 57U, 64U}) kinds.emplace_back(width, 48);
  std::vector<Outcome> expected;
  {
    const OpenedSession session(opened.model);
    TestResult out(16 * 24);
    for (const TestFrame &frame : kinds) {
      CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
      expected.emplace_back(out);
    }
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < THREADS; ++t)
    workers.emplace_back([&, t] {
      const OpenedSession session(opened.model);
      TestResult out(16 * 24);
      for (int i = 0; i < frames(); ++i) {
        const std::size_t kind = static_cast<std::size_t>(i + t) % kinds.size();
        edgead_image image = kinds[kind].image;
        image.part_id = static_cast<std::uint64_t>(i);
        if (out.run(session.session, image) != EDGEAD_OK || !(Outcome(out) == expected[kind]) ||
            out.result.part_id != image.part_id)
          ++wrong;
      }
    });
  for (std::thread &worker : workers) worker.join();
  CHECK_EQ(wrong.load(), 0);
}

// Reloads between two bundles while four sessions run: every frame is judged, and whole by one of the two.
void check_reload(const std::filesystem::path &first, const std::filesystem::path &second) {
  const Opened opened(first);
  CHECK_EQ(edgead_model_keep_warm(opened.model, 1'000'000, nullptr, 0), EDGEAD_OK);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<std::uint32_t> newest{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < THREADS; ++t)
    workers.emplace_back([&] {
      const OpenedSession session(opened.model);
      TestFrame frame(80, 60);
      TestResult out(16 * 24);
      std::uint32_t seen = 0;
      while (!stop.load()) {
        const edgead_status status = out.run(session.session, frame.image);
        const std::uint32_t generation = out.result.generation;
        // Odd generations are the first bundle, whose highest cell is 95; the second's is 195.
        const float score = generation % 2 == 1 ? 95.0F : 195.0F;
        if (status != EDGEAD_OK || out.result.score_raw != score || generation < seen) ++wrong;
        seen = generation;
        if (newest.load() < generation) newest = generation;
      }
    });
  char message[256] = "";
  constexpr std::uint32_t RELOADS = 20;
  for (std::uint32_t i = 0; i < RELOADS; ++i) {
    const auto &path = i % 2 == 0 ? second : first;
    if (edgead_model_reload(opened.model, path.c_str(), message, sizeof message) != EDGEAD_OK) {
      std::fprintf(stderr, "%s\n", message);
      ++wrong;
    }
    edgead_thresholds limits;
    edgead_thresholds_init(&limits, sizeof limits);
    CHECK_EQ(edgead_model_get_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
    limits.image += 1;
    CHECK_EQ(edgead_model_set_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
  }
  for (int i = 0; i < 1000 && newest.load() < RELOADS + 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  stop = true;
  for (std::thread &worker : workers) worker.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(newest.load(), RELOADS + 1);
}

void check_reload_refusals(const std::filesystem::path &folder) {
  const Opened opened(folder / "a.edgead");
  maker::Spec larger;
  larger.map_h = 32;
  maker::make(folder / "larger.edgead", larger);
  char message[512] = "";
  CHECK_EQ(edgead_model_reload(opened.model, (folder / "larger.edgead").c_str(), message, sizeof message),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(has(message, "24x32") && has(message, "24x16"));
  maker::Spec far;
  far.roi = maker::Json::array({500, 0, 64, 64});
  maker::make(folder / "far.edgead", far);
  const OpenedSession session(opened.model);
  TestFrame frame(80, 60);
  CHECK_EQ(edgead_session_prepare(session.session, &frame.image, EDGEAD_RESOLUTION_FRAME, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(edgead_model_reload(opened.model, (folder / "far.edgead").c_str(), message, sizeof message),
           EDGEAD_ERR_INVALID_IMAGE);
  CHECK(has(message, "does not take the frames of a session"));
  maker::Spec off;
  off.golden_shift = 1;
  maker::make(folder / "off.edgead", off);
  CHECK_EQ(edgead_model_reload(opened.model, (folder / "off.edgead").c_str(), message, sizeof message),
           EDGEAD_ERR_SELF_TEST);
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  CHECK_EQ(out.result.generation, 1);
}

// A session outlives its model's handle.
void check_closed_model(const std::filesystem::path &path) {
  edgead_model *model = nullptr;
  CHECK_EQ(edgead_model_open(path.c_str(), nullptr, &model, nullptr, 0), EDGEAD_OK);
  const OpenedSession session(model);
  edgead_model_close(model);
  TestFrame frame(80, 60);
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
}

// Milliseconds of this process's CPU time during a pause.
double cpu_ms_of_a_pause() {
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  return 1e3 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
}

// Idle, the model works now and then; told to stop, it rests. A map of 1024 x 1024 makes that work visible.
void check_keep_warm(const std::filesystem::path &folder) {
  maker::Spec large;
  large.map_h = large.map_w = 1024;
  maker::make(folder / "warm.edgead", large);
  const Opened opened(folder / "warm.edgead");
  const double idle = cpu_ms_of_a_pause();
  CHECK_EQ(edgead_model_keep_warm(opened.model, 5'000'000, nullptr, 0), EDGEAD_OK);
  const double warm = cpu_ms_of_a_pause();
  CHECK_EQ(edgead_model_keep_warm(opened.model, 10'000'000'000, nullptr, 0), EDGEAD_OK);  // seldom, in its place
  const double seldom = cpu_ms_of_a_pause();
  CHECK_EQ(edgead_model_keep_warm(opened.model, 0, nullptr, 0), EDGEAD_OK);
  std::printf("CPU time in 400 ms: idle %.1f ms, kept warm %.1f ms, seldom %.1f ms\n", idle, warm, seldom);
  CHECK(warm > 4 * (idle + 1) && warm > 4 * (seldom + 1));
}

}  // namespace

int main() {
  const maker::Folder folder("edgead-threads");
  const auto first = folder.path() / "a.edgead", second = folder.path() / "b.edgead";
  maker::make(first);
  maker::Spec other;
  other.grid = maker::ramp(other);
  for (float &value : other.grid) value += 100.0F;
  maker::make(second, other);
  check_same_results(first);
  check_reload(first, second);
  check_reload_refusals(folder.path());
  check_closed_model(first);
  check_keep_warm(folder.path());
  return check_failures();
}
