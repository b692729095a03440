#if defined(EDGEAD_HAVE_TENSORRT)

#include "engines/tensorrt_load.hpp"

#include <algorithm>
#include <charconv>

#include "bundle/json.hpp"
#include "engines/library.hpp"
#include "error.hpp"

#define EDGEAD_TEXT_(name) #name
#define EDGEAD_TEXT(name) EDGEAD_TEXT_(name)  // after cuda.h has put its version behind: "cuMemAlloc_v2"

namespace edgead::tensorrt {
namespace {

constexpr const char *IDENTITY = "engine.json";  // beside the plan, as runtimes/_tensorrt.py writes it
constexpr std::uint64_t MOST_BYTES = 1 << 20;
constexpr const char *ADVICE = "; the ONNX part of the bundle is good all the same: onnxruntime runs graph.onnx";
constexpr bool IS_RTX = std::string_view(EDGEAD_TENSORRT_ENGINE) == "tensorrt_rtx";
constexpr const char *TITLE = IS_RTX ? "TensorRT-RTX" : "TensorRT";
#if defined(__aarch64__)
constexpr const char *MACHINE = "aarch64";
#else
constexpr const char *MACHINE = "x86_64";
#endif

struct Capability {
  int major, minor;

  bool operator==(const Capability &other) const { return major == other.major && minor == other.minor; }
  bool at_least(const Capability &other) const {
    return major > other.major || (major == other.major && minor >= other.minor);
  }
};

[[noreturn]] void refuse(const std::string &message) { throw Error{EDGEAD_ERR_ENGINE, message}; }

Cuda load_cuda() {
  const Library library = Library::open({"the NVIDIA driver", "", "EDGEAD_CUDA_LIBRARY", {"libcuda.so.1"},
                                         "install the driver of your GPU"});
  const std::string needs = "update the NVIDIA driver";
  Cuda cuda{};
  library.load(cuda.init, EDGEAD_TEXT(cuInit), needs);
  library.load(cuda.device_count, EDGEAD_TEXT(cuDeviceGetCount), needs);
  library.load(cuda.device_get, EDGEAD_TEXT(cuDeviceGet), needs);
  library.load(cuda.device_name, EDGEAD_TEXT(cuDeviceGetName), needs);
  library.load(cuda.device_attribute, EDGEAD_TEXT(cuDeviceGetAttribute), needs);
  library.load(cuda.context_retain, EDGEAD_TEXT(cuDevicePrimaryCtxRetain), needs);
  library.load(cuda.context_release, EDGEAD_TEXT(cuDevicePrimaryCtxRelease), needs);
  library.load(cuda.context_push, EDGEAD_TEXT(cuCtxPushCurrent), needs);
  library.load(cuda.context_pop, EDGEAD_TEXT(cuCtxPopCurrent), needs);
  library.load(cuda.stream_create, EDGEAD_TEXT(cuStreamCreate), needs);
  library.load(cuda.stream_destroy, EDGEAD_TEXT(cuStreamDestroy), needs);
  library.load(cuda.stream_synchronize, EDGEAD_TEXT(cuStreamSynchronize), needs);
  library.load(cuda.device_alloc, EDGEAD_TEXT(cuMemAlloc), needs);
  library.load(cuda.device_free, EDGEAD_TEXT(cuMemFree), needs);
  library.load(cuda.host_alloc, EDGEAD_TEXT(cuMemHostAlloc), needs);
  library.load(cuda.host_free, EDGEAD_TEXT(cuMemFreeHost), needs);
  library.load(cuda.to_device, EDGEAD_TEXT(cuMemcpyHtoDAsync), needs);
  library.load(cuda.to_host, EDGEAD_TEXT(cuMemcpyDtoHAsync), needs);
  library.load(cuda.error_string, EDGEAD_TEXT(cuGetErrorString), needs);
  return cuda;
}

Library open_library(const EngineSource &source) {
  const std::string stem = IS_RTX ? "libtensorrt_rtx.so" : "libnvinfer.so";
  return Library::open({TITLE, source.options.library, "EDGEAD_TENSORRT_LIBRARY",
                        {stem + "." + EDGEAD_TEXT(NV_TENSORRT_MAJOR), stem},
                        "install " + std::string(TITLE) + " " EDGEAD_TEXT(NV_TENSORRT_MAJOR)});
}

std::string version_of(const Library &library) {
  const std::string needs = std::string(TITLE) + " 10 or newer (RTX: 1.0) is needed";
  std::string text;
  for (const char *part : {"Major", "Minor", "Patch", "Build"}) {
    std::int32_t (*number)() = nullptr;
    library.load(number, ("getInferLib" + std::string(part) + "Version").c_str(), needs);
    text += (text.empty() ? "" : ".") + std::to_string(number());
  }
  return text;
}

Capability capability_of(const JsonField &field) {
  const std::string &text = field.text();
  const std::size_t dot = std::min(text.find('.'), text.size());
  const char *const end = text.data() + text.size();
  Capability found{};
  const auto major = std::from_chars(text.data(), text.data() + dot, found.major);
  const auto minor = std::from_chars(std::min(text.data() + dot + 1, end), end, found.minor);
  if (major.ec != std::errc() || minor.ec != std::errc() || major.ptr != text.data() + dot || minor.ptr != end)
    refuse(field.path() + " is '" + text + "', must be a compute capability such as 8.6");
  return found;
}

// The identity beside the plan, held against this library, host and GPU; gives the detector's name.
std::string check_identity(const EngineSource &source, const Plan &plan, Capability here) {
  const std::string &main = source.target.main_file;
  const std::string name = main.substr(0, main.rfind('/') + 1) + IDENTITY;  // npos + 1 = 0: no folder
  const auto &files = source.target.files;
  if (std::find(files.begin(), files.end(), name) == files.end())
    refuse(main + " has no " + IDENTITY + " beside it, so nobody knows where it may run; export it again");
  try {
    const auto bytes = source.file(name);
    const JsonValue tree = parse_json({reinterpret_cast<const char *>(bytes->data()), bytes->size()}, name, MOST_BYTES);
    const JsonField identity(tree, name);
    if (identity.at("version").integer() != 1) refuse(name + " was written by a newer edgead; upgrade");
    const std::string engine = identity.at("engine").text(), machine = identity.at("machine").text();
    if (engine != EDGEAD_TENSORRT_ENGINE || machine != MACHINE)
      refuse("the plan is of " + engine + " for " + machine + ", here is " + EDGEAD_TENSORRT_ENGINE + " on " + MACHINE +
             "; export it again on this machine" + ADVICE);
    const std::string version = identity.at("engine_version").text();
    if (version != plan.version)
      refuse("the plan was built by " + engine + " " + version + ", here is " + plan.version +
             ", which does not read it; install " + engine + " " + version + ", or export again with " + plan.version +
             ADVICE);
    const std::vector<JsonField> named = identity.at("compute_capabilities").items();
    bool fits = named.empty() && here.at_least(capability_of(identity.at("least")));
    std::string built = named.empty() ? identity.at("least").text() + " and later" : "";
    for (const JsonField &one : named) {
      fits = fits || capability_of(one) == here;
      built += (built.empty() ? "" : ", ") + one.text();
    }
    if (!fits)
      refuse("the plan was built for compute capability " + built + " (" + identity.at("device").text() +
             "), this GPU, " + plan.gpu + ", has " + std::to_string(here.major) + "." + std::to_string(here.minor) +
             "; export again on it, or for it" + ADVICE);
    return identity.at("detector").text();
  } catch (const Error &error) {  // the reader speaks of a bundle; here it is an engine's file
    throw Error{EDGEAD_ERR_ENGINE, error.message};
  }
}

Capability open_device(const EngineSource &source, Plan &plan) {
  const std::string &device = source.target.device;
  int index = 0, count = 0;
  const char *const first = device.data() + std::min<std::size_t>(4, device.size());
  const char *const end = device.data() + device.size();
  const auto read = std::from_chars(first, end, index);
  if (device.compare(0, 4, "cuda") != 0 || (first != end && (read.ec != std::errc() || read.ptr != end)))
    refuse(source.target.target + ": " + TITLE + " runs on a GPU; its device is cuda, or cuda1 for the second one");
  const Cuda &cuda = plan.cuda;
  cuda.check(cuda.init(0), "the NVIDIA driver does not start; update it, or look whether a GPU is there");
  cuda.check(cuda.device_count(&count), "the NVIDIA driver counts no GPUs");
  if (index < 0 || index >= count)
    refuse("there is no GPU cuda" + std::to_string(index) + ": this machine has " + std::to_string(count));
  cuda.check(cuda.device_get(&plan.device, index), "the GPU cannot be had");
  char name[128] = "";
  Capability here{};
  cuda.check(cuda.device_name(name, sizeof name, plan.device), "the GPU has no name");
  plan.gpu = name;
  for (const auto &[attribute, value] : {std::pair{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &here.major},
                                         std::pair{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &here.minor}})
    cuda.check(cuda.device_attribute(value, attribute, plan.device), plan.gpu + " has no compute capability");
  return here;
}

std::string type_name(nvinfer1::DataType type) {
  if (type == nvinfer1::DataType::kUINT8) return "u8";
  if (type == nvinfer1::DataType::kINT32) return "i32";
  return type == nvinfer1::DataType::kFLOAT ? "f32" : "of another type";
}

void check_tensors(const EngineSource &source, const nvinfer1::ICudaEngine &engine) {
  std::vector<GraphTensor> inputs, outputs;
  for (std::int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
    const char *name = engine.getIOTensorName(i);
    const nvinfer1::Dims dims = engine.getTensorShape(name);
    std::vector<std::int64_t> sizes;
    bool fixed = dims.nbDims >= 0;
    for (std::int32_t d = 0; d < dims.nbDims; ++d) {
      sizes.push_back(dims.d[d]);
      fixed = fixed && dims.d[d] >= 0;
    }
    const bool input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    const std::string shape = fixed ? shape_text(sizes.data(), sizes.size()) : "";
    (input ? inputs : outputs).push_back({name, type_name(engine.getTensorDataType(name)), shape});
  }
  check_graph(source, inputs, outputs);
}

}  // namespace

const char *Cuda::text(CUresult result) const noexcept {
  const char *found = nullptr;
  return error_string(result, &found) == CUDA_SUCCESS && found != nullptr ? found : "unknown error";
}

void Cuda::check(CUresult result, const std::string &what) const {
  if (result == CUDA_SUCCESS) return;
  throw Error{result == CUDA_ERROR_NO_DEVICE ? EDGEAD_ERR_RUNTIME_MISSING : EDGEAD_ERR_ENGINE,
              what + ": " + text(result)};
}

void Log::log(Severity severity, const char *message) noexcept {
  if (severity > Severity::kWARNING) return;
  try {
    if (severity <= Severity::kERROR) {
      const std::lock_guard<std::mutex> lock(mutex_);
      last_ = last_line(message);
    }
    if (log_) log_(severity <= Severity::kERROR ? EDGEAD_LOG_WARNING : EDGEAD_LOG_INFO, name_ + ": " + message);
  } catch (...) {  // no memory for a message
  }
}

std::string Log::last() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_;
}

Plan::~Plan() {
  if (context == nullptr) return;
  {
    const Current current(cuda, context);
    engine.reset();
    runtime.reset();
  }
  cuda.context_release(device);
}

std::shared_ptr<const Plan> load(const EngineSource &source) {
  const auto plan = std::make_shared<Plan>();
  plan->title = TITLE;
  plan->shapes = source.shapes;
  plan->outputs = source.outputs;
  plan->cuda = load_cuda();
  const Library library = open_library(source);
  plan->version = version_of(library);
  plan->path = library.path("createInferRuntime_INTERNAL");
  void *(*create)(void *, std::int32_t) = nullptr;
  library.load(create, "createInferRuntime_INTERNAL", "it is not TensorRT's");
  const Capability here = open_device(source, *plan);
  plan->detector = check_identity(source, *plan, here);
  const Cuda &cuda = plan->cuda;
  cuda.check(cuda.context_retain(&plan->context, plan->device), plan->gpu + " gives no context");
  const Current current(cuda, plan->context);
  cuda.check(current.result(), plan->gpu + " does not take its context");
  plan->log = std::make_unique<Log>(TITLE, source.options.log);
  plan->runtime.reset(static_cast<nvinfer1::IRuntime *>(create(plan->log.get(), NV_TENSORRT_VERSION)));
  if (!plan->runtime) refuse(std::string(TITLE) + " does not start: " + plan->log->last());
  const auto bytes = source.file(source.target.main_file);
  plan->engine.reset(plan->runtime->deserializeCudaEngine(bytes->data(), bytes->size()));
  if (!plan->engine)
    refuse(std::string(TITLE) + " cannot load " + source.target.main_file + ": " + plan->log->last() + "; export " +
           plan->detector + " again on this machine");
  check_tensors(source, *plan->engine);
  return plan;
}

}  // namespace edgead::tensorrt

#endif
