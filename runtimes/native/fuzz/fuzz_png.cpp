// Any bytes as a golden picture. The first byte chooses how far the input is mended, since mutations do not survive
// checksums: 0 not at all; 1 right chunk CRCs; 2 the input is a PNG's zlib stream; 3 its filtered rows.

#include <cstdint>
#include <string>
#include <vector>

#include "bundle/inflate.hpp"
#include "bundle/png.hpp"
#include "refusal.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::uint32_t WIDTH = 29, HEIGHT = 23;

std::uint32_t crc32(const std::uint8_t *data, std::size_t size) {
  std::uint32_t c = ~0U;
  for (std::size_t i = 0; i < size; ++i) {
    c ^= data[i];
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320 ^ c >> 1 : c >> 1;
  }
  return ~c;
}

void append_u32(Bytes &out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void append_chunk(Bytes &out, const char *kind, const Bytes &content) {
  append_u32(out, static_cast<std::uint32_t>(content.size()));
  const std::size_t begin = out.size();
  out.insert(out.end(), kind, kind + 4);
  out.insert(out.end(), content.begin(), content.end());
  append_u32(out, crc32(out.data() + begin, out.size() - begin));
}

Bytes png_of(const Bytes &packed) {
  Bytes png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  append_chunk(png, "IHDR", {0, 0, 0, WIDTH, 0, 0, 0, HEIGHT, 8, 2, 0, 0, 0});
  append_chunk(png, "IDAT", packed);
  append_chunk(png, "IEND", {});
  return png;
}

void mend_checksums(Bytes &png) {
  for (std::size_t position = 8; png.size() - position >= 12 && position < png.size();) {
    const std::uint8_t *p = png.data() + position;
    const std::size_t size = static_cast<std::size_t>(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3];
    if (size > png.size() - position - 12) return;
    Bytes sum;
    append_u32(sum, crc32(p + 4, size + 4));
    std::copy(sum.begin(), sum.end(), png.begin() + static_cast<std::ptrdiff_t>(position + 8 + size));
    position += 12 + size;
  }
}

Bytes stored(const Bytes &data) {
  Bytes out{0x78, 0x01, 0x01};
  const std::size_t size = data.size() & 0xffff;
  for (const std::size_t value : {size, ~size})
    for (const int shift : {0, 8}) out.push_back(static_cast<std::uint8_t>(value >> shift));
  std::uint32_t a = 1, b = 0;
  for (std::size_t i = 0; i < size; ++i) {
    out.push_back(data[i]);
    a = (a + data[i]) % 65521;
    b = (b + a) % 65521;
  }
  append_u32(out, b << 16 | a);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size == 0) return 0;
  Bytes rest(data + 1, data + size);
  if (data[0] == 1 && rest.size() > 8) mend_checksums(rest);
  if (data[0] == 2) {
    Bytes out(rest.size() * 4);  // ends within the stream, and beyond it
    edgead::inflate_zlib(rest.data(), rest.size(), out.data(), out.size());
    rest = png_of(rest);
  }
  if (data[0] == 3) {
    rest.resize(HEIGHT * (3 * WIDTH + 1));
    for (std::size_t y = 0; y < HEIGHT; ++y) rest[y * (3 * WIDTH + 1)] %= 6;
    rest = png_of(stored(rest));
  }
  const std::string name = "p";
  may_refuse([&] {
    if (edgead::decode_png(rest, WIDTH, HEIGHT, name).size() != 3 * WIDTH * HEIGHT) std::abort();
  });
  return 0;
}
