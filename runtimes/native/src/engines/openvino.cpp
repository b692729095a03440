// OpenVINO: the engine and its requests. How the graph is compiled stands in openvino_compile.cpp.

#include <deque>

#include "buffer.hpp"
#include "engines/openvino_compile.hpp"

namespace edgead {
namespace {

using namespace openvino;

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
    request_ = api.take<ov_infer_request>(api.call.ov_infer_request_free, "OpenVINO gives no request", [&](auto out) {
      return api.call.ov_compiled_model_create_infer_request(compiled_->graph.get(), out);
    });
    bind(image_, INPUT_NAME, compiled_->types->u8, input_.data(), {shapes.batch, shapes.height, shapes.width, 3});
    for (const OutputTensor &output : compiled_->outputs) {
      outputs_.emplace_back();
      const ElementType type = output.type == "i32" ? compiled_->types->i32 : compiled_->types->f32;
      bind(outputs_.back().tensor, output.name.c_str(), type, allocated(outputs_.back().data, output.count()).data(),
           output.dims);
    }
  }

  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    return index < outputs_.size() ? outputs_[index].data.data() : nullptr;
  }

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
  struct Output {
    Buffer<float> data;  // or int32
    Handle<ov_tensor> tensor{nullptr, nullptr};
  };

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
  Handle<ov_tensor> image_{nullptr, nullptr};
  std::deque<Output> outputs_;  // which stay where they are
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

}  // namespace

std::shared_ptr<Engine> open_openvino(const EngineSource &source) {
  return std::make_shared<OpenVinoEngine>(openvino::compile(source));
}

}  // namespace edgead
