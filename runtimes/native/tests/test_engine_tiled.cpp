// Tiles of an image, one run each, and their maps as one: against sums in double, on maps that differ by tile.

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "engine_support.hpp"
#include "engines/tiled.hpp"

namespace {

using namespace edgead;

constexpr float NAN_F = std::numeric_limits<float>::quiet_NaN();

// Notes the tiles that it is given, and answers each with the next of its maps and scores.
struct Script {
  TensorShapes shapes;
  std::vector<std::vector<float>> maps;
  std::vector<float> scores;
  std::vector<std::vector<std::uint8_t>> seen;
  std::size_t fails_at = SIZE_MAX;
};

class ScriptRequest final : public Request {
 public:
  explicit ScriptRequest(Script &script) : script_(script), input_(script.shapes.input_bytes()) {}
  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    const std::size_t at = (script_.seen.size() - 1) % script_.maps.size();
    if (index == 1) return script_.shapes.has_score ? &script_.scores[at] : nullptr;
    return script_.maps[at].data();
  }
  edgead_status infer(const ErrorSink &error) noexcept override {
    if (script_.seen.size() == script_.fails_at) return error.fail(EDGEAD_ERR_ENGINE, "out of order");
    script_.seen.push_back(input_);
    return EDGEAD_OK;
  }

 private:
  Script &script_;
  std::vector<std::uint8_t> input_;
};

class ScriptEngine final : public Engine {
 public:
  explicit ScriptEngine(Script &script) : script_(script) {}
  std::unique_ptr<Request> create_request() override { return std::make_unique<ScriptRequest>(script_); }
  std::string version() const override { return "7"; }
  std::string library() const override { return "lib"; }

 private:
  Script &script_;
};

TensorShapes whole(const TensorShapes &tile, const Tiling &tiling) {
  TensorShapes shapes = tile;
  shapes.height = tiling.rows.size();
  shapes.width = tiling.columns.size();
  shapes.grid_height = tiling.rows.grid();
  shapes.grid_width = tiling.columns.grid();
  return shapes;
}

Script script_of(const Tiling &tiling, std::uint32_t channels, bool scored, std::uint32_t seed) {
  Script script{{1, tiling.rows.tile, tiling.columns.tile, channels, tiling.rows.cells, tiling.columns.cells, scored},
                {}, {}, {}};
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-3.0f, 9.0f);
  for (std::uint32_t t = 0; t < tiling.rows.count * tiling.columns.count; ++t) {
    std::vector<float> map(script.shapes.map_count());
    for (float &value : map) value = values(random);
    script.maps.push_back(map);
    script.scores.push_back(values(random));
  }
  return script;
}

// What tile `index` of an axis weighs at a cell, before the sum: distance from an inner edge over the shared cells.
double ramp(const TileAxis &axis, std::uint32_t index, std::uint32_t cell) {
  const double shared = axis.cells - axis.step_cells;
  double weight = 1;
  if (shared > 0 && index > 0) weight = std::min(weight, (cell + 0.5) / shared);
  if (shared > 0 && index + 1 < axis.count) weight = std::min(weight, (axis.cells - cell - 0.5) / shared);
  return weight;
}

void test_joins(const Tiling &tiling, std::uint32_t channels) {
  Script script = script_of(tiling, channels, true, 5 * channels);
  const TensorShapes shapes = whole(script.shapes, tiling);
  const auto engine = open_tiled(std::make_shared<ScriptEngine>(script), shapes, tiling);
  CHECK(engine->version() == "7" && engine->library() == "lib");
  const auto request = engine->create_request();
  std::mt19937 random(1);
  for (int run = 0; run < 2; ++run) {  // the second finds no trace of the first
    script.seen.clear();
    for (std::size_t i = 0; i < shapes.input_bytes(); ++i) request->input()[i] = static_cast<std::uint8_t>(random());
    CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_OK);
    CHECK_EQ(script.seen.size(), script.maps.size());

    const std::size_t cells = std::size_t{shapes.grid_height} * shapes.grid_width;
    std::vector<double> sum(shapes.map_count()), total(cells);
    float best = script.scores[0];
    for (std::uint32_t r = 0, t = 0; r < tiling.rows.count; ++r)
      for (std::uint32_t c = 0; c < tiling.columns.count; ++c, ++t) {
        best = std::max(best, script.scores[t]);
        for (std::uint32_t y = 0; y < tiling.rows.tile; ++y)
          CHECK(std::memcmp(script.seen[t].data() + std::size_t{y} * tiling.columns.tile * 3,
                            request->input() + ((r * tiling.rows.step + y) * std::size_t{shapes.width} +
                                                c * tiling.columns.step) * 3,
                            std::size_t{tiling.columns.tile} * 3) == 0);
        for (std::uint32_t i = 0; i < tiling.rows.cells; ++i)
          for (std::uint32_t j = 0; j < tiling.columns.cells; ++j) {
            const std::size_t at = (r * tiling.rows.step_cells + i) * std::size_t{shapes.grid_width} +
                                   c * tiling.columns.step_cells + j;
            const double weight = ramp(tiling.rows, r, i) * ramp(tiling.columns, c, j);
            total[at] += weight;
            for (std::size_t k = 0; k < channels; ++k)
              sum[k * cells + at] += weight * double{script.maps[t][(k * tiling.rows.cells + i) * tiling.columns.cells + j]};
          }
      }
    for (std::size_t i = 0; i < sum.size(); ++i)
      CHECK(std::abs(double{request->map()[i]} - sum[i] / total[i % cells]) < 1e-5);
    CHECK(*request->score() == best);
  }
}

void test_one_tile_is_the_engine_itself() {
  const Tiling tiling{{1, 8, 5, 0, 0}, {1, 12, 7, 0, 0}};
  Script script = script_of(tiling, 2, false, 3);
  const auto request = open_tiled(std::make_shared<ScriptEngine>(script), whole(script.shapes, tiling), tiling)
                           ->create_request();
  CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_OK);
  CHECK(std::memcmp(request->map(), script.maps[0].data(), script.maps[0].size() * sizeof(float)) == 0);
  CHECK(request->score() == nullptr);
}

void test_nan_and_failure() {
  const Tiling tiling{{2, 8, 4, 6, 3}, {3, 8, 4, 4, 2}};
  for (const std::size_t bad : {std::size_t{0}, std::size_t{2}, std::size_t{5}}) {
    Script script = script_of(tiling, 1, true, 9);
    script.scores[bad] = NAN_F;
    script.maps[bad].assign(script.maps[bad].size(), NAN_F);
    const auto request = open_tiled(std::make_shared<ScriptEngine>(script), whole(script.shapes, tiling), tiling)
                             ->create_request();
    CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_OK);
    CHECK(std::isnan(*request->score()));
    std::size_t count = 0;
    for (std::size_t i = 0; i < 7 * 8; ++i) count += std::isnan(request->map()[i]);
    CHECK_EQ(count, 16);  // all cells of that tile, shared ones too, and no others
    script.seen.clear();
    script.fails_at = bad;
    char message[64] = "";
    CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_ERR_ENGINE);
    CHECK(std::string(message) == "out of order");
  }
}

void test_weights_sum_up_to_one() {
  for (std::uint32_t count = 1; count <= 6; ++count)
    for (std::uint32_t cells = 1; cells <= 33; ++cells)
      for (std::uint32_t step = count > 1 ? 1 : 0; step <= (count > 1 ? cells : 0); ++step) {
        const TileAxis axis{count, 8 * cells, cells, 8 * step, step};
        const std::vector<float> weights = axis.weights();
        std::vector<double> total(axis.grid());
        for (std::uint32_t t = 0; t < count; ++t)
          for (std::uint32_t i = 0; i < cells; ++i) {
            CHECK(weights[t * cells + i] > 0 && weights[t * cells + i] <= 1);
            total[t * step + i] += double{weights[t * cells + i]};
          }
        for (const double sum : total) CHECK(std::abs(sum - 1) < 2e-7);
        CHECK(weights.front() == 1.0f && weights.back() == 1.0f);  // at the image's own edges
      }
}

}  // namespace

int main() {
  return run_checks([] {
    test_joins({{2, 8, 4, 6, 3}, {3, 8, 4, 4, 2}}, 1);
    test_joins({{3, 9, 9, 4, 4}, {2, 16, 4, 16, 4}}, 3);  // over half shared: three at once; nothing shared
    test_joins({{1, 8, 4, 0, 0}, {5, 8, 4, 2, 1}}, 2);    // a strip, four at once
    test_joins({{4, 10, 5, 8, 4}, {1, 7, 7, 0, 0}}, 2);
    test_one_tile_is_the_engine_itself();
    test_nan_and_failure();
    test_weights_sum_up_to_one();
  });
}
