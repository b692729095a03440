#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "edgead/edgead.h"
#include "status.hpp"

namespace edgead {

edgead_status ErrorSink::fail(edgead_status status, const char *format, ...) const noexcept {
  if (buf != nullptr && size > 0) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(buf, size, format, arguments);
    va_end(arguments);
  }
  return status;
}

bool copy_sized(void *full, std::size_t full_size, const void *given, std::size_t caller_size,
                std::size_t minimum) noexcept {
  if (caller_size < minimum) return false;
  std::memcpy(full, given, caller_size < full_size ? caller_size : full_size);
  return true;
}

edgead_status check_buffer(const void *buffer, std::size_t capacity, std::size_t needed, const char *name,
                           const ErrorSink &error) noexcept {
  if (buffer == nullptr || capacity >= needed) return EDGEAD_OK;
  return error.fail(EDGEAD_ERR_BUFFER_TOO_SMALL, "%s holds %zu elements, %zu are needed", name, capacity, needed);
}

}  // namespace edgead

extern "C" {

uint32_t edgead_abi_version(void) { return EDGEAD_ABI_VERSION; }

const char *edgead_version_string(void) { return EDGEAD_VERSION_STRING; }

const char *edgead_status_string(edgead_status s) {
  switch (s) {
    case EDGEAD_OK: return "ok";
    case EDGEAD_ERR_INVALID_ARGUMENT: return "invalid argument";
    case EDGEAD_ERR_INVALID_IMAGE: return "the image does not fit the options";
    case EDGEAD_ERR_BUFFER_TOO_SMALL: return "a buffer is too small";
    case EDGEAD_ERR_UNSUPPORTED: return "not supported by this build or CPU";
    case EDGEAD_ERR_OUT_OF_MEMORY: return "out of memory";
    case EDGEAD_ERR_INTERNAL: return "internal error, please report it";
    case EDGEAD_ERR_NOT_FOUND: return "not found";
    case EDGEAD_ERR_BUNDLE: return "the bundle is damaged, unsafe or of another schema";
    case EDGEAD_ERR_RUNTIME_MISSING: return "the engine's library is missing or of another version";
    case EDGEAD_ERR_ENGINE: return "the engine refused or failed";
    case EDGEAD_ERR_SELF_TEST: return "the self-test failed";
    case EDGEAD_ERR_INVALID_STATE: return "the object is in use by another thread";
    default: return "unknown status";
  }
}

}  // extern "C"
