// The ONNX Runtime engine on graphs of make_graphs.py, against what Python's ONNX Runtime makes of them; without its
// header at build time, the refusal. 77 = skipped.

#include <cstdlib>

#include "engine_support.hpp"

namespace {

using namespace edgead;

std::string folder;

std::shared_ptr<Engine> open(const std::vector<std::string> &names,
                             const EngineOptions &options = {1, 1, false, "", "", {}},
                             const std::string &precision = "fp32", const std::string &device = "cpu") {
  Files files;
  std::vector<std::string> inside;
  for (const std::string &name : names) {
    inside.push_back("sub/" + name);
    files.add(inside.back(), folder.empty() ? "" : read_whole(folder + "/" + name));
  }
  return open_engine(files.lookup(), kShapes, target_entry("onnxruntime", precision, inside, device), options);
}

#if !defined(EDGEAD_HAVE_ONNXRUNTIME)

void test_not_built() {
  check_refused(EDGEAD_ERR_UNSUPPORTED, {"onnxruntime:fp32", "EDGEAD_ONNXRUNTIME_INCLUDE", "--runtime python"},
                [] { open({"graph.onnx"}); });
}

#else

void test_equals_python() {
  const Expected expected(folder + "/onnxruntime_fp32");
  for (const auto &names : {std::vector<std::string>{"graph.onnx"}, {"external.onnx", "external.data"}}) {
    auto engine = open(names);
    CHECK(engine->version().substr(0, 2) == "1.");
    CHECK(engine->library().find("libonnxruntime.so") != std::string::npos);
    const auto request = engine->create_request();
    engine.reset();  // a request keeps what it needs
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(request->input()) % 64, 0);
    for (std::size_t i = 0; i < 2 * kImages; ++i) CHECK_EQ(expected.differences(*request, i % kImages), 0);
  }
  check_threads(*open({"graph.onnx"}, {2, 2, false, "", "", {}}), folder + "/onnxruntime_fp32");
}

void test_refused() {
  const auto refused = [](const std::vector<std::string> &names, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_ENGINE, words, [&] { open(names); });
  };
  refused({"dynamic.onnx"}, {"sub/dynamic.onnx", "'image' u8 of dynamic shape", "export the MODEL again"});
  refused({"images.u8"}, {"cannot load sub/images.u8"});
  refused({"external.onnx"}, {"cannot load sub/external.onnx"});
  check_refused(EDGEAD_ERR_UNSUPPORTED, {"onnxruntime:bf16"}, [] { open({"graph.onnx"}, {}, "bf16"); });
  check_refused(EDGEAD_ERR_ENGINE, {"'cuda'"}, [] { open({"graph.onnx"}, {}, "fp32", "cuda"); });
  const auto missing = [](const std::string &path, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_RUNTIME_MISSING, words, [&] { open({"graph.onnx"}, {1, 1, false, path, "", {}}); });
  };
  missing("/nowhere/libonnxruntime.so", {"/nowhere/libonnxruntime.so", "pip install", "EDGEAD_ONNXRUNTIME_LIBRARY"});
  missing("libc.so.6", {"libc.so.6", "OrtGetApiBase", "1.18 or newer"});
}

#endif

}  // namespace

#if defined(EDGEAD_HAVE_ONNXRUNTIME)

int main() {
  const char *given = std::getenv("EDGEAD_TEST_GRAPHS");
  if (given == nullptr || !std::ifstream(std::string(given) + "/onnxruntime_fp32.map").good()) {
    std::puts("skipped: no graphs (EDGEAD_TEST_GRAPHS) or no onnxruntime in Python");
    return 77;
  }
  folder = given;
  return run_checks([] {
    test_equals_python();
    test_refused();
  });
}

#else

int main() { return run_checks(test_not_built); }

#endif
