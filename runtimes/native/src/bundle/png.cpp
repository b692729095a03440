#include "bundle/png.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "bundle/inflate.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::size_t PIXEL = 3;

std::uint32_t u32(const std::uint8_t *p) {
  return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
         static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

std::uint32_t crc32(const std::uint8_t *data, std::size_t size) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320 ^ c >> 1 : c >> 1;
      made[n] = c;
    }
    return made;
  }();
  std::uint32_t c = ~0U;
  for (std::size_t i = 0; i < size; ++i) c = table[(c ^ data[i]) & 0xff] ^ c >> 8;
  return ~c;
}

int paeth(int left, int up, int corner) {
  const int guess = left + up - corner;
  const int far_left = std::abs(guess - left), far_up = std::abs(guess - up), far_corner = std::abs(guess - corner);
  if (far_left <= far_up && far_left <= far_corner) return left;
  return far_up <= far_corner ? up : corner;
}

// Undoes a row's filter; `above` is the row before it, finished. False for an unknown filter.
bool unfilter(std::uint8_t filter, const std::uint8_t *from, const std::uint8_t *above, std::uint8_t *row,
              std::size_t size) {
  if (filter > 4) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const int left = i < PIXEL ? 0 : row[i - PIXEL], up = above[i], corner = i < PIXEL ? 0 : above[i - PIXEL];
    const int guess = filter == 0   ? 0
                      : filter == 1 ? left
                      : filter == 2 ? up
                      : filter == 3 ? (left + up) / 2
                                    : paeth(left, up, corner);
    row[i] = static_cast<std::uint8_t>(from[i] + guess);
  }
  return true;
}

class Png {
 public:
  Png(const std::vector<std::uint8_t> &data, std::uint32_t width, std::uint32_t height, const std::string &name)
      : data_(data), width_(width), height_(height), name_(name) {}

  std::vector<std::uint8_t> decode();

 private:
  [[noreturn]] void refuse(const char *what) const {
    raise(EDGEAD_ERR_BUNDLE, "the picture %s cannot be read: %s", name_.c_str(), what);
  }
  void read_header(const std::uint8_t *p, std::size_t size) const;
  std::vector<std::uint8_t> read_chunks() const;  // the data of every IDAT

  const std::vector<std::uint8_t> &data_;
  std::uint32_t width_, height_;
  const std::string &name_;
};

void Png::read_header(const std::uint8_t *p, std::size_t size) const {
  if (size != 13) refuse("its header is damaged");
  if (u32(p) != width_ || u32(p + 4) != height_)
    raise(EDGEAD_ERR_BUNDLE, "the picture %s is %ux%u, the network's input is %ux%u", name_.c_str(), u32(p),
          u32(p + 4), width_, height_);
  if (p[8] != 8 || p[9] != 2 || p[10] != 0 || p[11] != 0 || p[12] != 0)
    refuse("it is not 8-bit RGB, or is interlaced");
}

std::vector<std::uint8_t> Png::read_chunks() const {
  constexpr std::uint8_t SIGNATURE[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  if (data_.size() < sizeof SIGNATURE || std::memcmp(data_.data(), SIGNATURE, sizeof SIGNATURE) != 0)
    refuse("it is no PNG");
  std::vector<std::uint8_t> packed;
  bool seen_header = false, seen_data = false, data_ended = false;
  for (std::size_t position = sizeof SIGNATURE;;) {
    const std::size_t left = data_.size() - position;
    if (left < 12) refuse("it is cut off");
    const std::uint8_t *p = data_.data() + position;
    const std::size_t size = u32(p);
    if (size > left - 12) refuse("it is cut off");
    if (crc32(p + 4, size + 4) != u32(p + 8 + size)) refuse("a checksum is wrong");
    const std::string kind(p + 4, p + 8);
    if (seen_header == (kind == "IHDR")) refuse("its header is not where it belongs");
    if (seen_data && kind != "IDAT") data_ended = true;
    if (kind == "IHDR") {
      read_header(p + 8, size);
      seen_header = true;
    } else if (kind == "IDAT") {
      if (data_ended) refuse("its data is scattered");
      seen_data = true;
      packed.insert(packed.end(), p + 8, p + 8 + size);
    } else if (kind == "IEND") {
      if (size != 0 || left != 12) refuse("something follows its end");
      return packed;
    } else if ((p[4] & 0x20) == 0 && kind != "PLTE") {  // a palette may be suggested
      refuse("it has a chunk that cannot be left out");
    }
    position += 12 + size;
  }
}

std::vector<std::uint8_t> Png::decode() {
  const std::vector<std::uint8_t> packed = read_chunks();
  const std::uint64_t row = std::uint64_t{width_} * PIXEL, filtered = (row + 1) * height_;
  if (filtered / MAX_INFLATION > packed.size()) refuse("its compressed data holds less than the picture");
  std::vector<std::uint8_t> lines(static_cast<std::size_t>(filtered));
  if (const char *problem = inflate_zlib(packed.data(), packed.size(), lines.data(), lines.size())) refuse(problem);
  const auto size = static_cast<std::size_t>(row);
  std::vector<std::uint8_t> rgb(size * height_);
  const std::vector<std::uint8_t> nothing(size);
  for (std::size_t y = 0; y < height_; ++y) {
    const std::uint8_t *line = lines.data() + y * (size + 1);
    const std::uint8_t *above = y == 0 ? nothing.data() : rgb.data() + (y - 1) * size;
    if (!unfilter(line[0], line + 1, above, rgb.data() + y * size, size)) refuse("a row has an unknown filter");
  }
  return rgb;
}

}  // namespace

std::vector<std::uint8_t> decode_png(const std::vector<std::uint8_t> &data, std::uint32_t width, std::uint32_t height,
                                     const std::string &name) {
  return Png(data, width, height, name).decode();
}

}  // namespace edgead
