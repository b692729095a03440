#include "top_k.hpp"

#include <cstdint>
#include <cstring>

namespace edgead {
namespace {

// Unsigned integers in the order of the floats: negative values have all bits flipped, the others the sign.
std::uint32_t ordered(float value) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

float from_ordered(std::uint32_t key) noexcept {
  const std::uint32_t bits = key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

float kth_largest(const float *values, std::size_t n, std::size_t k) noexcept {
  constexpr unsigned kBits[] = {11, 11, 10};
  // Neighbours often fall into one bin: four histograms keep their increments apart.
  std::uint32_t histogram[4][1u << 11];
  std::uint32_t prefix = 0;  // the key's upper bits found so far
  unsigned below = 32;       // its bits still to find
  for (const unsigned bits : kBits) {
    const unsigned shift = below - bits;
    const std::uint32_t mask = (1u << bits) - 1;
    std::memset(histogram, 0, sizeof histogram);
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t key = ordered(values[i]);
      if (below == 32 || key >> below == prefix) ++histogram[i & 3][(key >> shift) & mask];
    }
    std::uint32_t digit = mask;
    for (;; --digit) {
      const std::size_t count = std::size_t{histogram[0][digit]} + histogram[1][digit] + histogram[2][digit] +
                                histogram[3][digit];
      if (count >= k || digit == 0) break;
      k -= count;
    }
    prefix = prefix << bits | digit;
    below = shift;
  }
  return from_ordered(prefix);
}

double top_k_sum(const float *values, std::size_t n, std::size_t k) noexcept {
  const float bound = kth_largest(values, n, k);
  double sum = 0.0;
  std::size_t above = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (values[i] > bound) {
      sum += static_cast<double>(values[i]);
      ++above;
    }
  }
  return sum + static_cast<double>(k - above) * static_cast<double>(bound);
}

}  // namespace edgead
