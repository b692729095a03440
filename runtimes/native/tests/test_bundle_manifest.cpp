// What manifest.json may say: every refusal of FORMAT.md and of edgead/bundle/_checks.py.

#include <cmath>

#include <nlohmann/json.hpp>

#include "bundle/bundle.hpp"
#include "bundle/manifest_head.hpp"
#include "bundle_files.hpp"
#include "check.hpp"
#include "refused.hpp"

using edgead::parse_manifest;
using Json = nlohmann::json;

namespace {

const Json sound = Json::parse(golden_bundle()["manifest.json"]);
const std::string no_hash = "sha256:" + std::string(64, '0');

Json with(const char *place, const Json &value) {
  Json tree = sound;
  tree[Json::json_pointer(place)] = value;
  return tree;
}

void refused(const char *place, const Json &value, const std::string &message) {
  REFUSED(parse_manifest(with(place, value).dump(), "m"), EDGEAD_ERR_BUNDLE, message);
}

void check_fields() {
  refused("/created_by", 3, "m: created_by is 3, must be a string");
  refused("/created_by", "\x1b[31mred", "'\\x1b[31mred' has control characters");
  refused("/detector", Json::array(), "m: detector is [], must be an object");
  refused("/detector/name", nullptr, "m: detector.name is null, must be a string");
  refused("/detector/config", 1, "m: detector.config is 1, must be an object");
  refused("/detector/config/deep", "\xc2\x85", "has control characters");
  refused("/geometry/height", true, "m: geometry.height is true, must be an integer");
  refused("/geometry/height", 8.0, "m: geometry.height is 8.0, must be an integer");
  refused("/geometry/height", 0, "m: geometry.height 0 is out of range (1 to 65536)");
  refused("/geometry/height", -1, "m: geometry.height -1 is out of range");
  refused("/geometry/width", 65537, "m: geometry.width 65537 is out of range");
  refused("/geometry/height", std::int64_t{1} << 53, "an integer is larger than 2^53 - 1");
  refused("/geometry/height", -(std::int64_t{1} << 53), "an integer is larger than 2^53 - 1");
  refused("/geometry/height", (std::int64_t{1} << 32) + 8, "is out of range");
  refused("/geometry/resampler", "lanczos", "is 'lanczos', must be one of pillow_bilinear, opencv_linear");
  refused("/geometry/mode", "shorter_side", "m: geometry: shorter_side needs a window");
  refused("/geometry/mode", 1, "must be one of exact, shorter_side");
  refused("/geometry/window", {8}, "m: geometry.window is [8], must be an array of 2");
  refused("/geometry/window", {9, 9}, "is larger than the resize 8x8");
  refused("/geometry/window", {0, 4}, "is out of range");
  refused("/geometry/roi", {-1, 0, 4, 4}, "m: geometry.roi[0] -1 is out of range");
  refused("/geometry/roi", {0, 65537, 4, 4}, "m: geometry.roi[1] 65537 is out of range");
  refused("/geometry/roi", {0, 0, 0, 4}, "m: geometry.roi[2] 0 is out of range");
  refused("/geometry/roi", {0, 0, 65536, 65536}, "is out of range (268435456 pixels in all)");
  Json shorter = with("/geometry/mode", "shorter_side");
  shorter["geometry"]["window"] = {8, 8};
  shorter["geometry"]["width"] = 9;
  REFUSED(parse_manifest(shorter.dump(), "m"), EDGEAD_ERR_BUNDLE, "m: geometry.width 9 differs from height 8");
}

void check_post() {
  refused("/post/grid", {4, 0}, "m: post.grid[1] 0 is out of range");
  refused("/post/output", {65536, 8192}, "is out of range (268435456 pixels in all)");
  refused("/post/channels", 0, "m: post.channels 0 is out of range");
  refused("/post/alpha", {1, 2}, "m: post.alpha has 2 weights for 1 channels");
  refused("/post/alpha", {1e39}, "m: post.alpha[0] 1e+39 is out of range");
  refused("/post/gamma", "0", "m: post.gamma is '0', must be a number");
  refused("/post/gamma", true, "m: post.gamma is true, must be a number");
  refused("/post/gamma_stage", "between", "must be one of before, after");
  refused("/post/top_k", 3, "m: post.top_k 3 does not fit score_rule 'max_grid'");
  refused("/post/top_k", -1, "m: post.top_k -1 does not fit score_rule 'max_grid'");
  refused("/post/score_rule", "top_k_sum", "m: post.top_k 0 does not fit score_rule 'top_k_sum'");
  refused("/post/score_rule", "graph", "outputs must be float32 anomaly_map, and image_score");
  refused("/post/pad", {0, 0, 0, -1}, "m: post.pad[3] -1 is out of range");
  refused("/post/blur_sigma", -1, "m: post.blur_sigma -1 or blur_truncate 4 is out of range");
  refused("/post/blur_truncate", 0, "is out of range");
  refused("/post/upsample", "cubic", "must be one of none, nearest, bilinear");
  refused("/post/border", "", "must be one of reflect, mirror, nearest");
  refused("/operator/h/rows", 7, "m: operator.h is 7x4, post.output and post.grid ask for 8x4");
  refused("/operator/w/cols", 5, "m: operator.w is 8x5, post.output and post.grid ask for 8x4");
  refused("/operator/w/band", 5, "m: operator.w.band 5 is not within 1 .. 4");
  refused("/operator/w/band", 0, "m: operator.w.band 0 is not within 1 .. 4");
  Json top = with("/post/score_rule", "top_k_mean");
  for (const int k : {1, 64}) {
    top["post"]["top_k"] = k;
    CHECK_EQ(parse_manifest(top.dump(), "m").post.top_k, k);
  }
  top["post"]["top_k"] = 65;
  REFUSED(parse_manifest(top.dump(), "m"), EDGEAD_ERR_BUNDLE, "does not fit score_rule 'top_k_mean'");
}

void check_graph() {
  refused("/graph/input/dtype", "float32", "must be 'image' uint8 (N, 8, 8, 3), of the geometry's size");
  refused("/graph/input/dtype", "int8", "must be one of uint8, float32");
  refused("/graph/input/name", "input", "must be 'image' uint8");
  refused("/graph/input/shape", {1, 8, 8}, "must be 'image' uint8");
  refused("/graph/input/shape", {1, 8, 9, 3}, "must be 'image' uint8");
  refused("/graph/input/shape", {-1, 8, 8, 3}, "m: graph.input has a batch of -1");
  refused("/graph/outputs/0/shape", {1, 2, 4, 4}, "is no output that post asks for");
  refused("/graph/outputs/0/name", "map", "'map' is no output that post asks for");
  refused("/graph/outputs/0/dtype", "uint8", "'anomaly_map' is no output that post asks for");
  refused("/graph/outputs", Json::array(), "outputs must be float32 anomaly_map");
  refused("/graph/opset", 0, "m: graph.opset 0 is out of range");
  Json two = sound;
  two["graph"]["outputs"].push_back(two["graph"]["outputs"][0]);
  REFUSED(parse_manifest(two.dump(), "m"), EDGEAD_ERR_BUNDLE, "outputs[1]: 'anomaly_map' is no output");
  two["graph"]["outputs"][1] = {{"name", "image_score"}, {"dtype", "float32"}, {"shape", {1}}};
  CHECK(parse_manifest(two.dump(), "m").graph.has_score);
  two["post"]["score_rule"] = "graph";
  CHECK_EQ(parse_manifest(two.dump(), "m").post.score_rule, EDGEAD_SCORE_GRAPH);
  two["graph"]["outputs"][1]["shape"] = {2};
  REFUSED(parse_manifest(two.dump(), "m"), EDGEAD_ERR_BUNDLE, "'image_score' is no output");
}

void check_targets() {
  refused("/targets", Json::array(), "m: there is no target");
  refused("/targets", nullptr, "m: targets is null, must be an array");
  refused("/targets/0/target", "openvino", "m: target openvino: openvino:fp32:cpu in engine, precision and device");
  refused("/targets/0/target", "openvino:fp32:cpu", "are not the parts of 'openvino:fp32:cpu'");
  refused("/targets/0/device", "gpu", "openvino:fp32:gpu in engine, precision and device are not the parts of");
  refused("/targets/0/precision", "fp8", "must be one of fp32, bf16, fp16, int8");
  refused("/targets/0/main_file", "model.xml", "main_file 'model.xml' is not among its files");
  refused("/targets/0/config", nullptr, "m: targets[0].config is null, must be an object");
  refused("/targets/0/identity/features", {1}, "m: targets[0].identity.features[0] is 1, must be a string");
  refused("/targets/0/thresholds/image", 60.75, "image threshold 60.75 is not above the median 60.75");
  refused("/targets/0/thresholds/method", Json::array(), "method is [], must be an object");
  refused("/targets/0/map_tolerance", -1e-9, "m: target openvino:fp32: a self-test tolerance is negative");
  refused("/reference/pixel", 0, "m: reference: pixel threshold 0 is not above the median 55.875");
  Json twice = sound;
  twice["targets"].push_back(twice["targets"][0]);
  REFUSED(parse_manifest(twice.dump(), "m"), EDGEAD_ERR_BUNDLE, "m: target openvino:fp32 stands twice");
  Json gpu = sound;
  gpu["targets"][0]["target"] = "tensorrt:fp16:gpu0";
  gpu["targets"][0]["engine"] = "tensorrt";
  gpu["targets"][0]["precision"] = "fp16";
  gpu["targets"][0]["device"] = "gpu0";
  for (Json &image : gpu["golden"]) image["expected"][0]["target"] = "tensorrt:fp16:gpu0";
  CHECK(parse_manifest(gpu.dump(), "m").targets.at(0).device == "gpu0");
  CHECK(parse_manifest(sound.dump(), "m").targets.at(1).verified);
  CHECK(parse_manifest(with("/targets/0/verified", true).dump(), "m").targets.at(0).verified);
  CHECK(!parse_manifest(with("/targets/1/verified", false).dump(), "m").targets.at(1).verified);
  refused("/targets/1/rest", "fp16", "m: targets[1].rest is 'fp16', must be one of fp32, bf16");
  refused("/targets/1/rest", "bf16", "m: target onnxruntime:fp32: rest is bf16, which only int8 has");
  refused("/targets/1/verified", "false", "m: targets[1].verified is 'false', must be true or false");
  refused("/targets/1/verified", nullptr, "m: targets[1].verified is null, must be true or false");
  refused("/targets/0/verified", false, "m: target openvino:fp32 is the first and not verified; a bundle begins with");
  Json order = with("/targets/1/verified", false);
  order["targets"].push_back(sound["targets"][1]);
  order["targets"][2]["target"] = "onnxruntime:int8";
  order["targets"][2]["precision"] = "int8";
  for (Json &image : order["golden"]) {
    image["expected"].push_back(image["expected"][1]);
    image["expected"][2]["target"] = "onnxruntime:int8";
  }
  Json eight = order;
  eight["targets"][1]["verified"] = true;
  CHECK(parse_manifest(eight.dump(), "m").targets.at(2).rest == "fp32");
  eight["targets"][2]["rest"] = "bf16";
  CHECK(parse_manifest(eight.dump(), "m").targets.at(2).rest == "bf16");
  REFUSED(parse_manifest(order.dump(), "m"), EDGEAD_ERR_BUNDLE,
          "m: target onnxruntime:fp32 is not verified and stands before onnxruntime:int8, which is");
  CHECK(edgead::thresholds_problem({1, 1, 0, 0}).empty());
  CHECK(edgead::thresholds_problem({std::nan(""), 1, 0, 0}).find("not finite") != std::string::npos);
  CHECK(edgead::thresholds_problem({1, 1, 0, -INFINITY}).find("not finite") != std::string::npos);
  CHECK(edgead::thresholds_problem({1, 0, 0, 0}).find("pixel threshold 0 is not above") != std::string::npos);
}

void check_rest() {
  refused("/golden", Json::array(), "m: there is no golden image");
  refused("/golden/0/kind", "bad", "must be one of good, synthetic_defect");
  refused("/golden/0/expected", Json::array(), "'golden/good.png' must have one expectation for each target");
  refused("/golden/0/expected/0/target", "x", "must have one expectation for each target");
  refused("/golden/1/file", "golden/good.png", "m: golden image golden/good.png stands twice");
  refused("/operator/w/start_file", "../x", "m: the file name '../x' is not a plain relative name");
  refused("/graph/file", "manifest.json", "m: the file name 'manifest.json' is reserved");
  refused("/graph/data_files", {"MANIFEST.sha256"}, "m: the file name 'MANIFEST.sha256' is reserved");
  refused("/reports", {"/etc/passwd"}, "is not a plain relative name");
  for (const char *date : {"2026-02-30T00:00:00Z", "2026-2-3T0:0:0Z", "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
                           "2026-11-23T24:00:00Z", "2026-11-23T00:60:00Z", "2026-11-23T00:00:60Z", "", "0000-01-01",
                           "2026-11-23 14:35:56Z", "2026-00-23T14:35:56Z", "0999-01-01T00:00:00Z"})
    refused("/provenance/created", date, "m: provenance.created: date '");
  CHECK_EQ(parse_manifest(with("/provenance/created", "2024-02-29T23:59:59Z").dump(), "m").schema, 1);
  refused("/provenance/model", "sha256:abc", "m: provenance.model has 'sha256:abc', must be sha256: and 64");
  refused("/provenance/train", {"SHA256:" + std::string(64, '0')}, "m: provenance.train has");
  refused("/provenance/seeds/train", "1", "m: provenance.seeds.train is '1', must be an integer");
  refused("/provenance/tools/torch", 2, "m: provenance.tools.torch is 2, must be a string");
  refused("/provenance/graph_parity/images", 0, "graph_parity has no images or a negative figure");
  refused("/provenance/graph_parity/map_range", -1, "graph_parity has no images or a negative figure");
  const Json seen = sound["provenance"]["train"][0];
  for (const char *group : {"held_out", "validation"})
    refused((std::string("/provenance/") + group).c_str(), {no_hash, seen},
            std::string("1 images are both in train and in ") + group + ", for instance " + seen.get<std::string>());
  CHECK_EQ(parse_manifest(with("/provenance/calibration", {seen, no_hash, no_hash}).dump(), "m").schema, 1);
}

// Every field is needed, except inside the free objects; unknown ones are ignored.
int check_required(Json &tree, Json &node) {
  if (node.is_array() && !node.empty()) return check_required(tree, node[0]);
  if (!node.is_object()) return 0;
  int checked = 0;
  const Json kept = node;
  for (const auto &[name, value] : kept.items()) {
    node.erase(name);
    REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE,
            name == "schema" ? "schema is missing" : "the field '" + name + "' is missing");
    node = kept;
    ++checked;
    if (name != "config" && name != "method" && name != "seeds" && name != "tools")
      checked += check_required(tree, node[name]);
  }
  node["later"] = {1, "x"};
  CHECK_EQ(parse_manifest(tree.dump(), "m").schema, 1);
  node = kept;
  return checked;
}

// The first target as an engine with a search behind it, over two references of one 4x4 level.
Json with_head() {
  Json tree = sound;
  Json &target = tree["targets"][0];
  const std::string name = "openvino+window_search:fp32";
  for (Json &image : tree["golden"])
    for (Json &expected : image["expected"])
      if (expected["target"] == target["target"]) expected["target"] = name;
  target["target"] = name;
  target["engine"] = "openvino+window_search";
  target["files"].push_back("heads/window_search/level0.bin");
  target["head"] = {{"kind", "window_search"},
                    {"references", 2},
                    {"nearest", 1},
                    {"dim", 3},
                    {"bank_type", "fp16"},
                    {"levels",
                     {{{"height", 4}, {"width", 4}, {"window", 3}, {"bank_file", "heads/window_search/level0.bin"}}}},
                    {"grid", {4, 4}},
                    {"weighted", false}};
  return tree;
}

void check_head() {
  const edgead::Manifest read = parse_manifest(with_head().dump(), "m");
  CHECK(read.targets[0].head && !read.targets[1].head);
  CHECK_EQ(read.targets[0].head->levels[0].window, 3);
  CHECK_EQ(edgead::bank_bytes(*read.targets[0].head, read.targets[0].head->levels[0]), 2 * 3 * 16 * 2);
  const auto head_refused = [](const char *place, const Json &value, const std::string &message) {
    Json tree = with_head();
    tree[Json::json_pointer(place)] = value;
    REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE, message);
  };
  const auto in_head = [&](const char *place, const Json &value, const std::string &message) {
    head_refused((std::string("/targets/0/head") + place).c_str(), value, message);
  };
  in_head("", nullptr, "m: targets[0].head is null, must be an object");
  in_head("/kind", "bank_search", "must be one of window_search");
  in_head("/references", 0, "head.references 0 is out of range");
  in_head("/references", (1 << 20) + 1, "is out of range");
  in_head("/nearest", 3, "head.nearest 3 is out of range (1 to 2)");
  in_head("/dim", 4097, "head.dim 4097 is out of range");
  in_head("/bank_type", "bf16", "must be one of fp32, fp16, int8");
  in_head("/weighted", 0, "head.weighted is 0, must be true or false");
  in_head("/levels", Json::array(), "head.levels has 0 levels, must have 1 to 8");
  in_head("/levels/0/window", 2, "window is 2, must be odd");
  in_head("/levels/0/window", 9, "window 9 is out of range");
  in_head("/levels/0/width", 0, "width 0 is out of range");
  in_head("/levels/0/bank_file", "other.bin", "bank_file 'other.bin' is not among the target's files");
  in_head("/levels/0/bank_file", sound["targets"][0]["main_file"], "is not among the target's files");
  in_head("/grid", {4, 5}, "head: grid is not that of graph, 4x4");
  Json large = with_head();
  large["targets"][0]["head"]["references"] = 1 << 20;
  large["targets"][0]["head"]["dim"] = 4096;
  large["targets"][0]["head"]["levels"][0]["height"] = 32768;
  large["targets"][0]["head"]["levels"][0]["width"] = 32768;  // 2^63 values
  REFUSED(parse_manifest(large.dump(), "m"), EDGEAD_ERR_BUNDLE, "is larger than 64 GiB");
  Json missing = with_head();
  missing["targets"][0].erase("head");
  REFUSED(parse_manifest(missing.dump(), "m"), EDGEAD_ERR_BUNDLE, "the field 'head' is missing");
  Json batch = with_head();
  batch["graph"]["input"]["shape"][0] = batch["graph"]["outputs"][0]["shape"][0] = 2;
  REFUSED(parse_manifest(batch.dump(), "m"), EDGEAD_ERR_BUNDLE, "makes one map of one image");
  // Another engine's head is not ours to judge.
  CHECK(!parse_manifest(with("/targets/0/head", {{"kind", "later"}}).dump(), "m").targets[0].head);
  CHECK(!parse_manifest(with("/targets/0/head", nullptr).dump(), "m").targets[0].head);
}

// The same target with a bank of 5 vectors of 3 values behind it.
Json with_bank() {
  Json tree = with_head();
  Json &target = tree["targets"][0];
  const std::string name = "openvino+bank_search:fp32";
  for (Json &image : tree["golden"])
    for (Json &expected : image["expected"])
      if (expected["target"] == target["target"]) expected["target"] = name;
  target["target"] = name;
  target["engine"] = "openvino+bank_search";
  target["files"].push_back("near.i32");
  target["head"] = {{"kind", "bank_search"}, {"vectors", 5},    {"dim", 3},
                    {"grid", {4, 4}},        {"neighbours", 0}, {"neighbours_file", ""},
                    {"bank_file", "heads/window_search/level0.bin"}};
  return tree;
}

void check_bank() {
  const edgead::Manifest read = parse_manifest(with_bank().dump(), "m");
  CHECK(read.targets[0].bank && !read.targets[0].head && !read.targets[1].bank);
  CHECK_EQ(edgead::bank_bytes(*read.targets[0].bank), 5 * 3 * 4);
  const auto in_head = [](const char *place, const Json &value, const std::string &message) {
    Json tree = with_bank();
    tree["targets"][0]["head"][Json::json_pointer(place)] = value;
    REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE, message);
  };
  in_head("/kind", "window_search", "must be one of bank_search");
  in_head("/vectors", 0, "head.vectors 0 is out of range");
  in_head("/dim", 4097, "head.dim 4097 is out of range");
  in_head("/neighbours", 65, "head.neighbours 65 is out of range");
  in_head("/neighbours", 2, "neighbours_file '' is not among the target's files");
  in_head("/bank_file", "other.bin", "bank_file 'other.bin' is not among the target's files");
  in_head("/bank_file", sound["targets"][0]["main_file"], "is not among the target's files");
  in_head("/grid", {4, 5}, "head: grid is not that of graph, 4x4");
  Json tree = with_bank();
  tree["targets"][0]["head"]["vectors"] = 1 << 25;
  tree["targets"][0]["head"]["dim"] = 4096;
  REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE, "is larger than 64 GiB");
  tree = with_bank();
  tree["targets"][0]["head"]["neighbours"] = 2;
  tree["targets"][0]["head"]["neighbours_file"] = "near.i32";
  REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE, "and no image_score, the head 2 neighbours");
  tree["targets"][0]["head"]["neighbours"] = 6;
  REFUSED(parse_manifest(tree.dump(), "m"), EDGEAD_ERR_BUNDLE, "head: 6 neighbours of 5 vectors");
}

// The golden network on 2x3 tiles of an image of 14x16: one row of cells shared, and two columns.
Json tiled() {
  Json tree = sound;
  tree["schema"] = 2;
  tree["geometry"]["height"] = 14;
  tree["geometry"]["width"] = 16;
  tree["geometry"]["tiles"] = {{"rows", 2}, {"columns", 3}, {"height", 8}, {"width", 8}};
  tree["post"]["grid"] = {7, 8};
  tree["post"]["output"] = {14, 16};
  tree["operator"]["h"]["rows"] = 14;
  tree["operator"]["h"]["cols"] = 7;
  tree["operator"]["w"]["rows"] = 16;
  tree["operator"]["w"]["cols"] = 8;
  return tree;
}

void check_tiles() {
  const auto read = [](const char *place, const Json &value) {
    Json tree = tiled();
    if (*place != '\0') tree[Json::json_pointer(place)] = value;
    return parse_manifest(tree.dump(), "m");
  };
  const auto bad = [&](const char *place, const Json &value, const std::string &message) {
    REFUSED(read(place, value), EDGEAD_ERR_BUNDLE, message);
  };
  const edgead::Manifest m = read("", nullptr);
  CHECK_EQ(m.schema, 2);
  CHECK(m.tiling.has_value());
  CHECK_EQ(m.tiling->rows.step, 6);
  CHECK_EQ(m.tiling->rows.step_cells, 3);
  CHECK_EQ(m.tiling->columns.count, 3);
  CHECK_EQ(m.tiling->columns.step, 4);
  CHECK_EQ(m.tiling->columns.step_cells, 2);
  CHECK_EQ(m.graph.input_height, 8);
  CHECK_EQ(m.image_size()[0], 14);
  CHECK_EQ(m.graph_grid()[1], 4);
  CHECK(!parse_manifest(with("/geometry/tiles", nullptr).dump(), "m").tiling);
  bad("/schema", 1, "m: geometry.tiles needs schema 2, not 1");
  bad("/geometry/tiles", Json::array(), "m: geometry.tiles is [], must be an object");
  bad("/geometry/tiles", {{"rows", 2}}, "m: geometry.tiles: the field");
  bad("/geometry/tiles/rows", 0, "m: geometry.tiles.rows 0 is out of range");
  bad("/geometry/tiles/columns", -3, "m: geometry.tiles.columns -3 is out of range");
  bad("/geometry/tiles/columns", 2.0, "m: geometry.tiles.columns is 2.0, must be an integer");
  bad("/geometry/tiles/rows", 257, "m: geometry.tiles.rows 257 is out of range");
  bad("/geometry/tiles/rows", 256, "256 tiles of 8 do not fill the height of 14 evenly");
  bad("/geometry/tiles/rows", 1, "1 tiles of 8 do not fill the height of 14 evenly");
  bad("/geometry/tiles/rows", 5, "5 tiles of 8 do not fill the height of 14 evenly");
  bad("/geometry/tiles/height", 4, "2 tiles of 4 do not fill the height of 14 evenly");
  bad("/geometry/tiles/height", 14, "2 tiles of 14 do not fill the height of 14 evenly");
  bad("/geometry/tiles/width", 17, "3 tiles of 17 do not fill the width of 16 evenly");
  bad("/geometry/window", {8, 8}, "tiles fill the image; that is mode exact, without a window");
  bad("/geometry/height", 13, "of 8 pixels and 4 + 0 cells, each 5 pixels on, do not join to one map");
  bad("/post/pad", {1, 1, 0, 0}, "of 8 pixels and 4 + 2 cells, each 6 pixels on, do not join to one map");
  bad("/post/pad", {2, 2, 0, 0}, "do not join to one map");  // 6 cells on, the map has 4
  bad("/graph/outputs/0/shape", {1, 1, 4, 5}, "do not join to one map");
  bad("/graph/outputs/0/shape", {1, 1, 7, 8}, "do not join to one map");
  bad("/graph/outputs/0/shape", {1, 1, 0, 4}, "a map of 0 cells is out of range");
  bad("/graph/outputs/0/shape", {1, 1, 4}, "shape must be (1, K, h, w) with tiles");
  bad("/graph/outputs/0/shape", {2, 1, 4, 4}, "shape must be (1, K, h, w) with tiles");
  bad("/graph/outputs/0/name", "image_score", "outputs must be float32 anomaly_map");
  bad("/graph/input/shape", {1, 14, 16, 3}, "must be 'image' uint8 (N, 8, 8, 3)");
  Json other = tiled();
  other["post"]["grid"] = {8, 8};
  other["operator"]["h"]["cols"] = 8;
  REFUSED(parse_manifest(other.dump(), "m"), EDGEAD_ERR_BUNDLE, "the maps of the tiles join to 7x8, post.grid is 8x8");
}

// Behind valid hashes.
void check_against_files() {
  const auto open = [](const Files &files) {
    const std::string zip = zipped(rehashed(files));
    return edgead::Bundle::from_zip(reinterpret_cast<const std::uint8_t *>(zip.data()), zip.size(), "z");
  };
  Files files = golden_bundle();
  files["manifest.json"] = with("/schema", 3).dump();
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "schema 3 was made by a newer edgead; upgrade (this one reads up to 2)");
  files["manifest.json"] = with("/graph/data_files", {"graph.data"}).dump();
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "manifest.json names graph.data, which the bundle lacks");
  for (const char *name : {"post/operator_h.start.i32", "post/operator_w.weights.f32", "golden/good.map.f32"}) {
    files = golden_bundle();
    files[name] += "1234";
    REFUSED(open(files), EDGEAD_ERR_BUNDLE, std::string(name) + " has");
  }
  for (const std::string &start : {u32le(3), u32le(0xffffffff)}) {
    files = golden_bundle();
    files["post/operator_w.start.i32"].replace(28, 4, start);
    REFUSED(open(files), EDGEAD_ERR_BUNDLE, "post/operator_w.start.i32 leaves the columns");
  }
  files = golden_bundle();
  files["post/operator_h.weights.f32"].replace(0, 4, u32le(0x7f800000));
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "its weights are not finite");
  files = golden_bundle();
  files["manifest.json"] = with_head().dump();
  files["heads/window_search/level0.bin"] = std::string(2 * 3 * 16 * 2, '\0');
  CHECK(open(files)->manifest().targets[0].head.has_value());
  files["manifest.json"] = with_bank().dump();
  files["near.i32"] = "";
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "level0.bin has");
  files["heads/window_search/level0.bin"] = std::string(5 * 3 * 4, '\0');
  CHECK(open(files)->manifest().targets[0].bank.has_value());
  files.erase("near.i32");
  files["manifest.json"] = with_head().dump();
  files["heads/window_search/level0.bin"] = std::string(2 * 3 * 16 * 2, '\0');
  files["heads/window_search/level0.bin"].pop_back();
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "level0.bin has 191 bytes, its shape asks for 192");
  files = golden_bundle();
  files["golden/good.png"] = "no picture";
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "z/golden/good.png cannot be read: it is no PNG");
  Json larger = with("/geometry/width", 16);
  larger["graph"]["input"]["shape"] = {1, 8, 16, 3};
  files = golden_bundle();
  files["manifest.json"] = larger.dump();
  REFUSED(open(files), EDGEAD_ERR_BUNDLE, "good.png is 8x8, the network's input is 16x8");
}

}  // namespace

int main() {
  CHECK_EQ(parse_manifest(sound.dump(), "m").targets.size(), 2);
  check_fields();
  check_post();
  check_graph();
  check_targets();
  check_rest();
  check_head();
  check_bank();
  check_tiles();
  Json tree = sound;
  CHECK(check_required(tree, tree) > 80);
  check_against_files();
  return check_failures();
}
