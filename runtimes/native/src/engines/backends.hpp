#pragma once
// What open_engine chooses from. One file per engine; each throws Error as open_engine does.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engines/engine.hpp"

namespace edgead {

// An output that a graph must have.
struct OutputTensor {
  std::string name, type;  // type: "f32" or "i32"; four bytes either way
  std::vector<std::int64_t> dims;

  std::size_t count() const;
};

// Everything that an engine is opened with. The references live as long as the call.
struct EngineSource {
  const FileLookup &file;
  const TensorShapes &shapes;
  const TargetEntry &target;
  const EngineOptions &options;
  const std::vector<OutputTensor> &outputs;  // of the graph; requests give them in this order
};

std::shared_ptr<Engine> open_openvino(const EngineSource &source);
std::shared_ptr<Engine> open_onnxruntime(const EngineSource &source);
std::shared_ptr<Engine> open_tensorrt(const EngineSource &source);
std::shared_ptr<Engine> open_null(const EngineSource &source);

// A head: what `open` makes of the query graph (the target's entry and the graph's outputs are changed for it), and
// the search behind it. The target has a head, which was checked with the manifest.
using OpenEngine = std::shared_ptr<Engine> (*)(const EngineSource &source);
std::shared_ptr<Engine> open_window_search(const EngineSource &source, OpenEngine open);
std::shared_ptr<Engine> open_bank_search(const EngineSource &source, OpenEngine open);

// What the engine of the query graph reads: the target's files but `searched` ones and the manifest's `head` again.
TargetEntry query_target(const TargetEntry &target, const std::vector<std::string> &searched);

// Names and sizes of a graph, as an engine finds them, against the manifest's. All sizes must be static.
struct GraphTensor {
  std::string name, type;    // type: "u8", "f32", "i32", or whatever else the engine calls it
  std::string shape;         // "[1,8,8,3]", as shape_text writes it; "" = dynamic
};

std::string shape_text(const std::int64_t *dims, std::size_t rank);

// Throws Error(ENGINE) unless the graph has the one input of `source.shapes`, the outputs of
// `source.outputs`, and no others.
void check_graph(const EngineSource &source, const std::vector<GraphTensor> &inputs,
                 const std::vector<GraphTensor> &outputs);

// The last line of an engine's message that says something: engines lead with their own source lines.
std::string_view last_line(const char *message) noexcept;

constexpr const char *INPUT_NAME = "image";
constexpr const char *MAP_NAME = "anomaly_map";
constexpr const char *SCORE_NAME = "image_score";

}  // namespace edgead
