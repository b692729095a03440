// manifest.json -> Manifest. Everything that edgead/bundle/_checks.py refuses is refused, used here or not: a bundle
// is sound for every reader or for none.

#include "bundle/manifest.hpp"

#include <algorithm>
#include <set>

#include "bundle/json.hpp"
#include "bundle/manifest_fields.hpp"
#include "bundle/manifest_head.hpp"
#include "bundle/manifest_network.hpp"
#include "bundle/quote.hpp"
#include "bundle/tree.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::uint32_t SCHEMA = 2;  // from which on there are tiles

void check_target_name(const TargetEntry &entry, const std::string &where) {
  const std::string &name = entry.target;
  if (entry.engine.empty() || entry.device.empty() || (entry.engine + entry.device).find(':') != std::string::npos ||
      name != entry.engine + ":" + entry.precision + (entry.device == "cpu" ? "" : ":" + entry.device))
    raise(EDGEAD_ERR_BUNDLE, "%s: %s:%s:%s in engine, precision and device are not the parts of %s", where.c_str(),
          printable(entry.engine).c_str(), entry.precision.c_str(), printable(entry.device).c_str(),
          in_quotes(name).c_str());
}

TargetEntry read_target(const JsonField &field, const Manifest &m, const std::string &source) {
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
  if (field.has("rest")) t.rest = field.at("rest").one_of({"fp32", "bf16"});
  if (t.rest != "fp32" && t.precision != "int8")
    raise(EDGEAD_ERR_BUNDLE, "%s: rest is %s, which only int8 has", where.c_str(), t.rest.c_str());
  t.verified = !field.has("verified") || field.at("verified").flag();
  if (has_head(t.engine, WINDOW_SEARCH_SUFFIX)) t.head = read_window_search(field.at("head"), t, m, where);
  if (has_head(t.engine, BANK_SEARCH_SUFFIX)) t.bank = read_bank_search(field.at("head"), t, m, where);
  return t;
}

void check_verified(const std::vector<TargetEntry> &targets, const std::string &source) {
  if (!targets.front().verified)
    raise(EDGEAD_ERR_BUNDLE, "%s: target %s is the first and not verified; a bundle begins with one that is",
          source.c_str(), printable(targets.front().target).c_str());
  for (std::size_t i = 1; i < targets.size(); ++i)
    if (targets[i].verified && !targets[i - 1].verified)
      raise(EDGEAD_ERR_BUNDLE, "%s: target %s is not verified and stands before %s, which is", source.c_str(),
            printable(targets[i - 1].target).c_str(), printable(targets[i].target).c_str());
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
  m.schema = root.at("schema").integer(1, SCHEMA);
  m.created_by = root.at("created_by").text();
  const JsonField detector = root.at("detector");
  m.detector = detector.at("name").text();
  static_cast<void>(detector.at("preset").text());
  static_cast<void>(detector.at("config").members());
  m.geometry = read_geometry(root.at("geometry"));
  if (m.geometry.tiles && m.schema < SCHEMA)
    raise(EDGEAD_ERR_BUNDLE, "%s: geometry.tiles needs schema %u, not %u", source.c_str(), SCHEMA, m.schema);
  m.post = read_post(root.at("post"));
  const JsonField matrices = root.at("operator");
  m.operator_h = read_matrix(matrices.at("h"), m.post.output_height, m.post.grid_height);
  m.operator_w = read_matrix(matrices.at("w"), m.post.output_width, m.post.grid_width);
  m.tiling = read_tiling(root.at("graph"), m.geometry, m.post);
  m.graph = read_graph(root.at("graph"), m);
  for (const JsonField &target : root.at("targets").items()) m.targets.push_back(read_target(target, m, source));
  if (m.targets.empty()) raise(EDGEAD_ERR_BUNDLE, "%s: there is no target", source.c_str());
  check_verified(m.targets, source);
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
