#pragma once
// SHA-256 (FIPS 180-4).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edgead {

class Sha256 {
 public:
  Sha256();
  // `portable` leaves the CPU's SHA instructions alone: for tests.
  explicit Sha256(bool portable);

  void update(const void *data, std::size_t size);
  // Lower-case hex digits. Afterwards the object is used up.
  std::string hex();

 private:
  using Blocks = void (*)(std::uint32_t *state, const std::uint8_t *data, std::size_t blocks);

  std::array<std::uint32_t, 8> state_;
  std::array<std::uint8_t, 64> pending_{};
  std::uint64_t total_ = 0;
  Blocks blocks_;
};

std::string sha256_hex(const void *data, std::size_t size);

}  // namespace edgead
