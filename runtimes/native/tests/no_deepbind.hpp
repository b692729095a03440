#pragma once
// Only for builds with a sanitizer: OpenVINO's TBB opens a library with RTLD_DEEPBIND, and sanitizers then end
// the program. The test's own dlopen comes first and takes the flag away. Include in one file of the program.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(EDGEAD_NO_DEEPBIND)

#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) void *dlopen(const char *file, int flags) {
  using Open = void *(const char *, int);
  static Open *const next = reinterpret_cast<Open *>(::dlsym(RTLD_NEXT, "dlopen"));
  return next(file, flags & ~RTLD_DEEPBIND);
}

#endif
