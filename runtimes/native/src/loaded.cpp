#include "loaded.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "judge.hpp"

namespace edgead {
namespace {

void log(const LoadOptions &options, int level, const std::string &message) {
  if (options.engine.log) options.engine.log(level, message);
}

// The target asked for; an explicit one never falls back. Else the first whose engine opens: engines that are
// missing are passed over and named in the log, one that is there and refuses the work is not.
void open_first(Loaded &loaded, const LoadOptions &options) {
  const Bundle &bundle = *loaded.bundle;
  if (!options.target.empty()) {
    loaded.target = &bundle.entry(options.target);
    loaded.engine = open_engine(bundle, *loaded.target, options.engine);
    return;
  }
  std::string reasons;
  for (const TargetEntry &entry : bundle.manifest().targets) {
    try {
      loaded.engine = open_engine(bundle, entry, options.engine);
      loaded.target = &entry;
      log(options, EDGEAD_LOG_INFO, "running " + entry.target);
      return;
    } catch (const Error &error) {
      if (error.status != EDGEAD_ERR_RUNTIME_MISSING && error.status != EDGEAD_ERR_UNSUPPORTED) throw;
      log(options, EDGEAD_LOG_WARNING, entry.target + " is passed over: " + error.message);
      reasons += (reasons.empty() ? "" : "; ") + entry.target + ": " + error.message;
    }
  }
  raise(EDGEAD_ERR_RUNTIME_MISSING, "no target of this bundle can run here: %s", reasons.c_str());
}

double distance(double value, double expected) {
  const double shift = std::abs(value - expected);
  return std::isnan(shift) ? std::numeric_limits<double>::infinity() : shift;
}

}  // namespace

std::shared_ptr<const Loaded> load(const std::string &path, const LoadOptions &options, std::uint32_t generation) {
  auto loaded = std::make_shared<Loaded>();
  const std::shared_ptr<Bundle> opened = Bundle::open(path);
  loaded->bundle = opened;
  const Bundle &bundle = *opened;
  const Manifest &manifest = bundle.manifest();
  loaded->generation = generation;
  loaded->cpu_mask = options.engine.cpu_mask;
  loaded->shapes = whole_shapes(manifest);
  loaded->operator_h = bundle.operator_h();
  loaded->operator_w = bundle.operator_w();
  if (options.without_engine) {
    const TargetEntry &shown = options.target.empty() ? manifest.targets.front() : bundle.entry(options.target);
    loaded->thresholds = std::make_unique<SharedThresholds>(bundle.thresholds(shown.target));
    return loaded;
  }
  if (loaded->shapes.batch != 1)
    raise(EDGEAD_ERR_UNSUPPORTED, "%s works on %u images at once; a session judges one frame: export it for batch 1",
          path.c_str(), loaded->shapes.batch);
  open_first(*loaded, options);
  if (!loaded->target->verified)
    log(options, EDGEAD_LOG_WARNING,
        loaded->target->target + " was not verified where it was compiled; only its self-test speaks for it");
  loaded->engine_version = loaded->engine->version();
  loaded->engine_library = loaded->engine->library();
  loaded->thresholds = std::make_unique<SharedThresholds>(bundle.thresholds(loaded->target->target));
  for (const GoldenImage &image : manifest.golden) {
    const auto expected = std::find_if(image.expected.begin(), image.expected.end(), [&](const auto &one) {
      return one.target == loaded->target->target;
    });
    if (expected == image.expected.end())
      raise(EDGEAD_ERR_BUNDLE, "%s: golden image %s has no expectation for %s", path.c_str(), image.file.c_str(),
            loaded->target->target.c_str());
    loaded->golden.push_back({bundle.golden_pixels(image).rgb, expected->score_raw, bundle.golden_map(*expected)});
  }
  opened->forget_files();
  return loaded;
}

edgead_self_test_result self_test(const std::shared_ptr<const Loaded> &loaded) {
  edgead_self_test_result found{};
  found.struct_size = sizeof found;
  found.score_tolerance = loaded->target->score_tolerance;
  found.map_tolerance = loaded->target->map_tolerance;
  Judge judge(loaded);
  std::vector<float> map(judge.map_count());
  for (const Golden &golden : loaded->golden) {
    const float score = judge.golden_scores(golden, map.data());
    found.score_shift_max = std::max(found.score_shift_max, distance(score, golden.score_raw));
    for (std::size_t i = 0; i < map.size(); ++i)
      found.map_shift_max = std::max(found.map_shift_max, distance(map[i], golden.map[i]));
    ++found.images;
  }
  found.passed = found.score_shift_max <= found.score_tolerance && found.map_shift_max <= found.map_tolerance;
  loaded->self_test.store(found.passed ? EDGEAD_SELF_TEST_PASSED : EDGEAD_SELF_TEST_FAILED, std::memory_order_release);
  return found;
}

std::string self_test_problem(const Loaded &loaded, const edgead_self_test_result &found) {
  const TargetEntry &target = *loaded.target;
  char text[640];
  if (target.verified)
    std::snprintf(text, sizeof text,
                  "%s does not give on this machine what it gave at export (engine %s then, %s here): golden scores "
                  "are off by up to %.3g (%.3g is allowed), maps by %.3g (%.3g); use another target, or export on a "
                  "machine like this one",
                  target.target.c_str(), target.engine_version.c_str(), loaded.engine_version.c_str(),
                  found.score_shift_max, found.score_tolerance, found.map_shift_max, found.map_tolerance);
  else
    std::snprintf(text, sizeof text,
                  "%s was not verified where it was compiled, and does not give here what its graph gave there: golden "
                  "scores are off by up to %.3g (%.3g is allowed), maps by %.3g (%.3g); use another target; edgead "
                  "verify BUNDLE DATA --target %s says here what that does to decisions",
                  target.target.c_str(), found.score_shift_max, found.score_tolerance, found.map_shift_max,
                  found.map_tolerance, target.target.c_str());
  return text;
}

}  // namespace edgead
