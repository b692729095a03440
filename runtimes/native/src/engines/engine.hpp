#pragma once
// One small interface for every engine. An engine's library is opened at run time: libedgead links none.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "bundle/bundle.hpp"
#include "edgead/edgead.h"
#include "status.hpp"

namespace edgead {

struct EngineOptions {
  std::uint32_t threads = 0;  // 0 = the engine's choice
  std::uint32_t streams = 1;  // requests that run at once
  bool pin_cores = false;
  std::string library;        // path; empty = environment variable, then the loader's search
  std::string cache_dir;      // empty = no cache
  std::function<void(int level, const std::string &message)> log;  // may be empty
  std::uint64_t cpu_mask = ~std::uint64_t{0};  // EDGEAD_CPU_*, of libedgead's own kernels
};

// What the manifest says the engine's tensors are; an engine checks its graph against it.
struct TensorShapes {
  std::uint32_t batch, height, width;  // image: uint8 (N, H, W, 3)
  std::uint32_t channels, grid_height, grid_width;  // anomaly_map: float32 (N, K, h, w)
  bool has_score;                      // image_score: float32 (N)

  std::size_t input_bytes() const { return std::size_t{batch} * height * width * 3; }
  std::size_t map_count() const { return std::size_t{batch} * channels * grid_height * grid_width; }
};

// Of the graph; and what everything around it sees, which is more where the graph sees tiles.
TensorShapes tensor_shapes(const Manifest &manifest);
TensorShapes whole_shapes(const Manifest &manifest);

// The bytes of a bundle's file, never NULL. Throws Error(BUNDLE) for a name that the bundle has not.
using FileLookup = std::function<std::shared_ptr<const Bytes>(const std::string &name)>;

// One inference at a time, with input and output buffers of its own, bound once. Allocated by create_request.
class Request {
 public:
  virtual ~Request() = default;
  virtual std::uint8_t *input() noexcept = 0;  // input_bytes(), 64-byte aligned
  // Output `index`, valid after infer; NULL beyond the last. A graph of its own: anomaly_map, then image_score.
  virtual const void *output(std::size_t index) const noexcept = 0;
  const float *map() const noexcept { return static_cast<const float *>(output(0)); }    // map_count()
  const float *score() const noexcept { return static_cast<const float *>(output(1)); }  // NULL where there is none
  // Runs the graph. EDGEAD_ERR_ENGINE with the engine's own message where it fails. Throws nothing.
  virtual edgead_status infer(const ErrorSink &error) noexcept = 0;
};

// A compiled graph; shared by requests, usable from several threads. A request keeps what it needs of it alive.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::unique_ptr<Request> create_request() = 0;  // throws Error
  virtual std::string version() const = 0;                // of the engine's library, such as "2026.4.1"; may be ""
  virtual std::string library() const = 0;                // its path; may be ""
};

// Opens the target's engine on files of `bundle`. Throws Error: RUNTIME_MISSING (the library is not there or of the
// wrong version: the message says which files were looked for, which version was found and which is needed),
// UNSUPPORTED (this build has no such engine), ENGINE (it refuses the graph, the precision or the device).
// `file` is used during the call only. `cpu_mask` (EDGEAD_CPU_*) is for a head's kernels.
std::shared_ptr<Engine> open_engine(const FileLookup &file, const TensorShapes &shapes, const TargetEntry &target,
                                    const EngineOptions &options);

// The same for a bundle, whose tiles are joined: an engine of `whole_shapes`.
std::shared_ptr<Engine> open_engine(const Bundle &bundle, const TargetEntry &target, const EngineOptions &options);

}  // namespace edgead
