// TensorRT or TensorRT-RTX on an NVIDIA GPU: the engine and its requests. Built where CMake is given TENSORRT_ROOT. No
// test of edgead runs it: none of its machines has a GPU.

#include "engines/backends.hpp"
#include "error.hpp"

#if defined(EDGEAD_HAVE_TENSORRT)

#include <deque>

#include "engines/tensorrt_load.hpp"

namespace edgead {
namespace {

using namespace tensorrt;

// The same bytes twice: pinned on the host, and on the GPU.
struct Staged {
  void *host = nullptr;
  CUdeviceptr device = 0;
  std::size_t bytes = 0;
};

class TensorRtRequest final : public Request {
 public:
  explicit TensorRtRequest(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {
    const Current current(plan_->cuda, plan_->context);
    plan_->cuda.check(current.result(), plan_->gpu + " does not take its context");
    try {
      make();
    } catch (...) {
      free();
      throw;
    }
  }
  ~TensorRtRequest() override {
    const Current current(plan_->cuda, plan_->context);
    free();
  }

  std::uint8_t *input() noexcept override { return static_cast<std::uint8_t *>(input_.host); }
  const void *output(std::size_t index) const noexcept override {
    return index < outputs_.size() ? outputs_[index].host : nullptr;
  }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const Cuda &cuda = plan_->cuda;
    const Current current(cuda, plan_->context);
    CUresult result = current.result();
    if (result == CUDA_SUCCESS) result = cuda.to_device(input_.device, input_.host, input_.bytes, stream_);
    if (result == CUDA_SUCCESS && !context_->enqueueV3(stream_)) {
      cuda.stream_synchronize(stream_);
      return refused(error);
    }
    for (const Staged &output : outputs_)
      if (result == CUDA_SUCCESS) result = cuda.to_host(output.host, output.device, output.bytes, stream_);
    const CUresult done = cuda.stream_synchronize(stream_);  // whatever happened: nothing writes to `host` afterwards
    if (result == CUDA_SUCCESS) result = done;
    if (result == CUDA_SUCCESS) return EDGEAD_OK;
    return error.fail(EDGEAD_ERR_ENGINE, "%s failed on an image: %s", plan_->title.c_str(), cuda.text(result));
  }

 private:
  edgead_status refused(const ErrorSink &error) const noexcept {
    try {
      return error.fail(EDGEAD_ERR_ENGINE, "%s refused an image: %s", plan_->title.c_str(), plan_->log->last().c_str());
    } catch (...) {
      return error.fail(EDGEAD_ERR_ENGINE, "%s refused an image", plan_->title.c_str());
    }
  }

  void make() {
    const Cuda &cuda = plan_->cuda;
    cuda.check(cuda.stream_create(&stream_, CU_STREAM_NON_BLOCKING), plan_->gpu + " gives no stream");
    context_.reset(plan_->engine->createExecutionContext());
    if (!context_)
      raise(EDGEAD_ERR_ENGINE, "%s needs %lld MiB of scratch memory beside its weights, which %s has not free: %s; end "
            "other programs on the GPU, or use a smaller detector", plan_->detector.c_str(),
            static_cast<long long>(plan_->engine->getDeviceMemorySizeV2() >> 20), plan_->gpu.c_str(),
            plan_->log->last().c_str());
    stage(input_, INPUT_NAME, plan_->shapes.input_bytes());
    for (const OutputTensor &output : plan_->outputs)
      stage(outputs_.emplace_back(), output.name.c_str(), output.count() * sizeof(float));  // or int32
  }

  void stage(Staged &tensor, const char *name, std::size_t bytes) {
    const Cuda &cuda = plan_->cuda;
    const std::string what = plan_->gpu + " has not memory enough for " + name + "; end other programs on the GPU";
    tensor.bytes = bytes;
    cuda.check(cuda.host_alloc(&tensor.host, bytes, 0), what);
    cuda.check(cuda.device_alloc(&tensor.device, bytes), what);
    if (!context_->setTensorAddress(name, reinterpret_cast<void *>(tensor.device)))
      raise(EDGEAD_ERR_ENGINE, "%s does not take a buffer for %s: %s", plan_->title.c_str(), name,
            plan_->log->last().c_str());
  }

  void free() noexcept {
    const Cuda &cuda = plan_->cuda;
    context_.reset();
    for (Staged &output : outputs_) free(output);
    free(input_);
    if (stream_ != nullptr) cuda.stream_destroy(stream_);
  }

  void free(Staged &tensor) noexcept {
    if (tensor.device != 0) plan_->cuda.device_free(tensor.device);
    if (tensor.host != nullptr) plan_->cuda.host_free(tensor.host);
  }

  std::shared_ptr<const Plan> plan_;
  CUstream stream_ = nullptr;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  Staged input_;
  std::deque<Staged> outputs_;
};

class TensorRtEngine final : public Engine {
 public:
  explicit TensorRtEngine(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<TensorRtRequest>(plan_); }
  std::string version() const override { return plan_->version; }
  std::string library() const override { return plan_->path; }

 private:
  std::shared_ptr<const Plan> plan_;
};

}  // namespace

std::shared_ptr<Engine> open_tensorrt(const EngineSource &source) {
  if (source.target.engine != EDGEAD_TENSORRT_ENGINE)
    throw Error{EDGEAD_ERR_UNSUPPORTED, source.target.target + ": this build has " EDGEAD_TENSORRT_ENGINE
                                            "; build with -D TENSORRT_ROOT=DIR of the other SDK"};
  return std::make_shared<TensorRtEngine>(tensorrt::load(source));
}

}  // namespace edgead

#else

namespace edgead {

std::shared_ptr<Engine> open_tensorrt(const EngineSource &source) {
  throw Error{EDGEAD_ERR_UNSUPPORTED, source.target.target + ": this build has no TensorRT; build with -D "
                                                             "TENSORRT_ROOT=DIR, or run with --runtime python"};
}

}  // namespace edgead

#endif
