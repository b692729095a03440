#pragma once
// What open_engine chooses from. One file per engine; each throws Error as open_engine does.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engines/engine.hpp"

namespace edgead {

// Everything that an engine is opened with. The references live as long as the call.
struct EngineSource {
  const FileLookup &file;
  const TensorShapes &shapes;
  const TargetEntry &target;
  const EngineOptions &options;
};

std::shared_ptr<Engine> open_openvino(const EngineSource &source);
std::shared_ptr<Engine> open_onnxruntime(const EngineSource &source);
std::shared_ptr<Engine> open_null(const EngineSource &source);

// Names and sizes of a graph, as an engine finds them, against the manifest's. All sizes must be static.
struct GraphTensor {
  std::string name, type;    // type: "u8", "f32", or whatever else the engine calls it
  std::string shape;         // "[1,8,8,3]", as shape_text writes it; "" = dynamic
};

std::string shape_text(const std::int64_t *dims, std::size_t rank);

// Throws Error(ENGINE) unless the graph has the one input and the outputs of `source.shapes`, and no others.
void check_graph(const EngineSource &source, const std::vector<GraphTensor> &inputs,
                 const std::vector<GraphTensor> &outputs);

// The last line of an engine's message that says something: engines lead with their own source lines.
std::string_view last_line(const char *message) noexcept;

constexpr const char *INPUT_NAME = "image";
constexpr const char *MAP_NAME = "anomaly_map";
constexpr const char *SCORE_NAME = "image_score";

}  // namespace edgead
