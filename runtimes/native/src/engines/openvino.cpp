// OpenVINO through its C interface: an IR or an ONNX graph, tuned for latency, at exactly the asked precision.

#include <algorithm>
#include <cctype>
#include <cstring>

#include "buffer.hpp"
#include "engines/backends.hpp"
#include "engines/openvino_api.hpp"
#include "error.hpp"

namespace edgead {
namespace {

using namespace openvino;

// What requests share. Destroyed from the end: the compiled graph goes before the core that made it.
struct Compiled {
  explicit Compiled(const std::string &library) : api(library) {}

  Api api;
  TensorShapes shapes{};
  Handle<ov_core> core{nullptr, nullptr};
  std::unique_ptr<ElementTypes> types;
  Handle<ov_compiled_model> graph{nullptr, nullptr};
};

template <typename T>
Buffer<T> &allocated(Buffer<T> &buffer, std::size_t n) {
  if (!buffer.allocate(n)) throw std::bad_alloc();
  return buffer;
}

class OpenVinoRequest final : public Request {
 public:
  explicit OpenVinoRequest(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {
    const Api &api = compiled_->api;
    const TensorShapes &shapes = compiled_->shapes;
    allocated(input_, shapes.input_bytes());
    allocated(map_, shapes.map_count());
    allocated(score_, shapes.batch);
    request_ = api.take<ov_infer_request>(api.call.ov_infer_request_free, "OpenVINO gives no request", [&](auto out) {
      return api.call.ov_compiled_model_create_infer_request(compiled_->graph.get(), out);
    });
    bind(tensors_[0], INPUT_NAME, compiled_->types->u8, input_.data(),
         {shapes.batch, shapes.height, shapes.width, 3});
    bind(tensors_[1], MAP_NAME, compiled_->types->f32, map_.data(),
         {shapes.batch, shapes.channels, shapes.grid_height, shapes.grid_width});
    if (shapes.has_score) bind(tensors_[2], SCORE_NAME, compiled_->types->f32, score_.data(), {shapes.batch});
  }

  std::uint8_t *input() noexcept override { return input_.data(); }
  const float *map() const noexcept override { return map_.data(); }
  const float *score() const noexcept override { return compiled_->shapes.has_score ? score_.data() : nullptr; }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const Functions &call = compiled_->api.call;
    try {
      const Status status = call.ov_infer_request_infer(request_.get());
      if (status == OK) return EDGEAD_OK;
      // The message is OpenVINO's last one of any thread; it is a copy that must be freed.
      const Handle<const char> message = compiled_->api.last_message();
      const auto line = last_line(message != nullptr ? message.get() : call.ov_get_error_info(status));
      return error.fail(EDGEAD_ERR_ENGINE, "OpenVINO failed on an image: %.*s", static_cast<int>(line.size()),
                        line.data());
    } catch (...) {
      return error.fail(EDGEAD_ERR_ENGINE, "OpenVINO failed on an image: it threw an exception");
    }
  }

 private:
  void bind(Handle<ov_tensor> &tensor, const char *name, ElementType type, void *data,
            std::vector<std::int64_t> dims) {
    const Api &api = compiled_->api;
    const std::string what = std::string("OpenVINO does not take a buffer for ") + name;
    tensor = api.take<ov_tensor>(api.call.ov_tensor_free, what, [&](ov_tensor **out) {
      return api.call.ov_tensor_create_from_host_ptr(type, {static_cast<std::int64_t>(dims.size()), dims.data()}, data,
                                                     out);
    });
    api.check(api.call.ov_infer_request_set_tensor(request_.get(), name, tensor.get()), what);
  }

  // Destroyed from the end: the request, its tensors, the memory under them.
  std::shared_ptr<const Compiled> compiled_;
  Buffer<std::uint8_t> input_;
  Buffer<float> map_, score_;
  Handle<ov_tensor> tensors_[3] = {{nullptr, nullptr}, {nullptr, nullptr}, {nullptr, nullptr}};
  Handle<ov_infer_request> request_{nullptr, nullptr};
};

class OpenVinoEngine final : public Engine {
 public:
  explicit OpenVinoEngine(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<OpenVinoRequest>(compiled_); }
  std::string version() const override { return compiled_->api.version; }
  std::string library() const override { return compiled_->api.path; }

 private:
  std::shared_ptr<const Compiled> compiled_;
};

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

std::string precision_hint(const TargetEntry &target) {
  // int8: the graph holds its own quantisation; what is left of it runs in float32.
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
    const Bytes &bytes = source.file(name);
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
  const Bytes &text = source.file(file);
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

void compile(const EngineSource &source, Compiled &compiled, const ov_model *model) {
  const Api &api = compiled.api;
  const EngineOptions &options = source.options;
  const std::string device = device_of(compiled, source.target), hint = precision_hint(source.target);
  // The precision is always set: OpenVINO's own default is bf16 on CPUs that have it. Threads are those of all
  // streams together, which is what OpenVINO takes.
  std::vector<std::string> config{"INFERENCE_PRECISION_HINT", hint, "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS",
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
  char *given = nullptr;
  api.check(api.call.ov_compiled_model_get_property(compiled.graph.get(), "INFERENCE_PRECISION_HINT", &given), what);
  const std::string precision = given != nullptr ? given : "";
  api.call.ov_free(given);
  if (precision != hint)
    throw Error{EDGEAD_ERR_ENGINE, source.target.target + ": this " + device + " would run " + precision + ", not " +
                                       source.target.precision + "; choose another target"};
}

}  // namespace

std::shared_ptr<Engine> open_openvino(const EngineSource &source) {
  precision_hint(source.target);
  auto compiled = std::make_shared<Compiled>(source.options.library);
  const Api &api = compiled->api;
  compiled->shapes = source.shapes;
  compiled->core = api.take<ov_core>(api.call.ov_core_free, "OpenVINO does not start", api.call.ov_core_create);
  compiled->types = std::make_unique<ElementTypes>(api, compiled->core.get());
  const Handle<ov_model> model = read(source, *compiled);
  compile(source, *compiled, model.get());
  return std::make_shared<OpenVinoEngine>(std::move(compiled));
}

}  // namespace edgead
