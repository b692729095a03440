// Frame in, result out: scores, maps, regions, decisions, by arithmetic on a map that the test chose.

#include <algorithm>
#include <cmath>
#include <limits>

#include "session_fixture.hpp"

namespace {

// One hot cell of 100 in a grid of zeros.
maker::Spec hot_cell() {
  maker::Spec spec;
  spec.grid.assign(std::size_t{spec.grid_h} * spec.grid_w, 0.0F);
  spec.grid[3 * spec.grid_w + 5] = 100.0F;
  return spec;
}

void check_values() {
  const maker::Folder folder("edgead-run");
  const maker::Spec spec = hot_cell();
  maker::make(folder.path() / "b.edgead", spec);
  const Opened opened(folder.path() / "b.edgead");
  if (opened.model == nullptr) std::fprintf(stderr, "%s\n", opened.message.c_str());
  CHECK_EQ(opened.status, EDGEAD_OK);
  edgead_model_info info;
  edgead_model_info_init(&info, sizeof info);
  CHECK_EQ(edgead_model_inspect(opened.model, &info, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(info.input_width, 48);
  CHECK_EQ(info.input_height, 32);
  CHECK_EQ(info.map_width, 24);
  CHECK_EQ(info.map_height, 16);
  CHECK_EQ(info.targets_count, 1);
  CHECK_EQ(info.self_test, EDGEAD_SELF_TEST_PASSED);
  CHECK_EQ(info.generation, 1);
  CHECK_EQ(info.has_roi, 0);
  CHECK(std::string(info.target) == "null:fp32" && std::string(info.detector) == "test");
  CHECK(std::string(info.digest).size() == 71 && has(info.file_hashes, "  manifest.json\n"));
  CHECK(has(info.manifest_json, "bundle_maker"));
  CHECK(std::string(edgead_model_target(opened.model, 0)) == "null:fp32");
  CHECK(edgead_model_target(opened.model, 1) == nullptr);

  const OpenedSession session(opened.model);
  TestFrame frame(480, 320);
  frame.image.part_id = 77;
  frame.image.trigger_timestamp_ns = 123456789;
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  const edgead_result &r = out.result;
  CHECK(r.score_raw == 100.0F && r.decision == EDGEAD_DECISION_NG);
  CHECK(std::abs(r.score - (0.5 + 0.5 * (100.0 - 50.0) / (50.0 - 10.0))) < 1e-12);
  CHECK_EQ(r.part_id, 77);
  CHECK_EQ(r.trigger_timestamp_ns, 123456789);
  CHECK_EQ(r.generation, 1);
  CHECK_EQ(r.deadline_missed, 0);
  CHECK(r.preprocess_ns > 0 && r.total_ns >= r.preprocess_ns + r.engine_ns + r.post_ns);

  // Twofold linear upsampling puts 9/16 of the cell on its four map pixels: 56.25; and 3/4 * 1/4 beside them.
  const std::vector<double> expected = maker::expected_map(spec);
  double most = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    most = std::max(most, std::abs(expected[i] - double{out.map[i]}));
    CHECK_EQ(out.mask[i], expected[i] >= 60.0 ? 255 : 0);
    // heatmap: 10 is 0, 60 in the middle, 110 is 255
    const double heat = std::clamp((expected[i] - 10.0) / 100.0 * 255.0, 0.0, 255.0);
    CHECK(std::abs(static_cast<double>(out.heatmap[i]) - heat) <= 0.51);
  }
  CHECK(most < 1e-5);
  CHECK(std::abs(double{r.map_max} - 56.25) < 1e-5);
  CHECK_EQ(r.regions_total, 0);

  edgead_thresholds limits;
  edgead_thresholds_init(&limits, sizeof limits);
  CHECK_EQ(edgead_model_get_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
  CHECK(limits.image == 50 && limits.pixel == 60 && limits.image_median == 10);
  limits.pixel = 56;
  limits.image = 100.5;
  CHECK_EQ(edgead_model_set_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  CHECK_EQ(r.decision, EDGEAD_DECISION_OK);
  // The four map pixels, columns 10 and 11, rows 6 and 7: of 20 x 20 frame pixels each.
  CHECK_EQ(r.regions_count, 1);
  CHECK_EQ(out.regions[0].x, 200);
  CHECK_EQ(out.regions[0].y, 120);
  CHECK_EQ(out.regions[0].width, 40);
  CHECK_EQ(out.regions[0].height, 40);
  CHECK_EQ(out.regions[0].area, 1600);
  CHECK(std::abs(double{out.regions[0].peak} - 56.25) < 1e-5);
  limits.image = limits.image_median;
  char message[256] = "";
  CHECK_EQ(edgead_model_set_thresholds(opened.model, &limits, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(has(message, "median"));
  limits.image = std::numeric_limits<double>::quiet_NaN();
  CHECK_EQ(edgead_model_set_thresholds(opened.model, &limits, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);

  // The network's own pixels: regions stay in map pixels.
  TestFrame input(48, 32);
  input.image.pixel_format = EDGEAD_PIXEL_RGB8;
  out.result.preprocessed = 1;
  CHECK_EQ(out.run(session.session, input.image), EDGEAD_OK);
  CHECK_EQ(out.regions[0].x, 10);
  CHECK_EQ(out.regions[0].area, 4);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_ERR_INVALID_IMAGE);
  CHECK_EQ(r.decision, EDGEAD_DECISION_ERROR);
  CHECK(has(out.message, "48x32"));
}

// Frame resolution against linear interpolation written down plainly, with an ROI in an ROI and a centre window.
void check_frame_resolution(bool with_window) {
  const maker::Folder folder("edgead-frame");
  maker::Spec spec;
  spec.roi = maker::Json::array({10, 4, 120, 80});
  if (with_window) {
    spec.resize_h = 40;
    spec.resize_w = 60;
    spec.window = maker::Json::array({32, 48});
  }
  maker::make(folder.path() / "b.edgead", spec);
  const Opened opened(folder.path() / "b.edgead");
  CHECK_EQ(opened.status, EDGEAD_OK);
  const OpenedSession session(opened.model);
  TestFrame frame(160, 100);
  frame.image.roi_x = 6;
  frame.image.roi_y = 2;
  frame.image.roi_width = 150;
  frame.image.roi_height = 96;
  TestResult out(160 * 100);
  out.result.resolution = EDGEAD_RESOLUTION_FRAME;
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  const std::vector<double> map = maker::expected_map(spec);
  const double rows = with_window ? 40 : 32, cols = with_window ? 60 : 48;
  const double top = with_window ? 4 : 0, left = with_window ? 6 : 0;
  double most = 0;
  int outside = 0, wrong = 0;
  for (int y = 0; y < 100; ++y) {
    for (int x = 0; x < 160; ++x) {
      const double py = (y - 6 + 0.5) * rows / 80 - top, px = (x - 16 + 0.5) * cols / 120 - left;
      const std::size_t i = static_cast<std::size_t>(y * 160 + x);
      if (py < 0 || py >= 32 || px < 0 || px >= 48 || y < 6 || x < 16) {
        ++outside;
        wrong += !(std::isnan(out.map[i]) && out.mask[i] == 0 && out.heatmap[i] == 0);
        continue;
      }
      const double my = std::clamp(py * 16 / 32 - 0.5, 0.0, 15.0), mx = std::clamp(px * 24 / 48 - 0.5, 0.0, 23.0);
      const int y0 = static_cast<int>(my), x0 = static_cast<int>(mx);
      const int y1 = std::min(y0 + 1, 15), x1 = std::min(x0 + 1, 23);
      const double fy = my - y0, fx = mx - x0;
      const auto at = [&](int yy, int xx) { return map[static_cast<std::size_t>(yy * 24 + xx)]; };
      const double value = (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x1)) +
                           fy * ((1 - fx) * at(y1, x0) + fx * at(y1, x1));
      most = std::max(most, std::abs(value - double{out.map[i]}));
      wrong += std::abs(value - 60.0) > 1e-3 && out.mask[i] != (value >= 60.0 ? 255 : 0);
    }
  }
  CHECK(most < 2e-4);
  CHECK_EQ(wrong, 0);
  CHECK(outside > 100);
  CHECK(out.result.regions_count > 0);
}

// A score that is no number, a missed deadline: never OK.
void check_errors_are_no_ok() {
  const maker::Folder folder("edgead-error");
  maker::Spec spec = hot_cell();
  maker::make(folder.path() / "good.edgead", spec);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    spec.grid[0] = bad;
    spec.golden_shift = 0;
    maker::make(folder.path() / "nan.edgead", spec);
    const Opened refused(folder.path() / "nan.edgead");  // its golden values are no numbers either
    CHECK(refused.status == EDGEAD_ERR_BUNDLE || refused.status == EDGEAD_ERR_SELF_TEST);
  }
  edgead_session_options options;
  edgead_session_options_init(&options, sizeof options);
  options.deadline_ns = 1'000'000'000'000;  // 1000 s
  options.deadline_clock = EDGEAD_DEADLINE_FROM_TRIGGER;
  const Opened opened(folder.path() / "good.edgead");
  TestFrame frame(64, 64);
  TestResult out(16 * 24);
  edgead_thresholds limits;
  edgead_thresholds_init(&limits, sizeof limits);
  CHECK_EQ(edgead_model_get_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
  limits.image = 200;
  CHECK_EQ(edgead_model_set_thresholds(opened.model, &limits, nullptr, 0), EDGEAD_OK);
  for (const std::uint32_t hard : {0U, 1U}) {
    options.deadline_hard = hard;
    const OpenedSession session(opened.model, &options);
    frame.image.trigger_timestamp_ns = edgead_clock_ns();
    CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
    CHECK_EQ(out.result.deadline_missed, 0);
    CHECK_EQ(out.result.decision, EDGEAD_DECISION_OK);
    frame.image.trigger_timestamp_ns += 1'000'000'000'000;  // ahead of the clock: not late
    CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
    CHECK_EQ(out.result.deadline_missed, 0);
  }
  options.deadline_ns = 1;
  options.deadline_clock = EDGEAD_DEADLINE_FROM_CALL;
  for (const std::uint32_t hard : {0U, 1U}) {
    options.deadline_hard = hard;
    const OpenedSession session(opened.model, &options);
    CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
    CHECK_EQ(out.result.deadline_missed, 1);
    CHECK_EQ(out.result.decision, hard != 0 ? EDGEAD_DECISION_ERROR : EDGEAD_DECISION_OK);
    CHECK(out.result.score_raw == 100.0F);
  }
}

void check_score_rules() {
  const maker::Folder folder("edgead-rule");
  maker::Spec spec = hot_cell();
  spec.score_rule = "graph";
  spec.score = 42.5;
  maker::make(folder.path() / "graph.edgead", spec);
  const Opened graph(folder.path() / "graph.edgead");
  if (graph.model == nullptr) std::fprintf(stderr, "%s\n", graph.message.c_str());
  const OpenedSession session(graph.model);
  TestFrame frame(50, 70);
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  CHECK(out.result.score_raw == 42.5F && out.result.decision == EDGEAD_DECISION_OK);
  spec.score_rule = "max";
  spec.score = nullptr;
  maker::make(folder.path() / "max.edgead", spec);
  const Opened most(folder.path() / "max.edgead");
  const OpenedSession other(most.model);
  CHECK_EQ(out.run(other.session, frame.image), EDGEAD_OK);
  CHECK(std::abs(double{out.result.score_raw} - 56.25) < 1e-5);
}

}  // namespace

int main() {
  check_values();
  check_frame_resolution(false);
  check_frame_resolution(true);
  check_errors_are_no_ok();
  check_score_rules();
  return check_failures();
}
