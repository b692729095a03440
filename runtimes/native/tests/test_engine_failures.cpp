// The OpenVINO engine on a library that only pretends (fake_openvino.cpp): what it asks for, what it frees, what it
// says when something fails, and that libedgead's own part of a run allocates nothing.

#include <dlfcn.h>

#include <cstdlib>
#include <new>

#include "engine_support.hpp"

namespace {

std::size_t allocations = 0;

}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// operator new and all else end here.
extern "C" void *__libc_malloc(std::size_t size);
extern "C" void *malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
#endif

namespace {

using namespace edgead;

constexpr TensorShapes kFake{1, 4, 6, 2, 2, 3, true};

template <typename Signature>
Signature *function(const char *name) {
  return reinterpret_cast<Signature *>(::dlsym(::dlopen(FAKE_OPENVINO_whole, RTLD_NOW), name));
}
long long live() { return function<long long()>("fake_openvino_live")(); }
std::string config() { return function<const char *()>("fake_openvino_config")(); }

std::shared_ptr<Engine> open(const char *fate = "", const std::string &precision = "fp32",
                             EngineOptions options = {}, const std::string &device = "cpu",
                             const std::string &rest = "fp32") {
  ::setenv("FAKE_OPENVINO", fate, 1);
  Files files;
  files.add("model.xml", "<net/>");
  files.add("model.bin", "weights");
  options.library = FAKE_OPENVINO_whole;
  TargetEntry target = target_entry("openvino", precision, {"model.xml", "model.bin"}, device);
  target.rest = rest;
  return open_engine(files.lookup(), kFake, target, options);
}

void test_run() {
  const auto request = open()->create_request();
  char message[128] = "";
  std::memset(request->input(), 5, kFake.input_bytes());
  const std::size_t before = allocations;
  CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_OK);
  CHECK_EQ(allocations, before);
  CHECK(request->map()[0] == 5.0f && request->map()[11] == 16.0f && request->score()[0] == 5.0f);
  CHECK(message[0] == '\0');
}

void test_failing_runs() {
  const auto request = open()->create_request();
  char message[128] = "";
  ::setenv("FAKE_OPENVINO", "fail", 1);
  CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_ERR_ENGINE);
  CHECK(std::strcmp(message, "OpenVINO failed on an image: the reason") == 0);
  ::setenv("FAKE_OPENVINO", "silent", 1);
  const std::size_t before = allocations;
  CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_ERR_ENGINE);
  CHECK_EQ(allocations, before);
  CHECK(std::strstr(message, "general error") != nullptr);
  CHECK_EQ(request->infer({nullptr, 0}), EDGEAD_ERR_ENGINE);
  ::setenv("FAKE_OPENVINO", "throw", 1);
  CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_ERR_ENGINE);
  CHECK(std::strstr(message, "exception") != nullptr);
  ::setenv("FAKE_OPENVINO", "", 1);
  CHECK_EQ(request->infer({message, sizeof message}), EDGEAD_OK);
}

void test_configuration() {
  open();
  CHECK(config() == "CPU INFERENCE_PRECISION_HINT=f32 PERFORMANCE_HINT=LATENCY NUM_STREAMS=1 ENABLE_CPU_PINNING=NO");
  EngineOptions options;
  options.threads = 6;
  options.streams = 2;
  options.pin_cores = true;
  options.cache_dir = "/var/cache/edgead";
  open("", "bf16", options);
  CHECK(config() == "CPU INFERENCE_PRECISION_HINT=bf16 PERFORMANCE_HINT=LATENCY NUM_STREAMS=2 ENABLE_CPU_PINNING=YES "
                    "INFERENCE_NUM_THREADS=6 CACHE_DIR=/var/cache/edgead");
  open("", "int8");
  CHECK(config().find("INFERENCE_PRECISION_HINT=f32") != std::string::npos);
  const long long before = live();
  open("", "int8", {}, "cpu", "bf16");
  CHECK(config().find("INFERENCE_PRECISION_HINT=bf16") != std::string::npos);
  open("no bf16", "int8", {}, "cpu", "bf16");
  CHECK(config().find("INFERENCE_PRECISION_HINT=f32") != std::string::npos);
  CHECK_EQ(live(), before);
  open("", "fp16", {}, "gpu");
  CHECK(config() == "GPU INFERENCE_PRECISION_HINT=f16 PERFORMANCE_HINT=LATENCY NUM_STREAMS=1");
  open("", "fp16", {}, "gpu.1");
}

void test_fewer_streams_are_said() {
  std::string said;
  EngineOptions options;
  options.streams = 4;
  options.log = [&](int level, const std::string &message) { said = std::to_string(level) + " " + message; };
  open("", "fp32", options);
  CHECK(said.empty());
  open("fewer", "fp32", options);
  CHECK(said.find(std::to_string(EDGEAD_LOG_WARNING)) == 0 && said.find("4") != std::string::npos);
}

void test_refused() {
  const auto refused = [](const char *fate, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_ENGINE, words, [&] { open(fate)->create_request(); });
  };
  refused("refuse", {"OpenVINO cannot compile model.xml for openvino:fp32: the reason"});
  refused("precision", {"openvino:fp32: this CPU would run f64, not fp32; choose another target"});
  refused("nameless", {"model.xml", "'' u8 [1,4,6,3]"});
  refused("unbound", {"does not take a buffer for image: the reason"});
  check_refused(EDGEAD_ERR_ENGINE, {"'NPU'", "CPU, GPU.1"}, [] { open("", "fp32", {}, "npu"); });
}

void test_everything_is_freed() {
  {
    auto engine = open();
    const auto first = engine->create_request(), second = engine->create_request();
    engine.reset();
    CHECK_EQ(first->infer({nullptr, 0}), EDGEAD_OK);
    CHECK(live() > 0);
  }
  CHECK_EQ(live(), 0);  // failed opens and runs included
}

}  // namespace

int main() {
  return run_checks([] {
    test_run();
    test_failing_runs();
    test_configuration();
    test_fewer_streams_are_said();
    test_refused();
    test_everything_is_freed();
  });
}
