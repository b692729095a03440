// edgead.hpp: objects move, close once, throw edgead::Error and nothing else. Linked to the shared library, as a user's
// program is: the library's own namespace has the same name.
#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

#include "bundle_maker.hpp"
#include "check.hpp"
#include "edgead/edgead.hpp"

namespace {

template <typename T>
constexpr bool moves_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                            !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(moves_only<edgead::Model> && moves_only<edgead::Session> && moves_only<edgead::Result>);
static_assert(std::is_base_of_v<std::runtime_error, edgead::Error>);

// The status that `call` throws; EDGEAD_OK where it does not.
template <typename Call>
edgead_status thrown(Call call) {
  try {
    call();
  } catch (const edgead::Error &error) {
    CHECK(std::string(error.what()).size() > 10);  // a sentence
    return error.status();
  }
  return EDGEAD_OK;
}

struct Frame {
  std::vector<std::uint8_t> pixels = std::vector<std::uint8_t>(std::size_t{60} * 80, 100);
  edgead_image view() const { return edgead::image(pixels.data(), 80, 60, 80, EDGEAD_PIXEL_MONO8); }
};

void check_open_and_close(const std::string &path) {
  CHECK_EQ(thrown([] { edgead::Model("/nowhere/part.edgead"); }), EDGEAD_ERR_NOT_FOUND);
  edgead::Model model(path);
  CHECK(model.is_open());
  edgead::Model other(std::move(model));
  CHECK(!model.is_open() && other.is_open());  // NOLINT: what a moved-from object is, is the question
  edgead::Session session(other);
  edgead::Session taken = std::move(session);
  taken = std::move(taken);
  model.close();
  other.close();
  other.close();
  CHECK(!other.is_open());
  CHECK_EQ(thrown([&] { other.inspect(); }), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(thrown([&] { edgead::Session none(other); }), EDGEAD_ERR_INVALID_ARGUMENT);
  session.close();
  taken.warm_up(1);  // it outlives its model
  taken.close();
  taken.close();
  CHECK_EQ(thrown([&] { taken.warm_up(1); }), EDGEAD_ERR_INVALID_ARGUMENT);
}

void check_questions(const std::string &path) {
  edgead::Model model(path);
  const edgead_model_info info = model.inspect();
  CHECK_EQ(info.map_width, 24);
  CHECK_EQ(info.map_height, 16);
  CHECK_EQ(info.self_test, EDGEAD_SELF_TEST_PASSED);
  CHECK_EQ(model.targets().size(), info.targets_count);
  CHECK(model.targets().front() == info.target);
  CHECK_EQ(model.self_test().passed, 1);
  edgead_thresholds limits = model.thresholds();
  CHECK_EQ(limits.image, 50);
  limits.image = 70;
  model.set_thresholds(limits);
  CHECK_EQ(model.thresholds().image, 70);
  limits.image = std::nan("");
  CHECK_EQ(thrown([&] { model.set_thresholds(limits); }), EDGEAD_ERR_INVALID_ARGUMENT);
  model.keep_warm(std::chrono::milliseconds(5));
  model.keep_warm(std::chrono::seconds(-1));
  CHECK(thrown([&] { model.reload("/nowhere/part.edgead"); }) != EDGEAD_OK);
  CHECK_EQ(model.inspect().generation, 1);
  model.reload(path);
  CHECK_EQ(model.inspect().generation, 2);
}

void check_run(const std::string &path) {
  const edgead::Model model(path);
  edgead::Session session(model);
  edgead::Outputs everything;
  everything.map = true;
  edgead::Result result(model, everything);
  CHECK(result.decision() == edgead::Decision::error);
  const Frame frame;
  edgead_image view = frame.view();
  view.part_id = 77;
  session.prepare(edgead::image(nullptr, 80, 60, 80, EDGEAD_PIXEL_MONO8));
  const edgead::Decision decision = session.run(view, result);
  CHECK(decision != edgead::Decision::error && decision == result.decision());
  CHECK_EQ(result.part_id(), 77);
  CHECK(result.map() != nullptr && result.mask() != nullptr && result.heatmap() != nullptr);
  CHECK_EQ(result.width() * result.height(), 16 * 24);
  float highest = result.map()[0];
  for (std::uint32_t i = 0; i < result.width() * result.height(); ++i)
    highest = result.map()[i] > highest ? result.map()[i] : highest;
  CHECK(highest == result.raw().map_max);
  CHECK_EQ(result.regions().size(), result.raw().regions_count);
  for (const edgead_region &region : result.regions()) CHECK(region.area > 0);

  const float *buffer = result.map();
  edgead::Result moved = std::move(result);
  CHECK(moved.map() == buffer && result.map() == nullptr);  // NOLINT
  CHECK(session.run(view, moved) == decision);
  CHECK_EQ(session.try_run(view, result), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(result.decision() == edgead::Decision::error);
  CHECK(std::string(result.message()).size() > 10);

  view.row_stride_bytes = 79;  // shorter than a row; nothing of the frame before shows through
  CHECK_EQ(thrown([&] { session.run(view, moved); }), EDGEAD_ERR_INVALID_IMAGE);
  CHECK(moved.decision() == edgead::Decision::error && moved.regions().empty());

  edgead::Outputs few;
  few.mask = false;
  few.heatmap = false;
  few.regions = 0;
  edgead::Result bare(model, few);
  CHECK(session.run(frame.view(), bare) == decision);
  CHECK(bare.map() == nullptr && bare.mask() == nullptr && bare.heatmap() == nullptr && bare.regions().empty());

  edgead::Result large(80, 60, everything);
  CHECK(session.run(frame.view(), large) == decision);
  CHECK_EQ(large.width(), 80);
  CHECK_EQ(large.height(), 60);
  edgead::Result small(40, 30);
  CHECK_EQ(session.try_run(frame.view(), small), EDGEAD_ERR_BUFFER_TOO_SMALL);
  CHECK_EQ(small.width(), 40);
}

}  // namespace

int main() {
  const maker::Folder folder("edgead-wrapper");
  const auto path = folder.path() / "a.edgead";
  maker::make(path);
  check_open_and_close(path.string());
  check_questions(path.string());
  check_run(path.string());
  return check_failures();
}
