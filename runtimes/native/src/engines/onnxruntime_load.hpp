#pragma once
// ONNX Runtime's library and a graph loaded into it. Included only where its header is there.

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

#include "engines/backends.hpp"

namespace edgead::onnxruntime {

template <typename T>
using Handle = std::unique_ptr<T, void (*)(T *)>;

struct Api {
  const OrtApi *call = nullptr;
  std::string version, path;

  // Throws Error(RUNTIME_MISSING). `library`: a path, or empty.
  explicit Api(const std::string &library);

  // Throws Error(ENGINE), "<what>: <ONNX Runtime's own message>", unless the status is NULL.
  void check(OrtStatus *status, const std::string &what) const;

  // What `make` puts into its argument, to be freed by `release`.
  template <typename T, typename Make>
  Handle<T> take(void (*release)(T *), const std::string &what, Make &&make) const {
    T *made = nullptr;
    check(make(&made), what);
    return Handle<T>(made, release);
  }
};

// What requests share. Destroyed from the end: the session goes before its environment.
struct Loaded {
  explicit Loaded(const std::string &library) : api(library) {}

  Api api;
  TensorShapes shapes{};
  std::vector<OutputTensor> outputs;
  Handle<OrtEnv> environment{nullptr, nullptr};
  Handle<OrtSession> session{nullptr, nullptr};
};

// Throws Error as open_engine does.
std::shared_ptr<const Loaded> load(const EngineSource &source);

}  // namespace edgead::onnxruntime
