#if defined(EDGEAD_HAVE_ONNXRUNTIME)

#include "engines/onnxruntime_load.hpp"

#include <cstdio>

#include "engines/library.hpp"
#include "error.hpp"

namespace edgead::onnxruntime {
namespace {

// The first version that takes external data from memory. The table of functions only ever grows at its end, so any
// header since then will do with any library since then.
constexpr std::uint32_t NEEDED_VERSION = 18;
static_assert(ORT_API_VERSION >= NEEDED_VERSION, "onnxruntime_c_api.h of 1.18 or newer is needed");

std::string type_name(ONNXTensorElementDataType type) {
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) return "u8";
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32) return "i32";
  return type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? "f32" : "of another type";
}

GraphTensor described(const Api &api, const std::string &name, const OrtTypeInfo *type) {
  const std::string what = "ONNX Runtime cannot describe " + name;
  const OrtTensorTypeAndShapeInfo *tensor = nullptr;
  api.check(api.call->CastTypeInfoToTensorInfo(type, &tensor), what);
  if (tensor == nullptr) return {name, "no tensor", ""};
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::size_t rank = 0;
  api.check(api.call->GetTensorElementType(tensor, &element), what);
  api.check(api.call->GetDimensionsCount(tensor, &rank), what);
  std::vector<std::int64_t> dims(rank);
  api.check(api.call->GetDimensions(tensor, dims.data(), rank), what);
  bool fixed = true;
  for (const std::int64_t size : dims) fixed = fixed && size >= 0;  // a dynamic one is -1
  return {name, type_name(element), fixed ? shape_text(dims.data(), rank) : ""};
}

std::vector<GraphTensor> tensors_of(const Loaded &loaded, bool inputs) {
  const Api &api = loaded.api;
  const OrtSession *session = loaded.session.get();
  const std::string what = "ONNX Runtime cannot list the graph's tensors";
  OrtAllocator *allocator = nullptr;
  std::size_t n = 0;
  api.check(api.call->GetAllocatorWithDefaultOptions(&allocator), what);
  api.check((inputs ? api.call->SessionGetInputCount : api.call->SessionGetOutputCount)(session, &n), what);
  std::vector<GraphTensor> tensors;
  for (std::size_t i = 0; i < n; ++i) {
    char *text = nullptr;
    api.check((inputs ? api.call->SessionGetInputName : api.call->SessionGetOutputName)(session, i, allocator, &text),
              what);
    const std::string name = text;
    api.check(api.call->AllocatorFree(allocator, text), what);
    const auto type = api.take<OrtTypeInfo>(api.call->ReleaseTypeInfo, what, [&](OrtTypeInfo **out) {
      return (inputs ? api.call->SessionGetInputTypeInfo : api.call->SessionGetOutputTypeInfo)(session, i, out);
    });
    tensors.push_back(described(api, name, type.get()));
  }
  return tensors;
}

// `kept` holds what the options refer to, until a session is made of them.
Handle<OrtSessionOptions> session_options(const EngineSource &source, const Api &api,
                                          std::vector<std::shared_ptr<const Bytes>> &kept) {
  const std::string what = "ONNX Runtime does not take an option";
  auto options = api.take<OrtSessionOptions>(api.call->ReleaseSessionOptions, what, api.call->CreateSessionOptions);
  OrtSessionOptions *o = options.get();
  api.check(api.call->SetSessionLogSeverityLevel(o, ORT_LOGGING_LEVEL_FATAL), what);  // errors come as status
  api.check(api.call->SetSessionGraphOptimizationLevel(o, ORT_ENABLE_ALL), what);
  api.check(api.call->SetSessionExecutionMode(o, ORT_SEQUENTIAL), what);
  api.check(api.call->SetInterOpNumThreads(o, 1), what);
  // One pool for all requests, however many run at once: `streams` needs nothing here. 0 = its own choice, and then
  // it pins them. There is no cache of compiled graphs.
  if (source.options.pin_cores && source.options.threads > 0 && source.options.log)
    source.options.log(EDGEAD_LOG_WARNING, source.target.target + ": pin_cores has no effect, ONNX Runtime pins its "
                                               "threads only where it chooses their number (threads = 0)");
  api.check(api.call->SetIntraOpNumThreads(o, static_cast<int>(source.options.threads)), what);
  // As in runtimes/ort_runtime.py: spin between operators, not between images.
  api.check(api.call->AddSessionConfigEntry(o, "session.intra_op.allow_spinning", "1"), what);
  api.check(api.call->AddSessionConfigEntry(o, "session.force_spinning_stop", "1"), what);

  // External data, under the names that the graph has for it: relative to its own folder. ONNX Runtime copies it.
  const std::string &file = source.target.main_file, folder = file.substr(0, file.rfind('/') + 1);
  std::vector<const char *> names;
  std::vector<char *> buffers;
  std::vector<std::size_t> sizes;
  for (const std::string &name : source.target.files) {
    if (name == file || name.compare(0, folder.size(), folder) != 0) continue;
    kept.push_back(source.file(name));
    const Bytes &bytes = *kept.back();
    names.push_back(name.c_str() + folder.size());
    // Only read, though the declaration does not say so.
    buffers.push_back(const_cast<char *>(reinterpret_cast<const char *>(bytes.data())));
    sizes.push_back(bytes.size());
  }
  if (!names.empty())
    api.check(api.call->AddExternalInitializersFromFilesInMemory(o, names.data(), buffers.data(), sizes.data(),
                                                                 names.size()),
              what);
  return options;
}

}  // namespace

Api::Api(const std::string &library_path) {
  const std::string needed = "edgead needs ONNX Runtime 1.18 or newer: pip install onnxruntime";
  const Library library = Library::open(
      {"ONNX Runtime", library_path, "EDGEAD_ONNXRUNTIME_LIBRARY", {"libonnxruntime.so.1", "libonnxruntime.so"},
       "pip install onnxruntime, and give the path of its onnxruntime/capi/libonnxruntime.so.* as engine_library or "
       "in the environment variable EDGEAD_ONNXRUNTIME_LIBRARY"});
  path = library.path("OrtGetApiBase");
  const OrtApiBase *(*get_base)() = nullptr;
  library.load(get_base, "OrtGetApiBase", needed);
  const OrtApiBase *base = get_base();
  version = base->GetVersionString();
  // Asked before GetApi, which would print to stderr.
  unsigned major = 0, minor = 0;
  const bool known = std::sscanf(version.c_str(), "%u.%u", &major, &minor) == 2;
  if (known && (major > 1 || (major == 1 && minor >= NEEDED_VERSION))) call = base->GetApi(NEEDED_VERSION);
  if (call == nullptr)
    throw Error{EDGEAD_ERR_RUNTIME_MISSING, path + " is version '" + version + "'; " + needed};
}

void Api::check(OrtStatus *status, const std::string &what) const {
  if (status == nullptr) return;
  const Handle<OrtStatus> owned(status, call->ReleaseStatus);
  throw Error{EDGEAD_ERR_ENGINE, what + ": " + std::string(last_line(call->GetErrorMessage(status)))};
}

std::shared_ptr<const Loaded> load(const EngineSource &source) {
  const TargetEntry &target = source.target;
  // int8: the graph holds its own quantisation.
  if (target.precision != "fp32" && target.precision != "int8")
    throw Error{EDGEAD_ERR_UNSUPPORTED, target.target + ": ONNX Runtime runs fp32 and int8 here, not '" +
                                            target.precision + "'"};
  if (target.device != "cpu")
    throw Error{EDGEAD_ERR_ENGINE, target.target + ": ONNX Runtime is driven on the cpu only, not on '" +
                                       target.device + "'"};
  const auto loaded = std::make_shared<Loaded>(source.options.library);
  const Api &api = loaded->api;
  loaded->shapes = source.shapes;
  loaded->outputs = source.outputs;
  loaded->environment = api.take<OrtEnv>(api.call->ReleaseEnv, "ONNX Runtime does not start", [&](OrtEnv **out) {
    return api.call->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "edgead", out);
  });
  std::vector<std::shared_ptr<const Bytes>> data;
  const Handle<OrtSessionOptions> options = session_options(source, api, data);
  const auto kept = source.file(target.main_file);
  const Bytes &graph = *kept;
  loaded->session = api.take<OrtSession>(
      api.call->ReleaseSession, "ONNX Runtime cannot load " + target.main_file, [&](OrtSession **out) {
        return api.call->CreateSessionFromArray(loaded->environment.get(), graph.data(), graph.size(), options.get(),
                                                out);
      });
  check_graph(source, tensors_of(*loaded, true), tensors_of(*loaded, false));
  return loaded;
}

}  // namespace edgead::onnxruntime

#endif
