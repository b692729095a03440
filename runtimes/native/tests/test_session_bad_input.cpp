// What a caller can get wrong, each with its status, its message, and a decision that never reads as OK.

#include <atomic>
#include <thread>

#include "session_fixture.hpp"

namespace {

const maker::Folder *folder = nullptr;

std::filesystem::path bundle() { return folder->path() / "b.edgead"; }

void check_nulls(edgead_model *model, edgead_session *session) {
  edgead_model *none = nullptr;
  edgead_session *no_session = nullptr;
  TestFrame frame(64, 64);
  TestResult out(16 * 24);
  edgead_thresholds limits;
  edgead_thresholds_init(&limits, sizeof limits);
  edgead_model_info info;
  edgead_model_info_init(&info, sizeof info);
  edgead_self_test_result test;
  edgead_self_test_result_init(&test, sizeof test);
  const edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  CHECK_EQ(edgead_model_open(nullptr, nullptr, &none, nullptr, 0), bad);
  CHECK_EQ(edgead_model_open(bundle().c_str(), nullptr, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_model_get_thresholds(nullptr, &limits, nullptr, 0), bad);
  CHECK_EQ(edgead_model_get_thresholds(model, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_model_set_thresholds(nullptr, &limits, nullptr, 0), bad);
  CHECK_EQ(edgead_model_set_thresholds(model, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_model_inspect(nullptr, &info, nullptr, 0), bad);
  CHECK_EQ(edgead_model_inspect(model, nullptr, nullptr, 0), bad);
  CHECK(edgead_model_target(nullptr, 0) == nullptr);
  CHECK_EQ(edgead_model_self_test(nullptr, &test, nullptr, 0), bad);
  CHECK_EQ(edgead_model_self_test(model, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_model_keep_warm(nullptr, 0, nullptr, 0), bad);
  CHECK_EQ(edgead_model_keep_warm(model, 5, nullptr, 0), bad);
  CHECK_EQ(edgead_model_reload(nullptr, bundle().c_str(), nullptr, 0), bad);
  CHECK_EQ(edgead_model_reload(model, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_session_create(nullptr, nullptr, &no_session, nullptr, 0), bad);
  CHECK_EQ(edgead_session_create(model, nullptr, nullptr, nullptr, 0), bad);
  CHECK_EQ(edgead_session_prepare(nullptr, &frame.image, 0, nullptr, 0), bad);
  CHECK_EQ(edgead_session_prepare(session, nullptr, 0, nullptr, 0), bad);
  CHECK_EQ(edgead_session_prepare(session, &frame.image, 9, nullptr, 0), bad);
  CHECK_EQ(edgead_session_warm_up(nullptr, 1, nullptr, 0), bad);
  CHECK_EQ(edgead_session_run(session, &frame.image, nullptr, nullptr, 0), bad);
  out.result.decision = EDGEAD_DECISION_OK;
  CHECK_EQ(edgead_session_run(nullptr, &frame.image, &out.result, nullptr, 0), bad);
  CHECK_EQ(out.result.decision, EDGEAD_DECISION_ERROR);
  out.result.decision = EDGEAD_DECISION_OK;
  CHECK_EQ(edgead_session_run(session, nullptr, &out.result, nullptr, 0), bad);
  CHECK_EQ(out.result.decision, EDGEAD_DECISION_ERROR);
  edgead_model_close(nullptr);
  edgead_session_destroy(nullptr);
  edgead_result_init(nullptr, 8);
  edgead_model_options_init(nullptr, 8);
}

// Each change must be refused with `status` and a message that holds `part`.
template <typename Change>
void refuse(edgead_session *session, edgead_status status, const char *part, Change &&change) {
  TestFrame frame(64, 64);
  TestResult out(64 * 64);
  change(frame, out);
  out.result.decision = EDGEAD_DECISION_OK;
  CHECK_EQ(out.run(session, frame.image), status);
  CHECK(has(out.message, part));
  CHECK_EQ(out.result.decision, EDGEAD_DECISION_ERROR);
}

void check_images(edgead_session *session) {
  using F = TestFrame;
  using R = TestResult;
  const edgead_status image = EDGEAD_ERR_INVALID_IMAGE;
  refuse(session, EDGEAD_ERR_INVALID_ARGUMENT, "data is NULL", [](F &f, R &) { f.image.data = nullptr; });
  refuse(session, image, "stride is 191 bytes", [](F &f, R &) { f.image.row_stride_bytes = 191; });
  refuse(session, image, "stride", [](F &f, R &) { f.image.row_stride_bytes = SIZE_MAX / 2; });
  refuse(session, image, "0x64", [](F &f, R &) { f.image.width = 0; });
  refuse(session, image, "64x4294967295", [](F &f, R &) { f.image.height = UINT32_MAX; });
  refuse(session, image, "pixel format 0", [](F &f, R &) { f.image.pixel_format = 0; });
  refuse(session, image, "pixel format 13", [](F &f, R &) { f.image.pixel_format = 13; });
  const auto roi = [&](std::uint32_t x, std::uint32_t y, std::uint32_t w, std::uint32_t h, const char *part) {
    refuse(session, image, part, [=](F &f, R &) {
      f.image.roi_x = x;
      f.image.roi_y = y;
      f.image.roi_width = w;
      f.image.roi_height = h;
    });
  };
  roi(0, 0, 65, 64, "leaves the frame of 64x64");
  roi(UINT32_MAX, 0, 2, 64, "leaves the frame");         // -1, and x + width overflows
  roi(1, 0, UINT32_MAX, 64, "leaves the frame");
  roi(64, 64, 1, 1, "leaves the frame");                 // outside
  roi(3, 3, 0, 0, "has no size");
  roi(3, 3, 5, 0, "is empty");
  refuse(session, EDGEAD_ERR_BUFFER_TOO_SMALL, "map holds 383 elements, 384 are needed",
         [](F &, R &r) { r.result.map_capacity = 383; });
  refuse(session, EDGEAD_ERR_BUFFER_TOO_SMALL, "mask holds 0 elements", [](F &, R &r) { r.result.mask_capacity = 0; });
  refuse(session, EDGEAD_ERR_BUFFER_TOO_SMALL, "heatmap holds 4095 elements, 4096 are needed", [](F &, R &r) {
    r.result.resolution = EDGEAD_RESOLUTION_FRAME;
    r.result.heatmap_capacity = 4095;
  });
  refuse(session, EDGEAD_ERR_INVALID_ARGUMENT, "resolution 2", [](F &, R &r) { r.result.resolution = 2; });
  refuse(session, EDGEAD_ERR_INVALID_ARGUMENT, "image.struct_size", [](F &f, R &) { f.image.struct_size = 8; });
}

// An older caller's structs end earlier, a newer one's go on: both work.
void check_versions(edgead_session *session) {
  TestFrame frame(64, 64);
  TestResult out(16 * 24);
  frame.image.struct_size = offsetof(edgead_image, trigger_timestamp_ns);  // as edgead 0.1's first header had it
  frame.image.part_id = 5;                                                 // beyond its end: not looked at
  CHECK_EQ(out.run(session, frame.image), EDGEAD_OK);
  CHECK_EQ(out.result.part_id, 0);
  struct {
    edgead_image image;
    std::uint64_t later[4];
  } newer{frame.image, {1, 2, 3, 4}};
  newer.image.struct_size = sizeof newer;
  struct {
    edgead_result result;
    std::uint64_t later[4];
  } result{out.result, {7, 7, 7, 7}};
  result.result.struct_size = sizeof result;
  CHECK_EQ(edgead_session_run(session, &newer.image, &result.result, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(result.result.part_id, 5);
  CHECK_EQ(result.result.struct_size, sizeof result);
  CHECK_EQ(result.later[0], 7);
  out.result.struct_size = 12;
  CHECK_EQ(out.run(session, frame.image), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(has(out.message, "edgead_result_init"));
  edgead_model_options options;
  edgead_model_options_init(&options, sizeof options);
  options.struct_size = 4;
  const Opened opened(bundle(), &options);
  CHECK_EQ(opened.status, EDGEAD_ERR_INVALID_ARGUMENT);
  char message[256] = "";
  CHECK_EQ(edgead_abi_check(EDGEAD_ABI_VERSION, message, sizeof message), EDGEAD_OK);
  CHECK_EQ(edgead_abi_check(EDGEAD_ABI_VERSION + 1, message, sizeof message), EDGEAD_ERR_UNSUPPORTED);
  CHECK(has(message, "ABI 2") && has(message, "ABI 1"));
}

void check_open() {
  const Opened missing(folder->path() / "nothing.edgead");
  CHECK_EQ(missing.status, EDGEAD_ERR_NOT_FOUND);
  CHECK(has(missing.message, "nothing.edgead"));
  edgead_model_options options;
  edgead_model_options_init(&options, sizeof options);
  options.target = "openvino:int8";
  const Opened other(bundle(), &options);
  CHECK_EQ(other.status, EDGEAD_ERR_NOT_FOUND);
  CHECK(has(other.message, "null:fp32"));
  options.target = nullptr;
  options.streams = 0;
  CHECK_EQ(Opened(bundle(), &options).status, EDGEAD_ERR_INVALID_ARGUMENT);

  maker::Spec off;
  off.golden_shift = 0.5;
  maker::make(folder->path() / "off.edgead", off);
  const Opened refused(folder->path() / "off.edgead");
  CHECK_EQ(refused.status, EDGEAD_ERR_SELF_TEST);
  CHECK(has(refused.message, "null:fp32 does not give on this machine") && has(refused.message, "0.5"));
  options.streams = 1;
  options.skip_self_test = 1;
  const Opened unchecked(folder->path() / "off.edgead", &options);
  CHECK_EQ(unchecked.status, EDGEAD_OK);
  const OpenedSession session(unchecked.model);
  TestFrame frame(64, 64);
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  edgead_self_test_result test;
  edgead_self_test_result_init(&test, sizeof test);
  CHECK_EQ(edgead_model_self_test(unchecked.model, &test, nullptr, 0), EDGEAD_OK);
  CHECK_EQ(test.passed, 0);
  CHECK(test.score_shift_max == 0.5 && test.map_shift_max < 1e-5 && test.images == 1);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_ERR_SELF_TEST);  // from then on nothing is OK
  CHECK_EQ(out.result.decision, EDGEAD_DECISION_ERROR);

  options.without_engine = 1;
  const Opened shown(bundle(), &options);
  CHECK_EQ(shown.status, EDGEAD_OK);
  edgead_session *none = nullptr;
  char message[256] = "";
  CHECK_EQ(edgead_session_create(shown.model, nullptr, &none, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(has(message, "without_engine"));
}

// What its bundle does not call verified proves itself at open, or judges nothing.
void check_unverified() {
  maker::Spec spec;
  spec.unverified = true;
  maker::make(folder->path() / "unverified.edgead", spec);
  edgead_model_options options;
  edgead_model_options_init(&options, sizeof options);
  options.target = "null:fp16";
  std::string said;
  options.log = [](void *user, std::int32_t, const char *message) { *static_cast<std::string *>(user) += message; };
  options.log_user_data = &said;
  const Opened proven(folder->path() / "unverified.edgead", &options);
  CHECK_EQ(proven.status, EDGEAD_OK);
  CHECK(has(said, "null:fp16 was not verified where it was compiled"));
  options.skip_self_test = 1;
  const Opened skipped(folder->path() / "unverified.edgead", &options);
  CHECK_EQ(skipped.status, EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(has(skipped.message, "null:fp16 was not verified where it was compiled, so its self-test cannot be skipped"));
  options.target = "null:fp32";
  said.clear();
  CHECK_EQ(Opened(folder->path() / "unverified.edgead", &options).status, EDGEAD_OK);
  CHECK(said.find("not verified") == std::string::npos);

  spec.unverified_shift = 0.25;
  maker::make(folder->path() / "unlike.edgead", spec);
  options.target = "null:fp16";
  options.skip_self_test = 0;
  const Opened unlike(folder->path() / "unlike.edgead", &options);
  CHECK_EQ(unlike.status, EDGEAD_ERR_SELF_TEST);
  CHECK(has(unlike.message, "off by up to 0.25 (0.001 is allowed)") &&
        has(unlike.message, "edgead verify BUNDLE DATA --target null:fp16"));
  const Opened first(folder->path() / "unlike.edgead");
  CHECK_EQ(first.status, EDGEAD_OK);
  CHECK(std::string(edgead_model_target(first.model, 1)) == "null:fp16");
}

void check_removed_while_open() {
  maker::make(folder->path() / "gone.edgead");
  const Opened opened(folder->path() / "gone.edgead");
  CHECK_EQ(opened.status, EDGEAD_OK);
  std::filesystem::remove_all(folder->path() / "gone.edgead");
  const OpenedSession session(opened.model);  // made after the removal
  TestFrame frame(100, 90);
  TestResult out(16 * 24);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);
  CHECK(out.result.score_raw == 95.0F);
  char message[256] = "";
  CHECK_EQ(edgead_model_reload(opened.model, (folder->path() / "gone.edgead").c_str(), message, sizeof message),
           EDGEAD_ERR_NOT_FOUND);
  CHECK_EQ(out.run(session.session, frame.image), EDGEAD_OK);  // the old one stays
  CHECK_EQ(out.result.generation, 1);
}

void check_roi_of_bundle() {
  maker::Spec spec;
  spec.roi = maker::Json::array({50, 10, 40, 40});
  maker::make(folder->path() / "roi.edgead", spec);
  const Opened opened(folder->path() / "roi.edgead");
  const OpenedSession session(opened.model);
  refuse(session.session, EDGEAD_ERR_INVALID_IMAGE, "the bundle's ROI 40x40 at (50, 10) leaves the frame or ROI of "
         "64x64", [](TestFrame &, TestResult &) {});
}

// Two threads on one session: at least one of them is told.
void check_two_threads(edgead_model *model) {
  const OpenedSession session(model);
  TestFrame large(3000, 3000);
  std::atomic<bool> stop{false};
  std::atomic<int> told{0}, judged{0};
  const auto work = [&] {
    TestResult out(16 * 24);
    while (!stop.load()) {
      const edgead_status status = out.run(session.session, large.image);
      if (status == EDGEAD_ERR_INVALID_STATE) {
        ++told;
        CHECK_EQ(out.result.decision, EDGEAD_DECISION_ERROR);
      } else {
        CHECK_EQ(status, EDGEAD_OK);
        ++judged;
      }
    }
  };
  std::thread a(work), b(work);
  for (int i = 0; i < 2000 && (told == 0 || judged == 0); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  stop = true;
  a.join();
  b.join();
  CHECK(told > 0 && judged > 0);
}

}  // namespace

int main() {
  const maker::Folder made("edgead-bad");
  folder = &made;
  maker::make(bundle());
  {
    const Opened opened(bundle());
    if (opened.model == nullptr) std::fprintf(stderr, "%s\n", opened.message.c_str());
    CHECK_EQ(opened.status, EDGEAD_OK);
    const OpenedSession session(opened.model);
    check_nulls(opened.model, session.session);
    check_images(session.session);
    check_versions(session.session);
    check_two_threads(opened.model);
  }
  check_open();
  check_unverified();
  check_removed_while_open();
  check_roi_of_bundle();
  return check_failures();
}
