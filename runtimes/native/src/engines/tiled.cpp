#include "engines/tiled.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "buffer.hpp"

namespace edgead {
namespace {

// What requests share.
struct Tiled {
  std::shared_ptr<Engine> engine;
  TensorShapes shapes;
  Tiling tiling;
  std::vector<float> down, across;  // (tiles, cells) of the rows and of the columns
};

class TiledRequest final : public Request {
 public:
  explicit TiledRequest(std::shared_ptr<const Tiled> tiled)
      : tiled_(std::move(tiled)), inner_(tiled_->engine->create_request()) {
    if (!input_.allocate(tiled_->shapes.input_bytes()) || !map_.allocate(tiled_->shapes.map_count()))
      throw std::bad_alloc();
  }

  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    if (index == 1 && tiled_->shapes.has_score) return &score_;
    return index == 0 ? map_.data() : nullptr;
  }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const TileAxis &rows = tiled_->tiling.rows, &columns = tiled_->tiling.columns;
    std::memset(map_.data(), 0, tiled_->shapes.map_count() * sizeof(float));
    for (std::uint32_t row = 0; row < rows.count; ++row)
      for (std::uint32_t column = 0; column < columns.count; ++column) {
        cut(row * rows.step, column * columns.step);
        const edgead_status status = inner_->infer(error);
        if (status != EDGEAD_OK) return status;
        join(row, column);
        if (tiled_->shapes.has_score) raise_score(row + column == 0);
      }
    return EDGEAD_OK;
  }

 private:
  void cut(std::size_t y, std::size_t x) noexcept {
    const std::size_t height = tiled_->tiling.rows.tile, row = std::size_t{3} * tiled_->tiling.columns.tile;
    const std::size_t stride = std::size_t{3} * tiled_->shapes.width;
    for (std::size_t i = 0; i < height; ++i)
      std::memcpy(inner_->input() + i * row, input_.data() + (y + i) * stride + 3 * x, row);
  }

  void join(std::size_t row, std::size_t column) noexcept {
    const TileAxis &rows = tiled_->tiling.rows, &columns = tiled_->tiling.columns;
    const float *down = tiled_->down.data() + row * rows.cells;
    const float *across = tiled_->across.data() + column * columns.cells;
    const float *from = inner_->map();
    const std::size_t height = tiled_->shapes.grid_height, width = tiled_->shapes.grid_width;
    for (std::size_t k = 0; k < tiled_->shapes.channels; ++k)
      for (std::size_t i = 0; i < rows.cells; ++i, from += columns.cells) {
        float *to = map_.data() + (k * height + row * rows.step_cells + i) * width + column * columns.step_cells;
        for (std::size_t j = 0; j < columns.cells; ++j) to[j] += (down[i] * across[j]) * from[j];
      }
  }

  void raise_score(bool first) noexcept {
    const float score = *inner_->score();
    if (first || std::isnan(score) || score > score_) score_ = score;  // a NaN is not above: it stays
  }

  std::shared_ptr<const Tiled> tiled_;
  std::unique_ptr<Request> inner_;
  Buffer<std::uint8_t> input_;
  Buffer<float> map_;
  float score_ = 0.0f;
};

class TiledEngine final : public Engine {
 public:
  explicit TiledEngine(std::shared_ptr<const Tiled> tiled) : tiled_(std::move(tiled)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<TiledRequest>(tiled_); }
  std::string version() const override { return tiled_->engine->version(); }
  std::string library() const override { return tiled_->engine->library(); }

 private:
  std::shared_ptr<const Tiled> tiled_;
};

}  // namespace

std::shared_ptr<Engine> open_tiled(std::shared_ptr<Engine> engine, const TensorShapes &shapes, const Tiling &tiling) {
  return std::make_shared<TiledEngine>(std::make_shared<const Tiled>(
      Tiled{std::move(engine), shapes, tiling, tiling.rows.weights(), tiling.columns.weights()}));
}

}  // namespace edgead
