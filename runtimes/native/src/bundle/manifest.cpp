// manifest.json -> Manifest. Everything that edgead/bundle/_checks.py refuses is refused, used here or not: a bundle
// is sound for every reader or for none.

#include "bundle/manifest.hpp"

#include <algorithm>
#include <cinttypes>
#include <set>

#include "bundle/json.hpp"
#include "bundle/manifest_fields.hpp"
#include "bundle/quote.hpp"
#include "bundle/tree.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::uint32_t SCHEMA = 1, MAX_SIDE = 65536, MAX_AREA = 1 << 28;

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
  // What the operator does: checked, not used.
  for (const JsonField &cells : field.at("pad").items(4)) static_cast<void>(cells.integer(0, MAX_SIDE));
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

GraphEntry read_graph(const JsonField &field, const Geometry &geometry, const PostRecipe &post) {
  GraphEntry g{};
  const char *where = field.path().c_str();
  g.file = field.at("file").text();
  for (const JsonField &file : field.at("data_files").items()) g.data_files.push_back(file.text());
  g.input_height = geometry.window ? (*geometry.window)[0] : geometry.height;
  g.input_width = geometry.window ? (*geometry.window)[1] : geometry.width;
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
    const std::vector<std::int64_t> map_shape{g.batch, post.channels, post.grid_height, post.grid_width};
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

void check_target_name(const TargetEntry &entry, const std::string &where) {
  const std::string &name = entry.target;
  if (entry.engine.empty() || entry.device.empty() || (entry.engine + entry.device).find(':') != std::string::npos ||
      name != entry.engine + ":" + entry.precision + (entry.device == "cpu" ? "" : ":" + entry.device))
    raise(EDGEAD_ERR_BUNDLE, "%s: %s:%s:%s in engine, precision and device are not the parts of %s", where.c_str(),
          printable(entry.engine).c_str(), entry.precision.c_str(), printable(entry.device).c_str(),
          in_quotes(name).c_str());
}

TargetEntry read_target(const JsonField &field, const std::string &source) {
  TargetEntry t{};
  t.target = field.at("target").text();
  const std::string where = source + ": target " + printable(t.target);
  t.engine = field.at("engine").text();
  t.precision = field.at("precision").one_of({"fp32", "bf16", "fp16", "int8"});
  t.device = field.at("device").text();
  check_target_name(t, where);
  t.main_file = field.at("main_file").text();
  for (const JsonField &file : field.at("files").items()) t.files.push_back(file.text());
  if (std::find(t.files.begin(), t.files.end(), t.main_file) == t.files.end())
    raise(EDGEAD_ERR_BUNDLE, "%s: main_file %s is not among its files", where.c_str(), in_quotes(t.main_file).c_str());
  static_cast<void>(field.at("config").members());
  const JsonField identity = field.at("identity");
  static_cast<void>(identity.at("machine").text());
  static_cast<void>(identity.at("device").text());
  for (const JsonField &feature : identity.at("features").items()) static_cast<void>(feature.text());
  t.engine_version = identity.at("engine_version").text();
  t.thresholds = read_thresholds(field.at("thresholds"), where);
  t.score_tolerance = field.at("score_tolerance").number();
  t.map_tolerance = field.at("map_tolerance").number();
  if (t.score_tolerance < 0 || t.map_tolerance < 0)
    raise(EDGEAD_ERR_BUNDLE, "%s: a self-test tolerance is negative", where.c_str());
  return t;
}

GoldenImage read_golden(const JsonField &field) {
  GoldenImage image{field.at("file").text(), field.at("kind").one_of({"good", "synthetic_defect"}), {}};
  for (const JsonField &item : field.at("expected").items())
    image.expected.push_back({item.at("target").text(), item.at("map_file").text(), item.at("score_raw").number()});
  return image;
}

void check_golden(const Manifest &m, const std::string &source) {
  std::vector<std::string> targets, images;
  for (const TargetEntry &entry : m.targets) targets.push_back(entry.target);
  std::sort(targets.begin(), targets.end());
  if (const auto twice = std::adjacent_find(targets.begin(), targets.end()); twice != targets.end())
    raise(EDGEAD_ERR_BUNDLE, "%s: target %s stands twice", source.c_str(), printable(*twice).c_str());
  for (const GoldenImage &image : m.golden) {
    std::vector<std::string> expected;
    for (const GoldenExpectation &expectation : image.expected) expected.push_back(expectation.target);
    std::sort(expected.begin(), expected.end());
    if (expected != targets)
      raise(EDGEAD_ERR_BUNDLE, "%s: golden image %s must have one expectation for each target", source.c_str(),
            in_quotes(image.file).c_str());
    images.push_back(image.file);
  }
  std::sort(images.begin(), images.end());
  if (const auto twice = std::adjacent_find(images.begin(), images.end()); twice != images.end())
    raise(EDGEAD_ERR_BUNDLE, "%s: golden image %s stands twice", source.c_str(), printable(*twice).c_str());
}

std::vector<std::string> read_files(const Manifest &m, const JsonField &reports, const std::string &source) {
  std::set<std::string> files{m.graph.file, m.operator_h.start_file, m.operator_h.weights_file,
                              m.operator_w.start_file, m.operator_w.weights_file};
  files.insert(m.graph.data_files.begin(), m.graph.data_files.end());
  for (const TargetEntry &entry : m.targets) files.insert(entry.files.begin(), entry.files.end());
  for (const GoldenImage &image : m.golden) {
    files.insert(image.file);
    for (const GoldenExpectation &expected : image.expected) files.insert(expected.map_file);
  }
  for (const JsonField &report : reports.items()) files.insert(report.text());
  for (const std::string &name : files) {
    if (const char *problem = name_problem(name))
      raise(EDGEAD_ERR_BUNDLE, "%s: the file name %s %s", source.c_str(), in_quotes(name).c_str(), problem);
    if (name == MANIFEST_NAME || name == HASH_LIST_NAME)
      raise(EDGEAD_ERR_BUNDLE, "%s: the file name '%s' is reserved", source.c_str(), name.c_str());
  }
  return {files.begin(), files.end()};
}

}  // namespace

Manifest parse_manifest(const std::string &text, const std::string &source) {
  const JsonValue tree = parse_json(text, source, MAX_MANIFEST_BYTES);
  check_schema(tree, SCHEMA, source);
  const JsonField root(tree, source);
  Manifest m{};
  m.schema = SCHEMA;
  m.created_by = root.at("created_by").text();
  const JsonField detector = root.at("detector");
  m.detector = detector.at("name").text();
  static_cast<void>(detector.at("preset").text());
  static_cast<void>(detector.at("config").members());
  m.geometry = read_geometry(root.at("geometry"));
  m.post = read_post(root.at("post"));
  const JsonField matrices = root.at("operator");
  m.operator_h = read_matrix(matrices.at("h"), m.post.output_height, m.post.grid_height);
  m.operator_w = read_matrix(matrices.at("w"), m.post.output_width, m.post.grid_width);
  m.graph = read_graph(root.at("graph"), m.geometry, m.post);
  for (const JsonField &target : root.at("targets").items()) m.targets.push_back(read_target(target, source));
  if (m.targets.empty()) raise(EDGEAD_ERR_BUNDLE, "%s: there is no target", source.c_str());
  static_cast<void>(read_thresholds(root.at("reference"), source + ": reference"));
  for (const JsonField &image : root.at("golden").items()) m.golden.push_back(read_golden(image));
  if (m.golden.empty())
    raise(EDGEAD_ERR_BUNDLE, "%s: there is no golden image, the self-test would prove nothing", source.c_str());
  check_golden(m, source);
  m.files = read_files(m, root.at("reports"), source);
  check_provenance(root.at("provenance"), source);
  return m;
}

}  // namespace edgead
