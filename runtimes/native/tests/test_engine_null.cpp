// The engine `null`, what every engine's graph is checked for, and unknown engines.

#include <cstring>

#include "engine_support.hpp"
#include "engines/backends.hpp"

namespace {

using namespace edgead;

const TensorShapes kShapes{1, 4, 6, 2, 2, 3, false};  // map: 12 floats
const char kGraph[] = R"({"input": [1, 4, 6, 3], "map": [1, 2, 2, 3], "map_file": "map.f32", "score": null})";

Files stored(const std::string &graph = kGraph, const std::string &folder = "targets/null_fp32/") {
  Files files;
  files.add(folder + "graph.json", graph);
  std::string raw(12 * sizeof(float), '\0');
  for (int i = 0; i < 12; ++i) {
    const float value = static_cast<float>(i) / 8;
    std::memcpy(&raw[sizeof value * static_cast<std::size_t>(i)], &value, sizeof value);
  }
  files.add(folder + "map.f32", raw);
  return files;
}

std::shared_ptr<Engine> open(const Files &files, TensorShapes shapes = kShapes,
                             const std::string &folder = "targets/null_fp32/") {
  return open_engine(files.lookup(), shapes, target_entry("null", "fp32", {folder + "graph.json", folder + "map.f32"}),
                     {});
}

std::string replaced(const std::string &old_text, const std::string &new_text) {
  std::string graph = kGraph;
  const std::size_t at = graph.find(old_text);
  CHECK(at != std::string::npos);
  return graph.replace(at, old_text.size(), new_text);
}

void test_gives_the_stored_map() {
  for (const std::string folder : {"targets/null_fp32/", ""}) {
    Files files = stored(kGraph, folder);
    const auto engine = open(files, kShapes, folder);
    files.bytes.clear();  // an engine keeps what it needs
    const auto request = engine->create_request(), other = engine->create_request();
    CHECK(engine->version().empty() && engine->library().empty());
    CHECK(request->input() != other->input());
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(request->input()) % 64, 0);
    std::memset(request->input(), 255, kShapes.input_bytes());
    CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_OK);
    CHECK(request->score() == nullptr);
    for (int i = 0; i < 12; ++i) CHECK(request->map()[i] == static_cast<float>(i) / 8);
  }
}

void test_score() {
  TensorShapes shapes = kShapes;
  shapes.has_score = true;
  const auto request = open(stored(replaced("null}", "2.5}")), shapes)->create_request();
  CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_OK);
  CHECK(request->score() != nullptr && request->score()[0] == 2.5f);
}

void test_refused() {
  const auto refused = [](const std::string &graph, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_ENGINE, words, [&] { open(stored(graph)); });
  };
  refused("", {"graph.json", "JSON"});
  refused("[1]", {"graph.json", "must be an object"});
  refused("{\"input\": [", {"graph.json", "JSON"});
  refused("{}", {"graph.json", "'score' is missing"});
  refused(replaced("[1, 4, 6, 3]", "[1, 6, 4, 3]"), {"[1,6,4,3]", "[1,4,6,3]", "export the MODEL again"});
  refused(replaced("[1, 4, 6, 3]", "[1, 4, 6]"), {"[1,4,6]"});
  refused(replaced("[1, 4, 6, 3]", "[1, 4, \"x\", 3]"), {"input[2]", "must be an integer"});
  refused(replaced("[1, 2, 2, 3]", "[1, 2, 3, 2]"), {"anomaly_map", "[1,2,3,2]", "[1,2,2,3]"});
  refused(replaced("null}", "1.5}"), {"image_score"});
  refused(replaced("null}", "\"x\"}"), {"score", "must be a number"});
  refused(replaced("\"map.f32\"", "7"), {"map_file"});
  refused(replaced("\"map.f32\"", "\"../map.f32\""), {"plain file name"});
  check_refused(EDGEAD_ERR_BUNDLE, {"other.f32"}, [] { open(stored(replaced("map.f32", "other.f32"))); });
  Files files = stored();
  files.bytes["targets/null_fp32/map.f32"].pop_back();
  check_refused(EDGEAD_ERR_ENGINE, {"map.f32", "47", "48"}, [&] { open(files); });
  TensorShapes scored = kShapes;
  scored.has_score = true;
  check_refused(EDGEAD_ERR_ENGINE, {"image_score", "[1]"}, [&] { open(stored(), scored); });
}

void test_unknown_engine() {
  const Files files = stored();
  check_refused(EDGEAD_ERR_UNSUPPORTED, {"caffe:fp32", "'caffe'", "openvino", "null"}, [&] {
    open_engine(files.lookup(), kShapes, target_entry("caffe", "fp32", {"targets/null_fp32/graph.json"}), {});
  });
}

void test_shapes_of_a_manifest() {
  Manifest manifest{};
  manifest.graph = {"graph.onnx", {}, 2, 8, 9, true};
  manifest.post.channels = 3;
  manifest.post.grid_height = 4;
  manifest.post.grid_width = 5;
  const TensorShapes shapes = tensor_shapes(manifest);
  CHECK_EQ(shapes.input_bytes(), 2 * 8 * 9 * 3);
  CHECK_EQ(shapes.map_count(), 2 * 3 * 4 * 5);
  CHECK(shapes.has_score && shapes.height == 8 && shapes.grid_width == 5);
}

void test_last_line() {
  CHECK(last_line(nullptr) == "no reason given");
  CHECK(last_line("") == "no reason given");
  CHECK(last_line(" \n\n") == "no reason given");
  CHECK(last_line("one") == "one");
  CHECK(last_line("Check failed at a.cpp:3:\n  the reason \r\n\n") == "the reason");
}

}  // namespace

int main() {
  return run_checks([] {
    test_gives_the_stored_map();
    test_score();
    test_refused();
    test_unknown_engine();
    test_shapes_of_a_manifest();
    test_last_line();
  });
}
