// The C shell of sessions, and the rules of a frame: who may call, what makes a decision.

#include <cmath>

#include "error.hpp"
#include "model.hpp"

struct edgead_session {
  std::shared_ptr<edgead::Model> model;
  std::shared_ptr<edgead::JudgeSlot> slot;
  edgead_session_options options;
  std::atomic<bool> busy{false};
};

namespace {

using edgead::ErrorSink;
using edgead::Judge;

// Held for the time of a call: a session belongs to one thread at a time.
class Busy {
 public:
  explicit Busy(edgead_session &session) noexcept
      : session_(session), entered_(!session.busy.exchange(true, std::memory_order_acquire)) {}
  Busy(const Busy &) = delete;
  Busy &operator=(const Busy &) = delete;
  ~Busy() {
    if (entered_) session_.busy.store(false, std::memory_order_release);
  }
  bool entered() const noexcept { return entered_; }

 private:
  edgead_session &session_;
  bool entered_;
};

edgead_status in_use(const ErrorSink &sink) noexcept {
  return sink.fail(EDGEAD_ERR_INVALID_STATE, "the session is in use by another thread; create one session per thread");
}

// Plans for the frame's kind unless that is done; the only part of a run that may allocate.
edgead_status plan(edgead::JudgeSlot &slot, Judge &judge, const edgead_image &image, std::uint32_t resolution,
                   const ErrorSink &sink) noexcept {
  const edgead::FrameKind kind = edgead::kind_of(image);
  if (judge.planned(kind, resolution)) return EDGEAD_OK;
  return edgead::guard(sink, "planning for the frame", [&] { slot.plan(judge, kind, resolution); });
}

edgead_status run(edgead_session &session, const edgead_image &image, edgead_result &result,
                  const ErrorSink &sink) noexcept {
  Judge &judge = session.slot->current();  // once: a successor that arrives from here on waits for the next frame
  const edgead::Loaded &loaded = judge.loaded();
  result.generation = loaded.generation;
  if (loaded.self_test.load(std::memory_order_acquire) == EDGEAD_SELF_TEST_FAILED)
    return sink.fail(EDGEAD_ERR_SELF_TEST, "the model's self-test failed: nothing is judged until one passes");
  edgead_status status = judge.check_buffers(image, result, sink);
  if (status != EDGEAD_OK) return status;
  const edgead::ThresholdValues thresholds = loaded.thresholds->get();
  if (result.preprocessed != 0) {
    status = judge.run_preprocessed(image, thresholds, session.options.min_area, result, sink);
  } else {
    status = plan(*session.slot, judge, image, result.resolution, sink);
    if (status == EDGEAD_OK) status = judge.run(image, thresholds, session.options.min_area, result, sink);
  }
  if (status != EDGEAD_OK) return status;
  if (std::isfinite(result.score_raw))
    result.decision = static_cast<double>(result.score_raw) >= thresholds.image ? EDGEAD_DECISION_NG
                                                                                : EDGEAD_DECISION_OK;
  return EDGEAD_OK;
}

void check_deadline(const edgead_session_options &options, std::uint64_t call, std::uint64_t now,
                    edgead_result &result) noexcept {
  if (options.deadline_ns == 0) return;
  const std::uint64_t start =
      options.deadline_clock == EDGEAD_DEADLINE_FROM_TRIGGER ? result.trigger_timestamp_ns : call;
  result.deadline_missed = now > start && now - start > options.deadline_ns ? 1 : 0;
  if (result.deadline_missed != 0 && options.deadline_hard != 0) result.decision = EDGEAD_DECISION_ERROR;
}

}  // namespace

extern "C" {

void edgead_session_options_init(edgead_session_options *options, uint32_t struct_size) {
  edgead_session_options defaults{};
  defaults.min_area = 1;
  edgead::fill_defaults(options, struct_size, defaults);
}

void edgead_result_init(edgead_result *result, uint32_t struct_size) {
  edgead::fill_defaults(result, struct_size, edgead_result{});
}

edgead_status edgead_session_create(edgead_model *model, const edgead_session_options *options,
                                    edgead_session **out_session, char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || out_session == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is NULL", model == nullptr ? "model" : "out_session");
  edgead_session_options known;
  edgead_session_options_init(&known, sizeof known);
  if (options != nullptr &&
      !edgead::copy_sized(&known, sizeof known, options, options->struct_size, sizeof known))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u; call edgead_session_options_init",
                     options->struct_size);
  if (known.deadline_clock > EDGEAD_DEADLINE_FROM_TRIGGER)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "deadline_clock %u is unknown; use EDGEAD_DEADLINE_*",
                     known.deadline_clock);
  return edgead::guard(sink, "edgead_session_create", [&] {
    auto session = std::make_unique<edgead_session>();
    session->model = model->model;
    session->options = known;
    session->slot = model->model->add_session();
    *out_session = session.release();
  });
}

void edgead_session_destroy(edgead_session *session) {
  if (session == nullptr) return;
  session->model->remove_session(session->slot);
  delete session;
}

edgead_status edgead_session_prepare(edgead_session *session, const edgead_image *image, uint32_t resolution,
                                     char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (session == nullptr || image == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is NULL", session == nullptr ? "session" : "image");
  if (resolution > EDGEAD_RESOLUTION_FRAME)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "resolution %u is unknown; use EDGEAD_RESOLUTION_*", resolution);
  const Busy busy(*session);
  if (!busy.entered()) return in_use(sink);
  edgead_image known;
  const edgead::PixelFormat *format = nullptr;
  const edgead_status status = edgead::check_image(image, true, known, format, sink);
  return status != EDGEAD_OK ? status : plan(*session->slot, session->slot->current(), known, resolution, sink);
}

edgead_status edgead_session_warm_up(edgead_session *session, uint32_t runs, char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (session == nullptr) return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "session is NULL");
  const Busy busy(*session);
  if (!busy.entered()) return in_use(sink);
  return edgead::guard(sink, "edgead_session_warm_up", [&] { session->slot->current().warm_up(runs); });
}

edgead_status edgead_session_run(edgead_session *session, const edgead_image *image, edgead_result *result,
                                 char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  const std::uint64_t start = edgead::clock_ns();
  if (result == nullptr) return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "result is NULL");
  edgead_result found{};
  if (!edgead::copy_sized(&found, sizeof found, result, result->struct_size, sizeof found))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "result.struct_size is %u; call edgead_result_init",
                     result->struct_size);
  result->decision = EDGEAD_DECISION_ERROR;  // until the end says otherwise
  if (session == nullptr || image == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is NULL", session == nullptr ? "session" : "image");
  const Busy busy(*session);
  if (!busy.entered()) return in_use(sink);
  edgead_image known;
  const edgead::PixelFormat *format = nullptr;
  edgead_status status = edgead::check_image(image, false, known, format, sink);
  if (status != EDGEAD_OK) return status;
  session->model->touch(start);
  found.decision = EDGEAD_DECISION_ERROR;
  found.deadline_missed = 0;
  found.trigger_timestamp_ns = known.trigger_timestamp_ns;
  found.part_id = known.part_id;
  status = run(*session, known, found, sink);
  if (status != EDGEAD_OK) return status;
  const std::uint64_t end = edgead::clock_ns();
  found.total_ns = end - start;
  check_deadline(session->options, start, end, found);
  found.struct_size = result->struct_size;
  *result = found;
  return EDGEAD_OK;
}

}  // extern "C"
