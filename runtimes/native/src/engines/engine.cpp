#include "engines/engine.hpp"

#include <algorithm>
#include <cstring>

#include "engines/backends.hpp"
#include "engines/tiled.hpp"
#include "error.hpp"

namespace edgead {

TensorShapes tensor_shapes(const Manifest &manifest) {
  const GraphEntry &graph = manifest.graph;
  const PostRecipe &post = manifest.post;
  const auto grid = manifest.graph_grid();
  return {graph.batch, graph.input_height, graph.input_width, post.channels, grid[0], grid[1], graph.has_score};
}

TensorShapes whole_shapes(const Manifest &manifest) {
  TensorShapes shapes = tensor_shapes(manifest);
  if (!manifest.tiling) return shapes;
  shapes.height = manifest.tiling->rows.size();
  shapes.width = manifest.tiling->columns.size();
  shapes.grid_height = manifest.tiling->rows.grid();
  shapes.grid_width = manifest.tiling->columns.grid();
  return shapes;
}

std::shared_ptr<Engine> open_engine(const Bundle &bundle, const TargetEntry &target, const EngineOptions &options) {
  const Manifest &manifest = bundle.manifest();
  std::shared_ptr<Engine> engine = open_engine(
      [&bundle](const std::string &name) { return bundle.shared_file(name); }, tensor_shapes(manifest), target, options);
  return manifest.tiling ? open_tiled(std::move(engine), whole_shapes(manifest), *manifest.tiling) : engine;
}

std::shared_ptr<Engine> open_engine(const FileLookup &file, const TensorShapes &shapes, const TargetEntry &target,
                                    const EngineOptions &options) {
  const std::int64_t n = shapes.batch;
  std::vector<OutputTensor> outputs{{MAP_NAME, "f32", {n, shapes.channels, shapes.grid_height, shapes.grid_width}}};
  if (shapes.has_score) outputs.push_back({SCORE_NAME, "f32", {n}});
  const EngineSource source{file, shapes, target, options, outputs};
  const std::string inner = target.engine.substr(0, target.engine.find('+'));
  const bool windows = target.engine == inner + WINDOW_SEARCH_SUFFIX && target.head;
  const bool bank = target.engine == inner + BANK_SEARCH_SUFFIX && target.bank;
  OpenEngine open = nullptr;
  if (inner == "openvino") open = open_openvino;
  if (inner == "onnxruntime") open = open_onnxruntime;
  if (inner == "tensorrt" || inner == "tensorrt_rtx") open = open_tensorrt;
  if (open != nullptr && windows) return open_window_search(source, open);
  if (open != nullptr && bank) return open_bank_search(source, open);
  if (open != nullptr && inner == target.engine) return open(source);
  if (target.engine == "null") return open_null(source);
  throw Error{EDGEAD_ERR_UNSUPPORTED, target.target + ": libedgead has no engine '" + target.engine +
                                          "', it has openvino and onnxruntime, both also with " +
                                          WINDOW_SEARCH_SUFFIX + " and " + BANK_SEARCH_SUFFIX +
                                          ", tensorrt on demand, and null; choose another target"};
}

TargetEntry query_target(const TargetEntry &target, const std::vector<std::string> &searched) {
  constexpr const char *head_name = "head.json";  // beside the query graph, for Python
  TargetEntry inner = target;
  inner.engine = target.engine.substr(0, target.engine.find('+'));
  inner.files.clear();
  for (const std::string &file : target.files)
    if (file.substr(file.rfind('/') + 1) != head_name &&  // npos + 1 = 0: no folder
        std::find(searched.begin(), searched.end(), file) == searched.end())
      inner.files.push_back(file);
  inner.head.reset();
  inner.bank.reset();
  return inner;
}

std::size_t OutputTensor::count() const {
  std::size_t product = 1;
  for (const std::int64_t size : dims) product *= static_cast<std::size_t>(size);
  return product;
}

std::string shape_text(const std::int64_t *dims, std::size_t rank) {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) text += (i > 0 ? "," : "") + std::to_string(dims[i]);
  return text + "]";
}

namespace {

std::string described(const GraphTensor &tensor) {
  return "'" + tensor.name + "' " + tensor.type + " " + (tensor.shape.empty() ? "of dynamic shape" : tensor.shape);
}

std::string described(const std::vector<GraphTensor> &tensors) {
  std::string text;
  for (const GraphTensor &tensor : tensors) text += (text.empty() ? "" : ", ") + described(tensor);
  return text.empty() ? "none" : text;
}

void check_tensors(const std::string &file, const char *side, const std::vector<GraphTensor> &found,
                   const std::vector<GraphTensor> &wanted) {
  bool same = found.size() == wanted.size();
  for (const GraphTensor &want : wanted) {
    bool there = false;
    for (const GraphTensor &tensor : found)
      there = there || (tensor.name == want.name && tensor.type == want.type && tensor.shape == want.shape);
    same = same && there;
  }
  if (!same)
    throw Error{EDGEAD_ERR_ENGINE, file + ": the graph's " + side + " are " + described(found) +
                                       "; the manifest says " + described(wanted) + "; export the MODEL again"};
}

}  // namespace

void check_graph(const EngineSource &source, const std::vector<GraphTensor> &inputs,
                 const std::vector<GraphTensor> &outputs) {
  const TensorShapes &shapes = source.shapes;
  const std::int64_t image[4] = {shapes.batch, shapes.height, shapes.width, 3};
  check_tensors(source.target.main_file, "inputs", inputs, {{INPUT_NAME, "u8", shape_text(image, 4)}});
  std::vector<GraphTensor> wanted;
  for (const OutputTensor &output : source.outputs)
    wanted.push_back({output.name, output.type, shape_text(output.dims.data(), output.dims.size())});
  check_tensors(source.target.main_file, "outputs", outputs, wanted);
}

std::string_view last_line(const char *message) noexcept {
  std::string_view text = message != nullptr ? message : "";
  constexpr std::string_view blank = " \t\r\n";
  const std::size_t end = text.find_last_not_of(blank);
  if (end == std::string_view::npos) return "no reason given";
  text = text.substr(0, end + 1);
  text = text.substr(text.find_last_of('\n') + 1);  // npos + 1 = 0
  return text.substr(text.find_first_not_of(blank));
}

}  // namespace edgead
