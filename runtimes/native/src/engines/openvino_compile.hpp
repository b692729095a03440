#pragma once
// An IR or an ONNX graph, compiled by OpenVINO for latency at exactly the asked precision.

#include <memory>

#include "engines/backends.hpp"
#include "engines/openvino_api.hpp"

namespace edgead::openvino {

// What requests share. Destroyed from the end: the compiled graph goes before the core that made it.
struct Compiled {
  explicit Compiled(const std::string &library) : api(library) {}

  Api api;
  TensorShapes shapes{};
  std::vector<OutputTensor> outputs;
  Handle<ov_core> core{nullptr, nullptr};
  std::unique_ptr<ElementTypes> types;
  Handle<ov_compiled_model> graph{nullptr, nullptr};
};

// Throws Error as open_engine does.
std::shared_ptr<const Compiled> compile(const EngineSource &source);

}  // namespace edgead::openvino
