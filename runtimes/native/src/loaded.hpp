#pragma once
// One bundle, opened, with the engine of one target: what all sessions of a model share.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "engines/engine.hpp"
#include "thresholds.hpp"

namespace edgead {

// A golden image and what the target gave for it at export.
struct Golden {
  Bytes rgb;
  double score_raw;
  std::vector<float> map;
};

// edgead_model_options, its strings copied.
struct LoadOptions {
  EngineOptions engine;
  std::string target;  // empty = the first that can be opened
  bool without_engine = false;
};

struct Loaded {
  std::shared_ptr<const Bundle> bundle;
  const TargetEntry *target = nullptr;  // of the bundle; NULL without an engine
  std::shared_ptr<Engine> engine;       // likewise
  std::string engine_version, engine_library;
  TensorShapes shapes{};  // of the engine
  BandedMatrix operator_h, operator_w;
  std::vector<Golden> golden;
  std::uint64_t cpu_mask = 0;
  std::uint32_t generation = 0;
  mutable std::unique_ptr<SharedThresholds> thresholds;
  mutable std::atomic<std::uint32_t> self_test{EDGEAD_SELF_TEST_NOT_RUN};  // FAILED stops every session

  const Manifest &manifest() const { return bundle->manifest(); }
};

// Opens, verifies and compiles. Throws Error.
std::shared_ptr<const Loaded> load(const std::string &path, const LoadOptions &options, std::uint32_t generation);

// Runs the golden images and notes the outcome in `loaded`. Throws Error where the engine fails.
edgead_self_test_result self_test(const std::shared_ptr<const Loaded> &loaded);

// The sentence for a failed self-test: how far, and where the target was made.
std::string self_test_problem(const Loaded &loaded, const edgead_self_test_result &found);

}  // namespace edgead
