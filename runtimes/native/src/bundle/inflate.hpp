#pragma once
// zlib streams (RFC 1950, RFC 1951) of a known size.

#include <cstddef>
#include <cstdint>

namespace edgead {

// The most that deflate can make of one byte, more or less: larger claims are false.
constexpr std::uint64_t MAX_INFLATION = 1032;

// Fills exactly `out_size` bytes, never more, and checks the Adler-32. Returns what is wrong, or nullptr.
const char *inflate_zlib(const std::uint8_t *data, std::size_t size, std::uint8_t *out, std::size_t out_size);

}  // namespace edgead
