#include "bundle/manifest_network.hpp"

#include <cinttypes>

#include "bundle/manifest_fields.hpp"
#include "bundle/quote.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::uint32_t MAX_SIDE = 65536, MAX_AREA = 1 << 28, MAX_TILES = 256;

// Two sides of at least one pixel, MAX_AREA pixels at most.
std::array<std::uint32_t, 2> read_sides(const JsonField &first, const JsonField &second) {
  const std::uint32_t a = first.integer(1, MAX_SIDE), b = second.integer(1, MAX_SIDE);
  if (std::uint64_t{a} * b > MAX_AREA)
    raise(EDGEAD_ERR_BUNDLE, "%s: %ux%u is out of range (%u pixels in all)", first.path().c_str(), a, b, MAX_AREA);
  return {a, b};
}

std::array<std::uint32_t, 2> read_pair(const JsonField &field) {
  const std::vector<JsonField> items = field.items(2);
  return read_sides(items[0], items[1]);
}

// Pixels from one tile to the next.
std::uint32_t tile_step(const std::string &where, const char *name, std::uint32_t size, std::uint32_t count,
                        std::uint32_t tile) {
  const std::uint32_t gaps = count - 1, step = gaps > 0 && size > tile ? (size - tile) / gaps : 0;
  if (tile + std::uint64_t{gaps} * step != size || step > tile || (gaps > 0 && step == 0))
    raise(EDGEAD_ERR_BUNDLE, "%s: %u tiles of %u do not fill the %s of %u evenly", where.c_str(), count, tile, name,
          size);
  return step;
}

TileAxis tile_axis(const std::string &where, std::uint32_t size, std::uint32_t count, std::uint32_t tile,
                   std::int64_t cells, std::uint32_t pad) {
  if (cells < 1 || cells > MAX_SIDE)
    raise(EDGEAD_ERR_BUNDLE, "%s: a map of %" PRId64 " cells is out of range (1 to %u)", where.c_str(), cells, MAX_SIDE);
  TileAxis axis{count, tile, static_cast<std::uint32_t>(cells), tile_step(where, "image", size, count, tile), 0};
  const std::uint64_t moved = std::uint64_t{axis.step} * (axis.cells + std::uint64_t{pad});
  if (moved % tile != 0 || moved / tile > axis.cells)
    raise(EDGEAD_ERR_BUNDLE, "%s: tiles of %u pixels and %u + %u cells, each %u pixels on, do not join to one map",
          where.c_str(), tile, axis.cells, pad, axis.step);
  axis.step_cells = static_cast<std::uint32_t>(moved / tile);
  return axis;
}

struct Tensor {
  std::string name;
  bool is_float;
  std::vector<std::int64_t> shape;
};

Tensor read_tensor(const JsonField &field) {
  Tensor tensor{field.at("name").text(), field.at("dtype").one_of({"uint8", "float32"}) == "float32", {}};
  for (const JsonField &side : field.at("shape").items()) tensor.shape.push_back(side.integer());
  return tensor;
}

}  // namespace

Geometry read_geometry(const JsonField &field) {
  Geometry g{};
  const auto sides = read_sides(field.at("height"), field.at("width"));
  g.height = sides[0];
  g.width = sides[1];
  g.resampler = field.at("resampler").one_of({"pillow_bilinear", "opencv_linear"}) == "opencv_linear"
                    ? EDGEAD_RESAMPLER_OPENCV_LINEAR
                    : EDGEAD_RESAMPLER_PILLOW_BILINEAR;
  g.shorter_side = field.at("mode").one_of({"exact", "shorter_side"}) == "shorter_side";
  const char *where = field.path().c_str();
  if (const JsonField window = field.at("window"); !window.is_null()) {
    g.window = read_pair(window);
    if ((*g.window)[0] > g.height || (*g.window)[1] > g.width)
      raise(EDGEAD_ERR_BUNDLE, "%s: window (%u, %u) is larger than the resize %ux%u", where, (*g.window)[0],
            (*g.window)[1], g.height, g.width);
  }
  if (g.shorter_side && !g.window)
    raise(EDGEAD_ERR_BUNDLE, "%s: shorter_side needs a window, the network's input size is fixed", where);
  if (g.shorter_side && g.width != g.height)
    raise(EDGEAD_ERR_BUNDLE, "%s.width %u differs from height %u, mode is shorter_side", where, g.width, g.height);
  if (const JsonField roi = field.at("roi"); !roi.is_null()) {
    const std::vector<JsonField> items = roi.items(4);
    const auto size = read_sides(items[2], items[3]);
    g.roi = Roi{items[0].integer(0, MAX_SIDE), items[1].integer(0, MAX_SIDE), size[0], size[1]};
  }
  if (const auto tiles = field.find("tiles")) {
    if (g.shorter_side || g.window)
      raise(EDGEAD_ERR_BUNDLE, "%s: tiles fill the image; that is mode exact, without a window", where);
    const auto of_tile = read_sides(tiles->at("height"), tiles->at("width"));
    g.tiles = Tiles{tiles->at("rows").integer(1, MAX_TILES), tiles->at("columns").integer(1, MAX_TILES), of_tile[0],
                    of_tile[1]};
    static_cast<void>(tile_step(tiles->path(), "height", g.height, g.tiles->rows, g.tiles->height));
    static_cast<void>(tile_step(tiles->path(), "width", g.width, g.tiles->columns, g.tiles->width));
  }
  return g;
}

PostRecipe read_post(const JsonField &field) {
  PostRecipe p{};
  const auto grid = read_pair(field.at("grid")), output = read_pair(field.at("output"));
  p.grid_height = grid[0];
  p.grid_width = grid[1];
  p.output_height = output[0];
  p.output_width = output[1];
  p.channels = field.at("channels").integer(1, MAX_SIDE);
  for (const JsonField &weight : field.at("alpha").items()) p.alpha.push_back(read_float(weight));
  if (p.alpha.size() != p.channels)
    raise(EDGEAD_ERR_BUNDLE, "%s.alpha has %zu weights for %u channels", field.path().c_str(), p.alpha.size(),
          p.channels);
  p.gamma = read_float(field.at("gamma"));
  p.gamma_stage =
      field.at("gamma_stage").one_of({"before", "after"}) == "after" ? EDGEAD_GAMMA_AFTER : EDGEAD_GAMMA_BEFORE;
  // What the operator does: checked; of it, only the padding is used, and for tiles.
  const std::vector<JsonField> pad = field.at("pad").items(4);
  p.pad_height = pad[0].integer(0, MAX_SIDE) + pad[1].integer(0, MAX_SIDE);
  p.pad_width = pad[2].integer(0, MAX_SIDE) + pad[3].integer(0, MAX_SIDE);
  static_cast<void>(field.at("upsample").one_of({"none", "nearest", "bilinear"}));
  static_cast<void>(field.at("border").one_of({"reflect", "mirror", "nearest"}));
  const double sigma = field.at("blur_sigma").number(), truncate = field.at("blur_truncate").number();
  if (!(sigma >= 0 && sigma <= MAX_SIDE && truncate > 0 && truncate <= MAX_SIDE))
    raise(EDGEAD_ERR_BUNDLE, "%s.blur_sigma %g or blur_truncate %g is out of range", field.path().c_str(), sigma,
          truncate);
  const std::string &rule = field.at("score_rule").one_of({"max_grid", "max", "top_k_sum", "top_k_mean", "graph"});
  p.score_rule = rule == "max_grid"     ? EDGEAD_SCORE_MAX_GRID
                 : rule == "max"        ? EDGEAD_SCORE_MAX
                 : rule == "top_k_sum"  ? EDGEAD_SCORE_TOP_K_SUM
                 : rule == "top_k_mean" ? EDGEAD_SCORE_TOP_K_MEAN
                                        : EDGEAD_SCORE_GRAPH;
  const bool uses_k = p.score_rule == EDGEAD_SCORE_TOP_K_SUM || p.score_rule == EDGEAD_SCORE_TOP_K_MEAN;
  const std::int64_t k = field.at("top_k").integer(), most = uses_k ? std::int64_t{output[0]} * output[1] : 0;
  if (k < (uses_k ? 1 : 0) || k > most)
    raise(EDGEAD_ERR_BUNDLE, "%s.top_k %" PRId64 " does not fit score_rule '%s'", field.path().c_str(), k,
          rule.c_str());
  p.top_k = static_cast<std::uint32_t>(k);
  return p;
}

OperatorMatrix read_matrix(const JsonField &field, std::uint32_t rows, std::uint32_t cols) {
  const std::int64_t has_rows = field.at("rows").integer(), has_cols = field.at("cols").integer();
  if (has_rows != rows || has_cols != cols)
    raise(EDGEAD_ERR_BUNDLE, "%s is %" PRId64 "x%" PRId64 ", post.output and post.grid ask for %ux%u",
          field.path().c_str(), has_rows, has_cols, rows, cols);
  const std::int64_t band = field.at("band").integer();
  if (band < 1 || band > cols)
    raise(EDGEAD_ERR_BUNDLE, "%s.band %" PRId64 " is not within 1 .. %u", field.path().c_str(), band, cols);
  return {rows, cols, static_cast<std::uint32_t>(band), field.at("start_file").text(), field.at("weights_file").text()};
}

std::optional<Tiling> read_tiling(const JsonField &graph, const Geometry &geometry, const PostRecipe &post) {
  if (!geometry.tiles) return std::nullopt;
  const Tiles &tiles = *geometry.tiles;
  for (const JsonField &output : graph.at("outputs").items()) {
    const Tensor tensor = read_tensor(output);
    if (tensor.name != "anomaly_map") continue;
    const std::string &where = output.path();
    if (tensor.shape.size() != 4 || tensor.shape[0] != 1)
      raise(EDGEAD_ERR_BUNDLE, "%s.shape must be (1, K, h, w) with tiles", where.c_str());
    const Tiling tiling{
        tile_axis(where, geometry.height, tiles.rows, tiles.height, tensor.shape[2], post.pad_height),
        tile_axis(where, geometry.width, tiles.columns, tiles.width, tensor.shape[3], post.pad_width)};
    if (tiling.rows.grid() != post.grid_height || tiling.columns.grid() != post.grid_width)
      raise(EDGEAD_ERR_BUNDLE, "%s: the maps of the tiles join to %ux%u, post.grid is %ux%u", where.c_str(),
            tiling.rows.grid(), tiling.columns.grid(), post.grid_height, post.grid_width);
    return tiling;
  }
  raise(EDGEAD_ERR_BUNDLE, "%s: outputs must be float32 anomaly_map, and image_score for score_rule 'graph'",
        graph.path().c_str());
}

GraphEntry read_graph(const JsonField &field, const Manifest &m) {
  const PostRecipe &post = m.post;
  GraphEntry g{};
  const char *where = field.path().c_str();
  g.file = field.at("file").text();
  for (const JsonField &file : field.at("data_files").items()) g.data_files.push_back(file.text());
  const auto image = m.image_size();
  g.input_height = m.tiling ? m.tiling->rows.tile : image[0];
  g.input_width = m.tiling ? m.tiling->columns.tile : image[1];
  const Tensor input = read_tensor(field.at("input"));
  if (input.name != "image" || input.is_float || input.shape.size() != 4 || input.shape[1] != g.input_height ||
      input.shape[2] != g.input_width || input.shape[3] != 3)
    raise(EDGEAD_ERR_BUNDLE, "%s.input must be 'image' uint8 (N, %u, %u, 3), of the geometry's size", where,
          g.input_height, g.input_width);
  if (input.shape[0] < 1 || input.shape[0] > MAX_SIDE)
    raise(EDGEAD_ERR_BUNDLE, "%s.input has a batch of %" PRId64, where, input.shape[0]);
  g.batch = static_cast<std::uint32_t>(input.shape[0]);
  bool has_map = false;
  for (const JsonField &output : field.at("outputs").items()) {
    const Tensor tensor = read_tensor(output);
    const bool is_map = tensor.name == "anomaly_map", is_score = tensor.name == "image_score";
    const auto grid = m.graph_grid();
    const std::vector<std::int64_t> map_shape{g.batch, post.channels, grid[0], grid[1]};
    if (!tensor.is_float || !(is_map || is_score) || (is_map ? has_map : g.has_score) ||
        tensor.shape != (is_map ? map_shape : std::vector<std::int64_t>{g.batch}))
      raise(EDGEAD_ERR_BUNDLE, "%s: %s is no output that post asks for, or of another dtype or shape",
            output.path().c_str(), in_quotes(tensor.name).c_str());
    (is_map ? has_map : g.has_score) = true;
  }
  if (!has_map || (post.score_rule == EDGEAD_SCORE_GRAPH && !g.has_score))
    raise(EDGEAD_ERR_BUNDLE, "%s: outputs must be float32 anomaly_map, and image_score for score_rule 'graph'", where);
  static_cast<void>(field.at("opset").integer(1, MAX_SIDE));
  return g;
}

}  // namespace edgead
