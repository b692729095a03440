#pragma once
// Writes small, valid bundles for the tests of model and session: engine `null`, whose map the test chooses.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bundle/sha256.hpp"

namespace maker {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// A folder that goes with the object.
class Folder {
 public:
  explicit Folder(const std::string &name) {
    std::string pattern = (fs::temp_directory_path() / (name + "-XXXXXX")).string();
    path_ = mkdtemp(pattern.data());
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path path() const { return path_; }

 private:
  fs::path path_;
};

struct Spec {
  std::uint32_t input_h = 32, input_w = 48;
  std::uint32_t grid_h = 8, grid_w = 12;
  std::uint32_t map_h = 16, map_w = 24;
  std::vector<float> grid;  // grid_h * grid_w, what the null engine gives; empty = a ramp
  std::string score_rule = "max_grid";
  std::uint32_t top_k = 0;
  Json roi = nullptr, window = nullptr;
  std::uint32_t resize_h = 0, resize_w = 0;  // 0 = the input's size
  std::string mode = "exact";
  double threshold = 50, pixel = 60, median = 10;
  double golden_shift = 0;  // added to the expected scores: the self-test then fails
  std::string engine = "null";
  Json score = nullptr;
  bool unverified = false;  // with a second target, null:fp16, that was not verified
  double unverified_shift = 0;  // as golden_shift, of that one
};

inline std::string raw(const void *data, std::size_t bytes) { return {static_cast<const char *>(data), bytes}; }

inline std::uint32_t crc32(const std::string &data) {
  std::uint32_t crc = ~0U;
  for (const char c : data) {
    crc ^= static_cast<std::uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0);
  }
  return ~crc;
}

inline std::string big(std::uint32_t v) {
  const char bytes[] = {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                        static_cast<char>(v)};
  return {bytes, 4};
}

// An RGB PNG, stored without compression.
inline std::string png(std::uint32_t width, std::uint32_t height, const std::vector<std::uint8_t> &rgb) {
  const auto chunk = [](const std::string &kind, const std::string &data) {
    return big(static_cast<std::uint32_t>(data.size())) + kind + data + big(crc32(kind + data));
  };
  std::string lines;
  for (std::uint32_t y = 0; y < height; ++y)
    lines += std::string(1, '\0') + raw(rgb.data() + std::size_t{y} * width * 3, std::size_t{width} * 3);
  std::string stream("\x78\x01", 2);
  for (std::size_t at = 0; at < lines.size(); at += 65535) {
    const auto size = static_cast<std::uint16_t>(std::min<std::size_t>(65535, lines.size() - at));
    const char head[] = {static_cast<char>(at + size == lines.size()), static_cast<char>(size),
                         static_cast<char>(size >> 8), static_cast<char>(~size), static_cast<char>(~size >> 8)};
    stream += std::string(head, 5) + lines.substr(at, size);
  }
  std::uint32_t a = 1, b = 0;
  for (const char c : lines) {
    a = (a + static_cast<std::uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  stream += big(b << 16 | a);
  return std::string("\x89PNG\r\n\x1a\n", 8) +
         chunk("IHDR", big(width) + big(height) + std::string("\x08\x02\x00\x00\x00", 5)) + chunk("IDAT", stream) +
         chunk("IEND", "");
}

struct Matrix {
  std::vector<std::int32_t> start;
  std::vector<float> weights;
  std::uint32_t band;
};

// Linear interpolation with half-pixel centres, edges repeated.
inline Matrix linear(std::uint32_t rows, std::uint32_t cols) {
  Matrix m;
  m.band = cols > 1 ? 2 : 1;
  for (std::uint32_t r = 0; r < rows; ++r) {
    double p = (r + 0.5) * cols / rows - 0.5;
    p = p < 0 ? 0 : p > cols - 1.0 ? cols - 1.0 : p;
    auto low = static_cast<std::int32_t>(p);
    if (m.band == 2 && low > static_cast<std::int32_t>(cols) - 2) low = static_cast<std::int32_t>(cols) - 2;
    m.start.push_back(low);
    if (m.band == 1) {
      m.weights.push_back(1.0F);
    } else {
      m.weights.push_back(static_cast<float>(1 - (p - low)));
      m.weights.push_back(static_cast<float>(p - low));
    }
  }
  return m;
}

inline std::vector<float> ramp(const Spec &spec) {
  std::vector<float> grid;
  for (std::uint32_t i = 0; i < spec.grid_h * spec.grid_w; ++i) grid.push_back(static_cast<float>(i));
  return grid;
}

// The operator on `grid`, by its definition: what a test expects as the map.
inline std::vector<double> expected_map(const Spec &spec) {
  const std::vector<float> grid = spec.grid.empty() ? ramp(spec) : spec.grid;
  const Matrix h = linear(spec.map_h, spec.grid_h), w = linear(spec.map_w, spec.grid_w);
  std::vector<double> map(std::size_t{spec.map_h} * spec.map_w, 0.0);
  for (std::uint32_t y = 0; y < spec.map_h; ++y)
    for (std::uint32_t x = 0; x < spec.map_w; ++x)
      for (std::uint32_t i = 0; i < h.band; ++i)
        for (std::uint32_t j = 0; j < w.band; ++j)
          map[y * spec.map_w + x] += double{h.weights[y * h.band + i]} * double{w.weights[x * w.band + j]} *
                                     double{grid[(static_cast<std::uint32_t>(h.start[y]) + i) * spec.grid_w +
                                                 static_cast<std::uint32_t>(w.start[x]) + j]};
  return map;
}

inline void write(const fs::path &path, const std::string &data) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
}

// Writes the files, their hash list and manifest.json into the folder `root`.
inline void seal(const fs::path &root, std::map<std::string, std::string> files, const Json &manifest) {
  files["manifest.json"] = manifest.dump(1) + "\n";
  std::string list;
  for (const auto &[name, data] : files) {
    write(root / name, data);
    list += edgead::sha256_hex(data.data(), data.size()) + "  " + name + "\n";
  }
  write(root / "MANIFEST.sha256", list);
}

inline Json thresholds(const Spec &spec) {
  return {{"image", spec.threshold}, {"pixel", spec.pixel}, {"image_median", spec.median},
          {"pixel_median", spec.median}, {"method", Json::object()}};
}

inline void make(const fs::path &root, const Spec &spec = {}) {
  const std::vector<float> grid = spec.grid.empty() ? ramp(spec) : spec.grid;
  const Matrix h = linear(spec.map_h, spec.grid_h), w = linear(spec.map_w, spec.grid_w);
  const std::vector<double> map = expected_map(spec);
  const std::vector<float> map_f(map.begin(), map.end());
  double score = *std::max_element(grid.begin(), grid.end());
  if (spec.score_rule == "max") score = *std::max_element(map.begin(), map.end());
  if (spec.score_rule == "graph") score = spec.score.get<double>();
  std::map<std::string, std::string> files;
  files["post/h.start.i32"] = raw(h.start.data(), h.start.size() * 4);
  files["post/h.weights.f32"] = raw(h.weights.data(), h.weights.size() * 4);
  files["post/w.start.i32"] = raw(w.start.data(), w.start.size() * 4);
  files["post/w.weights.f32"] = raw(w.weights.data(), w.weights.size() * 4);
  files["graph.onnx"] = "no engine reads this one";
  files["targets/null/map.f32"] = raw(grid.data(), grid.size() * 4);
  files["targets/null/null.json"] = Json{{"input", {1, spec.input_h, spec.input_w, 3}},
                                         {"map", {1, 1, spec.grid_h, spec.grid_w}},
                                         {"map_file", "map.f32"},
                                         {"score", spec.score}}
                                        .dump();
  files["golden/good.png"] = png(spec.input_w, spec.input_h,
                                 std::vector<std::uint8_t>(std::size_t{spec.input_h} * spec.input_w * 3, 128));
  files["golden/good.f32"] = raw(map_f.data(), map_f.size() * 4);
  const std::string target = spec.engine + ":fp32";
  const auto matrix = [](const char *name, const Matrix &m, std::uint32_t rows, std::uint32_t cols) {
    const std::string base = std::string("post/") + name;
    return Json{{"rows", rows}, {"cols", cols}, {"band", m.band}, {"start_file", base + ".start.i32"},
                {"weights_file", base + ".weights.f32"}};
  };
  Json outputs = Json::array({{{"name", "anomaly_map"}, {"dtype", "float32"}, {"shape", {1, 1, spec.grid_h, spec.grid_w}}}});
  if (spec.score_rule == "graph") outputs.push_back({{"name", "image_score"}, {"dtype", "float32"}, {"shape", {1}}});
  const std::string hash = "sha256:" + std::string(64, 'a'), other = "sha256:" + std::string(64, 'b');
  Json manifest = {
      {"schema", 1},
      {"created_by", "bundle_maker"},
      {"detector", {{"name", "test"}, {"preset", "test"}, {"config", Json::object()}}},
      {"geometry",
       {{"height", spec.resize_h != 0 ? spec.resize_h : spec.input_h},
        {"width", spec.resize_w != 0 ? spec.resize_w : spec.input_w},
        {"resampler", "pillow_bilinear"}, {"mode", spec.mode}, {"window", spec.window}, {"roi", spec.roi}}},
      {"post",
       {{"grid", {spec.grid_h, spec.grid_w}}, {"output", {spec.map_h, spec.map_w}}, {"channels", 1}, {"alpha", {1.0}},
        {"gamma", 0.0}, {"gamma_stage", "before"}, {"pad", {0, 0, 0, 0}}, {"upsample", "bilinear"},
        {"blur_sigma", 0.0}, {"blur_truncate", 4.0}, {"border", "reflect"}, {"score_rule", spec.score_rule},
        {"top_k", spec.top_k}}},
      {"operator",
       {{"h", matrix("h", h, spec.map_h, spec.grid_h)}, {"w", matrix("w", w, spec.map_w, spec.grid_w)}}},
      {"graph",
       {{"file", "graph.onnx"}, {"data_files", Json::array()},
        {"input", {{"name", "image"}, {"dtype", "uint8"}, {"shape", {1, spec.input_h, spec.input_w, 3}}}},
        {"outputs", outputs}, {"opset", 17}}},
      {"targets",
       {{{"target", target}, {"engine", spec.engine}, {"precision", "fp32"}, {"device", "cpu"},
         {"main_file", "targets/null/null.json"}, {"files", {"targets/null/null.json", "targets/null/map.f32"}},
         {"config", Json::object()},
         {"identity", {{"machine", "x"}, {"device", "x"}, {"features", Json::array()}, {"engine_version", "1"}}},
         {"thresholds", thresholds(spec)}, {"score_tolerance", 0.001}, {"map_tolerance", 0.001}}}},
      {"reference", thresholds(spec)},
      {"golden",
       {{{"file", "golden/good.png"}, {"kind", "good"},
         {"expected", {{{"target", target}, {"score_raw", score + spec.golden_shift}, {"map_file", "golden/good.f32"}}}}}}},
      {"reports", Json::array()},
      {"provenance",
       {{"created", "2026-11-24T00:00:00Z"}, {"model", hash}, {"seeds", Json::object()}, {"tools", Json::object()},
        {"train", {hash}}, {"calibration", Json::array()}, {"held_out", {other}}, {"validation", Json::array()},
        {"graph_parity", {{"images", 1}, {"score_shift_max", 0.0}, {"score_range", 0.0}, {"map_shift_max", 0.0},
                          {"map_range", 0.0}}}}}};
  if (spec.unverified) {
    Json second = manifest["targets"][0];
    second["target"] = spec.engine + ":fp16";
    second["precision"] = "fp16";
    second["verified"] = false;
    manifest["targets"].push_back(second);
    manifest["golden"][0]["expected"].push_back({{"target", second["target"]},
                                                 {"score_raw", score + spec.unverified_shift},
                                                 {"map_file", "golden/good.f32"}});
  }
  seal(root, files, manifest);
}

}  // namespace maker
