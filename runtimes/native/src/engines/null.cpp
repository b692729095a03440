// The engine `null`: gives a stored map back at once, so that a measurement shows edgead's own cost. Its graph is
// JSON, {"input": [N, H, W, 3], "map": [N, K, h, w], "map_file": "name.f32", "score": number or null}; map_file lies
// beside it and holds the map as raw float32.

#include <cstring>

#include "buffer.hpp"
#include "bundle/json.hpp"
#include "engines/backends.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::uint64_t MOST_BYTES = 1 << 16;

struct Stored {
  TensorShapes shapes{};
  std::vector<float> map;
  float score = 0.0f;
};

class NullRequest final : public Request {
 public:
  explicit NullRequest(std::shared_ptr<const Stored> stored) : stored_(std::move(stored)) {
    if (!input_.allocate(stored_->shapes.input_bytes()) || !score_.allocate(stored_->shapes.batch))
      throw std::bad_alloc();
    for (std::uint32_t i = 0; i < stored_->shapes.batch; ++i) score_[i] = stored_->score;
  }

  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    if (index == 0) return stored_->map.data();
    return index == 1 && stored_->shapes.has_score ? score_.data() : nullptr;
  }
  edgead_status infer(const ErrorSink &) noexcept override { return EDGEAD_OK; }

 private:
  std::shared_ptr<const Stored> stored_;
  Buffer<std::uint8_t> input_;
  Buffer<float> score_;
};

class NullEngine final : public Engine {
 public:
  explicit NullEngine(std::shared_ptr<const Stored> stored) : stored_(std::move(stored)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<NullRequest>(stored_); }
  std::string version() const override { return ""; }
  std::string library() const override { return ""; }

 private:
  std::shared_ptr<const Stored> stored_;
};

std::string shape_of(const JsonField &field) {
  std::vector<std::int64_t> dims;
  for (const JsonField &size : field.items()) dims.push_back(size.integer());
  return shape_text(dims.data(), dims.size());
}

}  // namespace

std::shared_ptr<Engine> open_null(const EngineSource &source) {
  const std::string &file = source.target.main_file;
  const std::string name = "null engine: " + file;
  const auto bytes = source.file(file);
  const Bytes &text = *bytes;
  const auto stored = std::make_shared<Stored>();
  stored->shapes = source.shapes;
  std::string map_file;
  try {
    const JsonValue tree = parse_json({reinterpret_cast<const char *>(text.data()), text.size()}, name, MOST_BYTES);
    const JsonField graph(tree, name), score = graph.at("score");
    std::vector<GraphTensor> outputs{{MAP_NAME, "f32", shape_of(graph.at("map"))}};
    if (!score.is_null()) {
      stored->score = static_cast<float>(score.number());
      const std::int64_t batch = source.shapes.batch;
      outputs.push_back({SCORE_NAME, "f32", shape_text(&batch, 1)});
    }
    check_graph(source, {{INPUT_NAME, "u8", shape_of(graph.at("input"))}}, outputs);
    map_file = graph.at("map_file").text();
  } catch (const Error &error) {  // the reader speaks of a bundle; here it is an engine's file
    throw Error{EDGEAD_ERR_ENGINE, error.message};
  }
  if (map_file.empty() || map_file.find('/') != std::string::npos)
    throw Error{EDGEAD_ERR_ENGINE, name + ": map_file must be a plain file name"};
  const auto kept = source.file(file.substr(0, file.rfind('/') + 1) + map_file);  // npos + 1 = 0: no folder
  const Bytes &raw = *kept;
  stored->map.resize(source.shapes.map_count());
  if (raw.size() != stored->map.size() * sizeof(float))
    throw Error{EDGEAD_ERR_ENGINE, name + ": " + map_file + " has " + std::to_string(raw.size()) +
                                       " bytes, the map needs " + std::to_string(stored->map.size() * sizeof(float))};
  std::memcpy(stored->map.data(), raw.data(), raw.size());
  return std::make_shared<NullEngine>(stored);
}

}  // namespace edgead
