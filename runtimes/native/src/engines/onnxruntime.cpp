#include "engines/backends.hpp"
#include "error.hpp"

namespace edgead {

std::shared_ptr<Engine> open_onnxruntime(const EngineSource &source) {
  throw Error{EDGEAD_ERR_UNSUPPORTED, source.target.target +
                                          ": this build has no ONNX Runtime; build with -D "
                                          "EDGEAD_ONNXRUNTIME_INCLUDE=DIR, or run with --runtime python"};
}

}  // namespace edgead
