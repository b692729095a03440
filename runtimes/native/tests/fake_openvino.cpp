// Libraries that only pretend to be OpenVINO's, one per FAKE_…: an old release, one that lacks functions, and one
// that has nothing to do with it.

#include "engines/openvino_c.hpp"

using namespace edgead::openvino;

extern "C" {

#if !defined(FAKE_stranger)
Status ov_get_openvino_version(Version *version) {
#if defined(FAKE_old)
  *version = {"2023.3.0-13775-ceeafaf64f3-releases/2023/3", "OpenVINO Runtime"};
#else
  *version = {"2026.9.0-1-fake", "OpenVINO Runtime"};
#endif
  return OK;
}

void ov_version_free(Version *version) { *version = {}; }
#endif

int fake_openvino_is_a_library() { return 1; }
}
