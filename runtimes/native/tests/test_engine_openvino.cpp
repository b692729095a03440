// The OpenVINO engine on graphs of make_graphs.py, against what Python's OpenVINO makes of them. Takes their folder
// from EDGEAD_TEST_GRAPHS, the library as any caller does (EDGEAD_OPENVINO_LIBRARY); 77 = skipped.

#include <cstdlib>
#include <filesystem>

#include "engine_support.hpp"
#include "no_deepbind.hpp"

namespace {

using namespace edgead;

std::string folder;

Files graph_files(const std::string &name) {
  Files files;
  files.add("openvino/model.xml", read_whole(folder + "/" + name + ".xml"));
  files.add("openvino/model.bin", read_whole(folder + "/" + name + ".bin"));
  return files;
}

TargetEntry target(const std::string &precision, const std::string &device = "cpu") {
  return target_entry("openvino", precision, {"openvino/model.xml", "openvino/model.bin"}, device);
}

std::shared_ptr<Engine> open(const std::string &name, const std::string &precision = "fp32",
                             TensorShapes shapes = kShapes, const EngineOptions &options = {1, 1, false, "", "", {}}) {
  return open_engine(graph_files(name).lookup(), shapes, target(precision), options);
}

void test_equals_python(const std::string &precision) {
  const Expected expected(folder + "/openvino_" + precision);
  const auto engine = open("scored", precision);
  CHECK(engine->version().substr(0, 2) == "20");
  CHECK(engine->library().find("openvino_c") != std::string::npos);
  const auto request = engine->create_request();
  CHECK_EQ(reinterpret_cast<std::uintptr_t>(request->input()) % 64, 0);
  for (std::size_t i = 0; i < 2 * kImages; ++i) CHECK_EQ(expected.differences(*request, i % kImages), 0);
}

void test_a_request_outlives_its_engine() {
  const Expected expected(folder + "/openvino_fp32");
  auto engine = open("scored");
  const auto request = engine->create_request();
  engine.reset();
  CHECK_EQ(expected.differences(*request, 1), 0);
}

void test_threads_share_an_engine() {
  for (const std::uint32_t streams : {1U, 2U})
    check_threads(*open("scored", "fp32", kShapes, {streams, streams, streams == 2, "", "", {}}),
                  folder + "/openvino_fp32");
}

void test_onnx() {
  if (!std::ifstream(folder + "/graph.onnx").good()) return;  // no onnx in Python
  Files files;
  files.add("graph.onnx", read_whole(folder + "/graph.onnx"));
  const auto engine =
      open_engine(files.lookup(), kShapes, target_entry("openvino", "fp32", {"graph.onnx"}), {1, 1, false, "", "", {}});
  CHECK_EQ(Expected(folder + "/openvino_fp32").differences(*engine->create_request(), 2), 0);
}

void test_without_score_and_batches() {
  TensorShapes shapes = kShapes;
  shapes.has_score = false;
  CHECK(open("plain", "fp32", shapes)->create_request()->score() == nullptr);
  shapes.batch = 2;
  CHECK_EQ(open("batch2", "fp32", shapes)->create_request()->infer({nullptr, 0}), EDGEAD_OK);
}

void test_cache() {
  const std::filesystem::path cache = folder + "/cache";
  std::filesystem::remove_all(cache);
  std::filesystem::create_directory(cache);
  const EngineOptions options{1, 1, false, "", cache.string(), {}};
  for (int i = 0; i < 2; ++i) {  // compiled, then taken from the cache
    const auto request = open("scored", "fp32", kShapes, options)->create_request();
    CHECK_EQ(Expected(folder + "/openvino_fp32").differences(*request, 0), 0);
  }
  CHECK(!std::filesystem::is_empty(cache));
}

void test_bf16() {
  // As Python does: OpenVINO gives bf16 only on a CPU that has it.
  if (std::ifstream(folder + "/openvino_bf16.map").good())
    test_equals_python("bf16");
  else
    check_refused(EDGEAD_ERR_ENGINE, {"openvino:bf16", "would run f32"}, [] { open("scored", "bf16"); });
}

void test_rest() {
  // Of an int8 target, on a graph without anything quantised: in bf16 only where the CPU has it by itself.
  TargetEntry entry = target("int8");
  for (const char *rest : {"fp32", "bf16"}) {
    entry.rest = rest;
    const auto request = open_engine(graph_files("scored").lookup(), kShapes, entry, {1, 1, false, "", "", {}})
                             ->create_request();
    const Expected expected(folder + (entry.rest == "bf16" ? "/openvino_rest" : "/openvino_fp32"));
    for (std::size_t i = 0; i < kImages; ++i) CHECK_EQ(expected.differences(*request, i), 0);
  }
}

void test_refused_graphs() {
  TensorShapes plain = kShapes;
  plain.has_score = false;
  const auto refused = [&](const std::string &name, TensorShapes shapes, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_ENGINE, words, [&] { open(name, "fp32", shapes); });
  };
  refused("float_input", plain, {"model.xml", "'image' f32", "'image' u8", "export the MODEL again"});
  refused("dynamic", plain, {"model.xml", "dynamic"});
  refused("other_output", plain, {"model.xml", "'heat'", "'anomaly_map'"});
  refused("scored", plain, {"model.xml", "image_score"});
  refused("plain", kShapes, {"model.xml", "image_score"});
  TensorShapes other = kShapes;
  other.grid_width = 16;
  refused("scored", other, {"[1,2,12,17]", "[1,2,12,16]"});
  other = kShapes;
  other.height = 17;
  refused("scored", other, {"[1,12,17,3]", "[1,17,17,3]"});
}

void test_refused_files_and_targets() {
  Files files = graph_files("scored");
  const auto refused = [&](edgead_status status, const TargetEntry &entry, const std::vector<std::string> &words) {
    check_refused(status, words, [&] { open_engine(files.lookup(), kShapes, entry, {}); });
  };
  refused(EDGEAD_ERR_ENGINE, target("fp32", "toaster"), {"openvino:fp32", "'TOASTER'", "CPU"});
  refused(EDGEAD_ERR_UNSUPPORTED, target("fp8"), {"openvino:fp8", "bf16"});
  files.bytes["openvino/model.bin"].resize(16);
  refused(EDGEAD_ERR_ENGINE, target("fp32"), {"OpenVINO cannot read openvino/model.xml"});
  for (const std::string text : {"", "<net>", "\x08\x0a\x08\x0a", "<?xml version=\"1.0\"?><net name=\"x\"/>"}) {
    files.add("openvino/model.xml", text);
    refused(EDGEAD_ERR_ENGINE, target("fp32"), {"model.xml"});
  }
  files.add("graph.onnx", "nothing");
  refused(EDGEAD_ERR_UNSUPPORTED, target_entry("openvino", "fp32", {"graph.onnx", "graph.data"}), {"data files"});
}

}  // namespace

int main() {
  const char *given = std::getenv("EDGEAD_TEST_GRAPHS");
  if (given == nullptr) {
    std::puts("skipped: EDGEAD_TEST_GRAPHS is not set");
    return 77;
  }
  folder = given;
  return run_checks([] {
    test_equals_python("fp32");
    test_a_request_outlives_its_engine();
    test_threads_share_an_engine();
    test_onnx();
    test_without_score_and_batches();
    test_cache();
    test_bf16();
    test_rest();
    test_refused_graphs();
    test_refused_files_and_targets();
  });
}
