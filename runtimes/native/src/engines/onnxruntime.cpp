// ONNX Runtime through its C interface, on the CPU: graph.onnx as it is. Built where CMake finds its header.

#include <deque>

#include "buffer.hpp"
#include "engines/backends.hpp"
#include "error.hpp"

#if defined(EDGEAD_HAVE_ONNXRUNTIME)

#include "engines/onnxruntime_load.hpp"

namespace edgead {
namespace {

using namespace onnxruntime;

class OnnxRequest final : public Request {
 public:
  explicit OnnxRequest(std::shared_ptr<const Loaded> loaded) : loaded_(std::move(loaded)) {
    const Api &api = loaded_->api;
    const TensorShapes &s = loaded_->shapes;
    if (!input_.allocate(s.input_bytes())) throw std::bad_alloc();
    binding_ = api.take<OrtIoBinding>(api.call->ReleaseIoBinding, "ONNX Runtime gives no binding", [&](auto out) {
      return api.call->CreateIoBinding(loaded_->session.get(), out);
    });
    const OrtValue *image = value(image_, input_.data(), s.input_bytes(), ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
                                  {s.batch, s.height, s.width, 3});
    api.check(api.call->BindInput(binding_.get(), INPUT_NAME, image), "ONNX Runtime does not take an input");
    for (const OutputTensor &output : loaded_->outputs) bind_output(output);
  }

  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    return index < outputs_.size() ? outputs_[index].data.data() : nullptr;
  }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const OrtApi *call = loaded_->api.call;
    try {
      OrtStatus *status = call->RunWithBinding(loaded_->session.get(), nullptr, binding_.get());
      if (status == nullptr) return EDGEAD_OK;
      const Handle<OrtStatus> owned(status, call->ReleaseStatus);
      const std::string_view line = last_line(call->GetErrorMessage(status));
      return error.fail(EDGEAD_ERR_ENGINE, "ONNX Runtime failed on an image: %.*s", static_cast<int>(line.size()),
                        line.data());
    } catch (...) {
      return error.fail(EDGEAD_ERR_ENGINE, "ONNX Runtime failed on an image: it threw an exception");
    }
  }

 private:
  const OrtValue *value(Handle<OrtValue> &made, void *data, std::size_t bytes, ONNXTensorElementDataType type,
                        const std::vector<std::int64_t> &dims) {
    const Api &api = loaded_->api;
    const std::string what = "ONNX Runtime does not take a buffer";
    const auto memory = api.take<OrtMemoryInfo>(api.call->ReleaseMemoryInfo, what, [&](OrtMemoryInfo **out) {
      return api.call->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, out);
    });
    made = api.take<OrtValue>(api.call->ReleaseValue, what, [&](OrtValue **out) {
      return api.call->CreateTensorWithDataAsOrtValue(memory.get(), data, bytes, dims.data(), dims.size(), type, out);
    });
    return made.get();
  }

  struct Output {
    Buffer<float> data;  // or int32
    Handle<OrtValue> value{nullptr, nullptr};
  };

  void bind_output(const OutputTensor &output) {
    outputs_.emplace_back();
    Output &made = outputs_.back();
    if (!made.data.allocate(output.count())) throw std::bad_alloc();
    const OrtValue *bound =
        value(made.value, made.data.data(), output.count() * sizeof(float),
              output.type == "i32" ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
              output.dims);
    loaded_->api.check(loaded_->api.call->BindOutput(binding_.get(), output.name.c_str(), bound),
                       "ONNX Runtime does not take an output");
  }

  // Destroyed from the end: the binding, its values, the memory under them.
  std::shared_ptr<const Loaded> loaded_;
  Buffer<std::uint8_t> input_;
  Handle<OrtValue> image_{nullptr, nullptr};
  std::deque<Output> outputs_;  // which stay where they are
  Handle<OrtIoBinding> binding_{nullptr, nullptr};
};

class OnnxEngine final : public Engine {
 public:
  explicit OnnxEngine(std::shared_ptr<const Loaded> loaded) : loaded_(std::move(loaded)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<OnnxRequest>(loaded_); }
  std::string version() const override { return loaded_->api.version; }
  std::string library() const override { return loaded_->api.path; }

 private:
  std::shared_ptr<const Loaded> loaded_;
};

}  // namespace

std::shared_ptr<Engine> open_onnxruntime(const EngineSource &source) {
  return std::make_shared<OnnxEngine>(onnxruntime::load(source));
}

}  // namespace edgead

#else

namespace edgead {

std::shared_ptr<Engine> open_onnxruntime(const EngineSource &source) {
  throw Error{EDGEAD_ERR_UNSUPPORTED, source.target.target +
                                          ": this build has no ONNX Runtime; build with -D "
                                          "EDGEAD_ONNXRUNTIME_INCLUDE=DIR, or run with --runtime python"};
}

}  // namespace edgead

#endif
