// Libraries that only pretend to be OpenVINO's, one per FAKE_…: `old` is an old release, `partial` lacks functions,
// `stranger` has nothing to do with it. `whole` has everything: a graph of one shape whose fate is chosen by the
// environment variable FAKE_OPENVINO, and books on what was made and freed, and on the configuration it got.

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string>

#include "engines/openvino_c.hpp"

using namespace edgead::openvino;

extern "C" {

int fake_openvino_is_a_library() { return 1; }

#if !defined(FAKE_stranger)
Status ov_get_openvino_version(Version *version) {
#if defined(FAKE_old)
  *version = {"2023.3.0-13775-ceeafaf64f3-releases/2023/3", "OpenVINO Runtime"};
#else
  *version = {"2026.9.0-1-fake", "OpenVINO Runtime"};
#endif
  return OK;
}

void ov_version_free(Version *version) { *version = {}; }
#endif
}

#if defined(FAKE_whole)

namespace {

constexpr Status FAILED = -1;
constexpr ElementType U8 = 107, F32 = 103;  // unlike any release's: nobody may know them
long long live = 0;                         // objects that were made and not yet freed
std::string config;
bool probed = false;

bool asked_for(const char *fate) {
  const char *given = std::getenv("FAKE_OPENVINO");
  return given != nullptr && std::strcmp(given, fate) == 0;
}

char *copied(const char *text) {
  ++live;
  return std::strcpy(new char[std::strlen(text) + 1], text);
}

template <typename T>
Status made(T **out, T *object) {
  ++live;
  *out = object;
  return OK;
}

template <typename T>
void freed(T *object) {
  if (object == nullptr) return;
  --live;
  delete object;
}

struct Tensor {
  const char *name;
  std::int64_t dims[4], rank;
  ElementType type;
};
const Tensor GRAPH[3] = {{"image", {1, 4, 6, 3}, 4, U8},
                         {"anomaly_map", {1, 2, 2, 3}, 4, F32},
                         {"image_score", {1}, 1, F32}};

}  // namespace

struct ov_core {};
struct ov_compiled_model {};
struct ov_model {
  bool probe;
};
struct ov_infer_request {
  void *bound[3];
};
struct ov_output_const_port {
  Tensor tensor;
};
struct ov_tensor {
  void *data;
  bool owned;
  ElementType type;
};

extern "C" {

long long fake_openvino_live() { return live; }
const char *fake_openvino_config() { return config.c_str(); }

const char *ov_get_last_err_msg() {
  return asked_for("silent") ? nullptr : copied("Exception from src/somewhere.cpp:1:\n  the reason\n");
}
void ov_free(const char *text) {
  if (text == nullptr) return;
  --live;
  delete[] text;
}
const char *ov_get_error_info(Status) { return "general error"; }

Status ov_core_create(ov_core **core) { return made(core, new ov_core()); }
void ov_core_free(ov_core *core) { freed(core); }
Status ov_core_get_available_devices(const ov_core *, Devices *devices) {
  devices->size = 2;
  devices->names = new char *[2]{copied("CPU"), copied("GPU.1")};
  return OK;
}
void ov_available_devices_free(Devices *devices) {
  for (std::size_t i = 0; i < devices->size; ++i) ov_free(devices->names[i]);
  delete[] devices->names;
}
Status ov_core_read_model_from_memory_buffer(const ov_core *, const char *text, std::size_t size, const ov_tensor *,
                                             ov_model **model) {
  probed = std::string(text, size).find("\"probe\"") != std::string::npos;
  return made(model, new ov_model{probed});
}
Status ov_core_compile_model(const ov_core *, const ov_model *, const char *device, std::size_t count,
                             ov_compiled_model **compiled, ...) {
  if (asked_for("refuse")) return FAILED;
  config = device;
  va_list values;
  va_start(values, compiled);
  for (std::size_t i = 0; i < count; ++i) config.append(i % 2 == 0 ? " " : "=").append(va_arg(values, const char *));
  va_end(values);
  return made(compiled, new ov_compiled_model());
}
void ov_model_free(ov_model *model) { freed(model); }
Status ov_model_inputs_size(const ov_model *model, std::size_t *size) {
  *size = model->probe ? 2 : 1;
  return OK;
}
Status ov_model_outputs_size(const ov_model *, std::size_t *size) {
  *size = 2;
  return OK;
}
Status ov_model_const_input_by_index(const ov_model *model, std::size_t index, ov_output_const_port **port) {
  Tensor tensor = GRAPH[0];
  if (model->probe) tensor.type = index == 0 ? U8 : F32;
  return made(port, new ov_output_const_port{tensor});
}
Status ov_model_const_output_by_index(const ov_model *, std::size_t index, ov_output_const_port **port) {
  return made(port, new ov_output_const_port{GRAPH[1 + index]});
}
void ov_output_const_port_free(ov_output_const_port *port) { freed(port); }
Status ov_port_get_any_name(const ov_output_const_port *port, char **name) {
  if (asked_for("nameless")) return FAILED;
  *name = copied(port->tensor.name);
  return OK;
}
Status ov_port_get_element_type(const ov_output_const_port *port, ElementType *type) {
  *type = port->tensor.type;
  return OK;
}
Status ov_const_port_get_shape(const ov_output_const_port *port, Shape *shape) {
  ++live;
  *shape = {port->tensor.rank, new std::int64_t[4]};
  std::memcpy(shape->dims, port->tensor.dims, sizeof port->tensor.dims);
  return OK;
}
Status ov_shape_free(Shape *shape) {
  --live;
  delete[] shape->dims;
  return OK;
}
Status ov_tensor_create(ElementType type, Shape shape, ov_tensor **tensor) {
  return made(tensor, new ov_tensor{new char[static_cast<std::size_t>(shape.dims[0])], true, type});
}
Status ov_tensor_create_from_host_ptr(ElementType type, Shape, void *data, ov_tensor **tensor) {
  return made(tensor, new ov_tensor{data, false, type});
}
Status ov_tensor_data(const ov_tensor *tensor, void **data) {
  *data = tensor->data;
  return OK;
}
void ov_tensor_free(ov_tensor *tensor) {
  if (tensor != nullptr && tensor->owned) delete[] static_cast<char *>(tensor->data);
  freed(tensor);
}
Status ov_core_get_property(const ov_core *, const char *, const char *, char **value) {
  *value = copied(asked_for("no bf16") ? "f32" : "bf16");
  return OK;
}
Status ov_compiled_model_get_property(const ov_compiled_model *, const char *key, char **value) {
  const std::size_t at = config.find(std::string(" ") + key + "=");
  const std::size_t begin = at + std::strlen(key) + 2;
  const bool fewer = asked_for("fewer") && std::strcmp(key, "NUM_STREAMS") == 0;
  *value = copied(asked_for("precision") ? "f64"
                  : fewer                ? "1"
                                         : config.substr(begin, config.find(' ', begin) - begin).c_str());
  return OK;
}
Status ov_compiled_model_create_infer_request(const ov_compiled_model *, ov_infer_request **request) {
  return made(request, new ov_infer_request());
}
void ov_compiled_model_free(ov_compiled_model *compiled) { freed(compiled); }
Status ov_infer_request_set_tensor(ov_infer_request *request, const char *name, const ov_tensor *tensor) {
  if (asked_for("unbound")) return FAILED;
  for (int i = 0; i < 3; ++i)
    if (std::strcmp(name, GRAPH[i].name) == 0 && tensor->type == GRAPH[i].type) {
      request->bound[i] = tensor->data;
      return OK;
    }
  return FAILED;
}
Status ov_infer_request_infer(ov_infer_request *request) {
  if (asked_for("fail") || asked_for("silent")) return FAILED;
  if (asked_for("throw")) throw 7;
  const float level = static_cast<const unsigned char *>(request->bound[0])[71];
  for (int i = 0; i < 12; ++i) static_cast<float *>(request->bound[1])[i] = level + static_cast<float>(i);
  static_cast<float *>(request->bound[2])[0] = level;
  return OK;
}
void ov_infer_request_free(ov_infer_request *request) { freed(request); }
}

#endif
