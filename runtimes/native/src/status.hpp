#pragma once
// Status plus a sentence for the caller's buffer. No exception crosses the C boundary.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgead/edgead.h"

namespace edgead {

// Size of edgead_image as its first version had it: up to the ROI.
constexpr std::size_t IMAGE_FIRST_SIZE = offsetof(edgead_image, trigger_timestamp_ns);

// Where a message goes; formatting never allocates.
struct ErrorSink {
  char *buf;
  std::size_t size;

  // Writes the message (printf style) and returns `status`, so that a check is one line: return sink.fail(...).
  [[gnu::format(printf, 3, 4)]] edgead_status fail(edgead_status status, const char *format, ...) const noexcept;
};

// Copies the caller's struct of `caller_size` bytes over `*full`, which holds the defaults: an older caller's
// struct leaves the newer fields alone. False where the size is too small to be any version of the struct.
bool copy_sized(void *full, std::size_t full_size, const void *given, std::size_t caller_size,
                std::size_t minimum) noexcept;

// A caller's buffer, NULL where it is not wanted: BUFFER_TOO_SMALL with the needed size where it is too small.
edgead_status check_buffer(const void *buffer, std::size_t capacity, std::size_t needed, const char *name,
                           const ErrorSink &error) noexcept;

// Writes defaults into the caller's struct of `caller_size` bytes. An older caller's struct is shorter, a newer
// one's longer: known defaults first, zero beyond. NULL, and a size that holds no struct_size, are left alone.
template <typename Struct>
void fill_defaults(Struct *out, std::uint32_t caller_size, Struct defaults) noexcept {
  if (out == nullptr || caller_size < sizeof(std::uint32_t)) return;
  defaults.struct_size = caller_size;
  std::memset(static_cast<void *>(out), 0, caller_size);
  std::memcpy(static_cast<void *>(out), &defaults, caller_size < sizeof(Struct) ? caller_size : sizeof(Struct));
}

}  // namespace edgead
