// Straightforward inflate: canonical codes are read bit by bit by counts (as Mark Adler's puff does), which is quick
// enough for a few golden images.

#include "bundle/inflate.hpp"

#include <algorithm>
#include <array>

namespace edgead {
namespace {

constexpr const char *CUT = "its compressed data is cut off", *DAMAGED = "its compressed data is damaged",
                     *TOO_LONG = "its compressed data holds more than the picture",
                     *TOO_SHORT = "its compressed data holds less than the picture";
constexpr int MAX_BITS = 15;

struct Code {
  std::array<std::uint16_t, MAX_BITS + 1> count{};  // codes of each length
  std::array<std::uint16_t, 288> symbol{};          // in the order of their codes

  // False where more codes are given than there are, or fewer (one single code may be alone).
  bool build(const std::uint8_t *lengths, int n) {
    count.fill(0);
    for (int i = 0; i < n; ++i) ++count[lengths[i]];
    const int used = n - count[0];
    count[0] = 0;
    int left = 1;
    std::array<std::uint16_t, MAX_BITS + 2> offset{};
    for (std::size_t length = 1; length <= MAX_BITS; ++length) {
      left = 2 * left - count[length];
      if (left < 0) return false;
      offset[length + 1] = static_cast<std::uint16_t>(offset[length] + count[length]);
    }
    for (int i = 0; i < n; ++i)
      if (lengths[i] != 0) symbol[offset[lengths[i]]++] = static_cast<std::uint16_t>(i);
    return left == 0 || used == 0 || (used == 1 && count[1] == 1);
  }
};

class Inflater {
 public:
  Inflater(const std::uint8_t *data, std::size_t size, std::uint8_t *out, std::size_t out_size)
      : data_(data), size_(size), out_(out), out_size_(out_size) {}

  const char *run() {
    for (bool last = false; !last;) {
      last = bits(1) != 0;
      const std::uint32_t type = bits(2);
      const char *problem = type == 0 ? stored() : type == 1 ? fixed() : type == 2 ? dynamic() : DAMAGED;
      if (problem != nullptr) return problem;
      if (cut_) return CUT;
    }
    return done_ == out_size_ ? nullptr : TOO_SHORT;
  }
  // Bytes that were begun.
  std::size_t used() const { return position_; }

 private:
  // After the end: zeros, and cut_ says so.
  std::uint32_t bits(int n) {
    while (held_count_ < n) {
      if (position_ == size_) {
        cut_ = true;
        return 0;
      }
      held_ |= static_cast<std::uint32_t>(data_[position_++]) << held_count_;
      held_count_ += 8;
    }
    const std::uint32_t value = held_ & ((1U << n) - 1);
    held_ >>= n;
    held_count_ -= n;
    return value;
  }

  int decode(const Code &code) {
    int value = 0, first = 0, index = 0;
    for (std::size_t length = 1; length <= MAX_BITS; ++length) {
      value |= static_cast<int>(bits(1));
      const int count = code.count[length];
      if (value - count < first) return code.symbol[static_cast<std::size_t>(index + (value - first))];
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    return -1;
  }

  const char *stored() {
    held_ = 0;
    held_count_ = 0;
    if (size_ - position_ < 4) return CUT;
    const std::uint8_t *p = data_ + position_;
    const auto length = static_cast<std::size_t>(p[0] | p[1] << 8);
    if ((p[0] ^ p[2]) != 0xff || (p[1] ^ p[3]) != 0xff) return DAMAGED;
    position_ += 4;
    if (length > size_ - position_) return CUT;
    if (length > out_size_ - done_) return TOO_LONG;
    std::copy_n(data_ + position_, length, out_ + done_);
    position_ += length;
    done_ += length;
    return nullptr;
  }

  const char *fixed() {
    std::array<std::uint8_t, 288> lengths;
    std::fill(lengths.begin(), lengths.begin() + 144, std::uint8_t{8});
    std::fill(lengths.begin() + 144, lengths.begin() + 256, std::uint8_t{9});
    std::fill(lengths.begin() + 256, lengths.begin() + 280, std::uint8_t{7});
    std::fill(lengths.begin() + 280, lengths.end(), std::uint8_t{8});
    literals_.build(lengths.data(), 288);
    std::fill(lengths.begin(), lengths.begin() + 30, std::uint8_t{5});
    distances_.build(lengths.data(), 30);  // two codes are never used
    return block();
  }

  const char *dynamic() {
    constexpr std::uint8_t ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const auto literals = static_cast<int>(bits(5)) + 257, distances = static_cast<int>(bits(5)) + 1;
    const std::uint32_t codes = bits(4) + 4;
    if (literals > 286 || distances > 30) return DAMAGED;
    std::array<std::uint8_t, 286 + 30> lengths{};
    for (std::uint32_t i = 0; i < codes; ++i) lengths[ORDER[i]] = static_cast<std::uint8_t>(bits(3));
    if (!literals_.build(lengths.data(), 19)) return DAMAGED;
    lengths.fill(0);
    for (int i = 0; i < literals + distances;) {
      const int symbol = decode(literals_);
      if (cut_) return CUT;
      if (symbol < 0 || (symbol == 16 && i == 0)) return DAMAGED;
      std::uint8_t value = 0;
      std::uint32_t times = 1;
      if (symbol < 16) {
        value = static_cast<std::uint8_t>(symbol);
      } else if (symbol == 16) {
        value = lengths[static_cast<std::size_t>(i - 1)];
        times = 3 + bits(2);
      } else {
        times = symbol == 17 ? 3 + bits(3) : 11 + bits(7);
      }
      if (static_cast<int>(times) > literals + distances - i) return DAMAGED;
      while (times-- > 0) lengths[static_cast<std::size_t>(i++)] = value;
    }
    if (lengths[256] == 0) return DAMAGED;  // the block would have no end
    if (!literals_.build(lengths.data(), literals) || !distances_.build(lengths.data() + literals, distances))
      return DAMAGED;
    return block();
  }

  const char *block() {
    constexpr std::uint16_t LENGTH[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                          31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    constexpr std::uint8_t LENGTH_BITS[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                              2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    constexpr std::uint16_t DISTANCE[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                            33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                            1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
      const int symbol = decode(literals_);
      if (cut_) return CUT;
      if (symbol < 0 || symbol > 285) return DAMAGED;
      if (symbol == 256) return nullptr;
      if (symbol < 256) {
        if (done_ == out_size_) return TOO_LONG;
        out_[done_++] = static_cast<std::uint8_t>(symbol);
        continue;
      }
      const std::size_t length = LENGTH[symbol - 257] + bits(LENGTH_BITS[symbol - 257]);
      const int far = decode(distances_);
      if (cut_) return CUT;
      if (far < 0 || far > 29) return DAMAGED;
      const std::size_t distance = DISTANCE[far] + bits(far < 4 ? 0 : far / 2 - 1);
      if (cut_) return CUT;
      if (distance > done_) return DAMAGED;
      if (length > out_size_ - done_) return TOO_LONG;
      for (std::size_t i = 0; i < length; ++i, ++done_) out_[done_] = out_[done_ - distance];  // may overlap
    }
  }

  const std::uint8_t *data_;
  std::size_t size_, position_ = 0;
  std::uint8_t *out_;
  std::size_t out_size_, done_ = 0;
  std::uint32_t held_ = 0;
  int held_count_ = 0;
  bool cut_ = false;
  Code literals_, distances_;
};

std::uint32_t adler32(const std::uint8_t *data, std::size_t size) {
  constexpr std::size_t PIECE = 5552;  // sums of so many bytes fit 32 bits
  std::uint32_t a = 1, b = 0;
  while (size > 0) {
    const std::size_t now = std::min(size, PIECE);
    for (std::size_t i = 0; i < now; ++i) b += a += data[i];
    a %= 65521;
    b %= 65521;
    data += now;
    size -= now;
  }
  return b << 16 | a;
}

}  // namespace

const char *inflate_zlib(const std::uint8_t *data, std::size_t size, std::uint8_t *out, std::size_t out_size) {
  if (size < 6) return CUT;
  if ((data[0] & 15) != 8 || data[0] >> 4 > 7 || (data[0] << 8 | data[1]) % 31 != 0 || (data[1] & 0x20) != 0)
    return DAMAGED;
  Inflater inflater(data + 2, size - 2, out, out_size);
  if (const char *problem = inflater.run()) return problem;
  const std::size_t end = 2 + inflater.used();
  if (size - end < 4) return CUT;
  if (size - end > 4) return DAMAGED;
  const std::uint8_t *p = data + end;
  const std::uint32_t adler = static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
                              static_cast<std::uint32_t>(p[2]) << 8 | p[3];
  return adler == adler32(out, out_size) ? nullptr : DAMAGED;
}

}  // namespace edgead
