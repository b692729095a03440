#pragma once
// What a device needs of manifest.json, in the names of edgead/bundle/FORMAT.md.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edgead/edgead.h"
#include "tiling.hpp"

namespace edgead {

struct Roi {
  std::uint32_t x, y, width, height;
};

struct Tiles {
  std::uint32_t rows, columns, height, width;
};

struct Geometry {
  std::uint32_t resampler;  // EDGEAD_RESAMPLER_*
  bool shorter_side;        // mode
  std::uint32_t height, width;
  std::optional<std::array<std::uint32_t, 2>> window;  // h, w
  std::optional<Roi> roi;
  std::optional<Tiles> tiles;
};

struct PostRecipe {
  std::uint32_t grid_height, grid_width, output_height, output_width, channels;
  std::vector<float> alpha;
  float gamma;
  std::uint32_t gamma_stage;  // EDGEAD_GAMMA_*
  std::uint32_t score_rule;   // EDGEAD_SCORE_*
  std::uint32_t top_k;
  std::uint32_t pad_height, pad_width;  // cells above and below, left and right, together
};

struct OperatorMatrix {
  std::uint32_t rows, cols, band;
  std::string start_file, weights_file;
};

// A matrix as its files hold it.
struct BandedMatrix {
  std::uint32_t rows, cols, band;
  std::vector<std::int32_t> start;
  std::vector<float> weights;

  edgead_banded view() const { return {rows, cols, band, start.data(), weights.data()}; }
};

struct GraphEntry {
  std::string file;
  std::vector<std::string> data_files;
  std::uint32_t batch, input_height, input_width;
  bool has_score;  // an output image_score
};

struct ThresholdValues {
  double image, pixel, image_median, pixel_median;
};

// What an engine's name ends with where libedgead searches a bank behind it.
constexpr const char *WINDOW_SEARCH_SUFFIX = "+window_search";
constexpr const char *BANK_SEARCH_SUFFIX = "+bank_search";

struct SearchLevel {
  std::uint32_t height, width, window;
  std::string bank_file;
};

struct WindowSearch {
  std::uint32_t references, nearest, dim, bank_type;  // EDGEAD_BANK_*
  bool weighted;
  std::vector<SearchLevel> levels;
};

struct BankSearch {
  std::uint32_t vectors, dim, neighbours;  // neighbours 0: no image_score
  std::string bank_file, neighbours_file;  // the latter empty without neighbours
};

struct TargetEntry {
  std::string target, engine, precision, device, main_file, engine_version;
  std::vector<std::string> files;
  ThresholdValues thresholds;
  double score_tolerance, map_tolerance;
  std::string rest = "fp32";  // of int8: what is not quantised is computed in it, or in "bf16" where that is fast
  bool verified;  // false: nobody has seen what it gives; its self-test cannot be skipped
  std::optional<WindowSearch> head;  // of engines "...+window_search", and only theirs
  std::optional<BankSearch> bank;    // likewise of engines "...+bank_search"
};

struct GoldenExpectation {
  std::string target, map_file;
  double score_raw;
};

struct GoldenImage {
  std::string file, kind;
  std::vector<GoldenExpectation> expected;
};

struct Manifest {
  std::uint32_t schema;
  std::string created_by, detector;
  Geometry geometry;
  PostRecipe post;
  OperatorMatrix operator_h, operator_w;
  GraphEntry graph;
  std::optional<Tiling> tiling;  // where the graph sees tiles of the image
  std::vector<TargetEntry> targets;
  std::vector<GoldenImage> golden;
  std::vector<std::string> files;  // every file that the manifest names, sorted, each once

  // (h, w) of the preprocessed image, and of the graph's map.
  std::array<std::uint32_t, 2> image_size() const {
    return geometry.window ? *geometry.window : std::array<std::uint32_t, 2>{geometry.height, geometry.width};
  }
  std::array<std::uint32_t, 2> graph_grid() const {
    return tiling ? std::array<std::uint32_t, 2>{tiling->rows.cells, tiling->columns.cells}
                  : std::array<std::uint32_t, 2>{post.grid_height, post.grid_width};
  }
};

// Parses and checks everything that FORMAT.md demands. `source` names the file in messages. Throws Error(BUNDLE).
Manifest parse_manifest(const std::string &text, const std::string &source);

// What is wrong with the limits, or empty: each must be finite and above its median.
std::string thresholds_problem(const ThresholdValues &thresholds);

}  // namespace edgead
