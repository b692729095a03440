#pragma once
// TensorRT's library and the CUDA driver, opened at run time, and what must hold before they see a plan.

#include <cuda.h>

#include <NvInferRuntime.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engines/backends.hpp"

namespace edgead::tensorrt {

// libcuda's functions, by the names that cuda.h gives them in this version.
struct Cuda {
  decltype(&cuInit) init;
  decltype(&cuDeviceGetCount) device_count;
  decltype(&cuDeviceGet) device_get;
  decltype(&cuDeviceGetName) device_name;
  decltype(&cuDeviceGetAttribute) device_attribute;
  decltype(&cuDevicePrimaryCtxRetain) context_retain;
  decltype(&cuDevicePrimaryCtxRelease) context_release;
  decltype(&cuCtxPushCurrent) context_push;
  decltype(&cuCtxPopCurrent) context_pop;
  decltype(&cuStreamCreate) stream_create;
  decltype(&cuStreamDestroy) stream_destroy;
  decltype(&cuStreamSynchronize) stream_synchronize;
  decltype(&cuMemAlloc) device_alloc;
  decltype(&cuMemFree) device_free;
  decltype(&cuMemHostAlloc) host_alloc;
  decltype(&cuMemFreeHost) host_free;
  decltype(&cuMemcpyHtoDAsync) to_device;
  decltype(&cuMemcpyDtoHAsync) to_host;
  decltype(&cuGetErrorString) error_string;

  const char *text(CUresult result) const noexcept;
  void check(CUresult result, const std::string &what) const;  // throws Error(ENGINE): "what: the driver's reason"
};

// A GPU's context, current for a scope.
class Current {
 public:
  Current(const Cuda &cuda, CUcontext context) noexcept : cuda_(cuda), result_(cuda.context_push(context)) {}
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
  ~Current() {
    CUcontext popped = nullptr;
    if (result_ == CUDA_SUCCESS) cuda_.context_pop(&popped);
  }
  CUresult result() const noexcept { return result_; }

 private:
  const Cuda &cuda_;
  CUresult result_;
};

// Keeps the library's last complaint for our own message, and hands all of them to the caller's log.
class Log final : public nvinfer1::ILogger {
 public:
  Log(std::string name, std::function<void(int, const std::string &)> log)
      : name_(std::move(name)), log_(std::move(log)) {}
  void log(Severity severity, const char *message) noexcept override;
  std::string last() const;

 private:
  std::string name_;
  std::function<void(int, const std::string &)> log_;
  mutable std::mutex mutex_;
  std::string last_ = "no reason given";
};

// A plan on its GPU, shared by requests. Destroyed from the end, in the GPU's context.
struct Plan {
  Cuda cuda{};
  std::string title, version, path, gpu, detector;  // title: "TensorRT"; version and path of its library
  TensorShapes shapes{};
  std::vector<OutputTensor> outputs;
  CUdevice device = 0;
  CUcontext context = nullptr;
  std::unique_ptr<Log> log;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;

  Plan() = default;
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
  ~Plan();
};

// Throws Error as open_engine does. The identity beside the plan is looked at before the library sees the plan.
std::shared_ptr<const Plan> load(const EngineSource &source);

}  // namespace edgead::tensorrt
