#include "engines/openvino_compile.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "error.hpp"

namespace edgead::openvino {
namespace {

// The device in OpenVINO's spelling. Throws Error(ENGINE) where it is not here.
std::string device_of(const Compiled &compiled, const TargetEntry &target) {
  std::string device = target.device;
  std::transform(device.begin(), device.end(), device.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  Devices found{};
  const Functions &call = compiled.api.call;
  compiled.api.check(call.ov_core_get_available_devices(compiled.core.get(), &found), "OpenVINO finds no device");
  bool known = false;
  std::string all;
  for (std::size_t i = 0; i < found.size; ++i) {
    const std::string name = found.names[i];
    known = known || name == device || name.substr(0, name.find('.')) == device;
    all += (i > 0 ? ", " : "") + name;
  }
  call.ov_available_devices_free(&found);
  if (!known)
    throw Error{EDGEAD_ERR_ENGINE, target.target + ": OpenVINO finds no device '" + device + "' here, it has " + all};
  return device;
}

constexpr const char *PRECISION = "INFERENCE_PRECISION_HINT";

// Throws Error(UNSUPPORTED). int8: the graph holds its own quantisation, this is of what is left of it.
std::string precision_hint(const TargetEntry &target) {
  if (target.precision == "fp32" || target.precision == "int8") return "f32";
  if (target.precision == "bf16") return "bf16";
  if (target.precision == "fp16") return "f16";
  throw Error{EDGEAD_ERR_UNSUPPORTED, target.target + ": OpenVINO runs fp32, bf16, fp16 and int8 here, not '" +
                                          target.precision + "'"};
}

bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The weights of an IR in memory that OpenVINO owns, so that nobody else must keep it: graphs refer to it as long as
// they live. None where the target has no .bin file.
Handle<ov_tensor> weights_of(const EngineSource &source, const Compiled &compiled) {
  const Api &api = compiled.api;
  Handle<ov_tensor> tensor{nullptr, api.call.ov_tensor_free};
  for (const std::string &name : source.target.files) {
    if (name == source.target.main_file || !ends_with(name, ".bin")) continue;
    const auto kept = source.file(name);
    const Bytes &bytes = *kept;
    std::int64_t size = static_cast<std::int64_t>(bytes.size());
    tensor = api.take<ov_tensor>(api.call.ov_tensor_free, "OpenVINO has no memory for " + name, [&](ov_tensor **out) {
      return api.call.ov_tensor_create(compiled.types->u8, {1, &size}, out);
    });
    void *data = nullptr;
    api.check(api.call.ov_tensor_data(tensor.get(), &data), "OpenVINO has no memory for " + name);
    if (size > 0) std::memcpy(data, bytes.data(), bytes.size());
  }
  return tensor;
}

GraphTensor described(const Compiled &compiled, const ov_output_const_port *port) {
  const Functions &call = compiled.api.call;
  GraphTensor tensor{"", "of unknown type", ""};
  char *name = nullptr;
  if (call.ov_port_get_any_name(port, &name) == OK && name != nullptr) {
    tensor.name = name;
    call.ov_free(name);
  }
  ElementType type = 0;
  if (call.ov_port_get_element_type(port, &type) == OK) tensor.type = compiled.types->name(type);
  Shape shape{};
  if (call.ov_const_port_get_shape(port, &shape) == OK) {  // fails for a dynamic shape
    tensor.shape = shape_text(shape.dims, static_cast<std::size_t>(shape.rank));
    call.ov_shape_free(&shape);
  }
  return tensor;
}

std::vector<GraphTensor> tensors_of(const Compiled &compiled, const ov_model *model, const std::string &file,
                                    Status (*count)(const ov_model *, std::size_t *),
                                    Status (*at)(const ov_model *, std::size_t, ov_output_const_port **)) {
  const std::string what = "OpenVINO cannot list the tensors of " + file;
  std::size_t n = 0;
  compiled.api.check(count(model, &n), what);
  std::vector<GraphTensor> tensors;
  for (std::size_t i = 0; i < n; ++i) {
    const auto port = compiled.api.take<ov_output_const_port>(
        compiled.api.call.ov_output_const_port_free, what,
        [&](ov_output_const_port **out) { return at(model, i, out); });
    tensors.push_back(described(compiled, port.get()));
  }
  return tensors;
}

Handle<ov_model> read(const EngineSource &source, const Compiled &compiled) {
  const Api &api = compiled.api;
  const std::string &file = source.target.main_file;
  if (!ends_with(file, ".xml") && source.target.files.size() > 1)
    throw Error{EDGEAD_ERR_UNSUPPORTED, source.target.target + ": OpenVINO reads an ONNX graph with data files only " +
                                            "from a folder; export the MODEL for openvino, which makes an IR"};
  const auto kept = source.file(file);
  const Bytes &text = *kept;
  const Handle<ov_tensor> weights = weights_of(source, compiled);
  auto model = api.take<ov_model>(api.call.ov_model_free, "OpenVINO cannot read " + file, [&](ov_model **out) {
    return api.call.ov_core_read_model_from_memory_buffer(
        compiled.core.get(), reinterpret_cast<const char *>(text.data()), text.size(), weights.get(), out);
  });
  check_graph(source,
              tensors_of(compiled, model.get(), file, api.call.ov_model_inputs_size,
                         api.call.ov_model_const_input_by_index),
              tensors_of(compiled, model.get(), file, api.call.ov_model_outputs_size,
                         api.call.ov_model_const_output_by_index));
  return model;
}

std::string property(const Compiled &compiled, const char *key) {
  char *value = nullptr;
  compiled.api.check(compiled.api.call.ov_compiled_model_get_property(compiled.graph.get(), key, &value),
                     std::string("OpenVINO does not tell ") + key);
  const std::string text = value != nullptr ? value : "";
  compiled.api.call.ov_free(value);
  return text;
}

// Of an int8 graph, the rest in bfloat16 where the bundle asks for it and the device has it: then it is OpenVINO's own
// default. Asked for, OpenVINO computes in bfloat16 on any CPU with AVX-512, by conversions.
std::string hint_on(const Compiled &compiled, const std::string &device, const TargetEntry &target) {
  const std::string hint = precision_hint(target);
  if (target.precision != "int8" || target.rest != "bf16") return hint;
  char *value = nullptr;
  compiled.api.check(compiled.api.call.ov_core_get_property(compiled.core.get(), device.c_str(), PRECISION, &value),
                     std::string("OpenVINO does not tell ") + PRECISION);
  const bool has_bf16 = value != nullptr && std::strcmp(value, "bf16") == 0;
  compiled.api.call.ov_free(value);
  return has_bf16 ? "bf16" : hint;
}

void compile_model(const EngineSource &source, Compiled &compiled, const ov_model *model) {
  const Api &api = compiled.api;
  const EngineOptions &options = source.options;
  const std::string device = device_of(compiled, source.target), hint = hint_on(compiled, device, source.target);
  // The precision is always set: OpenVINO's own default is bf16 on CPUs that have it. Threads are those of all
  // streams together; OpenVINO takes no more than there are cores, and no more streams than threads.
  std::vector<std::string> config{PRECISION, hint, "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS",
                                  std::to_string(options.streams > 0 ? options.streams : 1)};
  const auto add = [&](const char *key, const std::string &value) { config.insert(config.end(), {key, value}); };
  if (device == "CPU") add("ENABLE_CPU_PINNING", options.pin_cores ? "YES" : "NO");
  if (options.threads > 0 && device == "CPU") add("INFERENCE_NUM_THREADS", std::to_string(options.threads));
  if (!options.cache_dir.empty()) add("CACHE_DIR", options.cache_dir);
  const char *arg[12] = {};  // all are passed; OpenVINO reads as many as config has
  for (std::size_t i = 0; i < config.size(); ++i) arg[i] = config[i].c_str();
  const std::string what = "OpenVINO cannot compile " + source.target.main_file + " for " + source.target.target;
  compiled.graph = api.take<ov_compiled_model>(api.call.ov_compiled_model_free, what, [&](ov_compiled_model **out) {
    return api.call.ov_core_compile_model(compiled.core.get(), model, device.c_str(), config.size(), out, arg[0],
                                          arg[1], arg[2], arg[3], arg[4], arg[5], arg[6], arg[7], arg[8], arg[9],
                                          arg[10], arg[11]);
  });
  const std::string precision = property(compiled, PRECISION);
  if (precision != hint)
    throw Error{EDGEAD_ERR_ENGINE, source.target.target + ": this " + device + " would run " + precision + ", not " +
                                       source.target.precision + "; choose another target"};
  const std::string streams = property(compiled, "NUM_STREAMS");
  if (streams != config[5] && options.log)
    options.log(EDGEAD_LOG_WARNING, source.target.target + ": OpenVINO gives " + streams + " streams, not " +
                                        config[5] + ": it has no more threads than that");
}

}  // namespace

std::shared_ptr<const Compiled> compile(const EngineSource &source) {
  precision_hint(source.target);  // refused before anything is opened
  auto compiled = std::make_shared<Compiled>(source.options.library);
  const Api &api = compiled->api;
  compiled->shapes = source.shapes;
  compiled->outputs = source.outputs;
  compiled->core = api.take<ov_core>(api.call.ov_core_free, "OpenVINO does not start", api.call.ov_core_create);
  compiled->types = std::make_unique<ElementTypes>(api, compiled->core.get());
  const Handle<ov_model> model = read(source, *compiled);
  compile_model(source, *compiled, model.get());
  return compiled;
}

}  // namespace edgead::openvino
