// The PNG decoder against pictures that zlib packed (make_png_vectors.py), and on damaged ones.

#include <random>

#include "bundle/inflate.hpp"
#include "bundle/png.hpp"
#include "check.hpp"
#include "png_vectors.hpp"
#include "refused.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes decode(const Bytes &data) { return edgead::decode_png(data, 29, 23, "p"); }

void refused(const Bytes &data, const std::string &message) { REFUSED(decode(data), EDGEAD_ERR_BUNDLE, message); }

std::uint32_t crc32(const std::uint8_t *data, std::size_t size) {
  std::uint32_t c = ~0U;
  for (std::size_t i = 0; i < size; ++i) {
    c ^= data[i];
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320 ^ c >> 1 : c >> 1;
  }
  return ~c;
}

// Changes one byte of the header's content and mends its CRC.
Bytes header_with(std::size_t index, std::uint8_t value) {
  Bytes data = vector_dynamic;
  data[16 + index] = value;
  const std::uint32_t crc = crc32(data.data() + 12, 17);
  for (int i = 0; i < 4; ++i) data[29 + static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
  return data;
}

void append_chunk(Bytes &data, const std::string &kind, const Bytes &content) {
  for (int shift = 24; shift >= 0; shift -= 8) data.push_back(static_cast<std::uint8_t>(content.size() >> shift));
  const std::size_t begin = data.size();
  data.insert(data.end(), kind.begin(), kind.end());
  data.insert(data.end(), content.begin(), content.end());
  const std::uint32_t crc = crc32(data.data() + begin, data.size() - begin);
  for (int shift = 24; shift >= 0; shift -= 8) data.push_back(static_cast<std::uint8_t>(crc >> shift));
}

Bytes png_of(const Bytes &packed) {
  Bytes data(vector_dynamic.begin(), vector_dynamic.begin() + 33);
  append_chunk(data, "IDAT", packed);
  append_chunk(data, "IEND", {});
  return data;
}

void check_chunks() {
  Bytes begin(vector_dynamic.begin(), vector_dynamic.begin() + 33);
  Bytes data = begin;
  append_chunk(data, "ABCD", {});
  refused(data, "it has a chunk that cannot be left out");
  data = begin;
  append_chunk(data, "IHDR", Bytes(begin.begin() + 16, begin.begin() + 29));
  refused(data, "its header is not where it belongs");
  refused(Bytes(vector_dynamic.begin(), vector_dynamic.begin() + 8), "it is cut off");
  data.assign(begin.begin(), begin.begin() + 8);
  append_chunk(data, "IDAT", {});
  refused(data, "its header is not where it belongs");
  data = begin;
  append_chunk(data, "IDAT", {1, 2});
  append_chunk(data, "tEXt", {});
  append_chunk(data, "IDAT", {3});
  refused(data, "its data is scattered");
  data = vector_dynamic;
  data.push_back(0);
  refused(data, "something follows its end");
  data = begin;
  append_chunk(data, "IEND", {});
  refused(data, "");
  refused({}, "it is no PNG");
}

void check_header() {
  refused(header_with(3, 14), "the picture p is 14x23, the network's input is 29x23");
  refused(header_with(0, 0xff), "the network's input is 29x23");
  for (const std::size_t index : {8U, 9U, 10U, 11U, 12U}) refused(header_with(index, 1), "it is not 8-bit RGB");
  refused(header_with(9, 6), "it is not 8-bit RGB");
  Bytes data = vector_dynamic;
  data[20] ^= 1;
  refused(data, "a checksum is wrong");
}

// A bomb does not write beyond its buffer, and a promise that a few bytes cannot keep allocates nothing.
void check_bounds() {
  refused(png_of({0x78, 0x01, 0x01, 0xff, 0xff, 0x00, 0x00}), "its compressed data is cut off");
  refused(png_of({0x78, 0x01, 0x01, 0x00, 0x00, 0xff, 0xff, 0, 0, 0, 1}), "holds less than the picture");
  refused(png_of({0x78, 0x01, 0x01, 0x01, 0x00, 0xff, 0xff, 0, 0, 0, 1}), "is damaged");
  Bytes stored{0x78, 0x01, 0x01, 0x00, 0x10, 0xff, 0xef};
  stored.resize(7 + 0x1000 + 4);
  refused(png_of(stored), "holds more than the picture");
  // A literal and endless copies of it: fixed codes of the byte 0 and of length 258, distance 1.
  refused(png_of({0x78, 0x01, 0x63, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x0c, 0x77, 0, 0}), "");
  Bytes huge = header_with(0, 0);
  huge[17] = huge[21] = 1;  // 65549 x 65547
  REFUSED(edgead::decode_png(huge, 65549, 65547, "p"), EDGEAD_ERR_BUNDLE, "a checksum is wrong");
  Bytes data(vector_dynamic.begin(), vector_dynamic.begin() + 8);
  append_chunk(data, "IHDR", {0, 1, 0, 0, 0, 1, 0, 0, 8, 2, 0, 0, 0});
  append_chunk(data, "IDAT", {0x78, 0x01, 0x01});
  append_chunk(data, "IEND", {});
  REFUSED(edgead::decode_png(data, 65536, 65536, "p"), EDGEAD_ERR_BUNDLE, "holds less than the picture");
}

// Whatever the bytes are, inflate ends and stays inside its buffers (the sanitizers look).
void check_noise() {
  std::mt19937 random(7);
  const std::size_t begin = 8 + 25 + 15 + 8;
  for (int i = 0; i < 20000; ++i) {
    Bytes packed(vector_dynamic.begin() + begin, vector_dynamic.end() - 12);
    packed[random() % packed.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
    packed.resize(packed.size() - random() % 2 * (random() % packed.size()));
    Bytes out(23 * 88);
    static_cast<void>(edgead::inflate_zlib(packed.data(), packed.size(), out.data(), out.size()));
  }
}

}  // namespace

int main() {
  for (const Bytes *data : {&vector_dynamic, &vector_fixed, &vector_stored, &vector_huffman})
    CHECK(decode(*data) == vector_pixels);
  for (std::size_t size = 0; size < vector_dynamic.size(); ++size)
    refused(Bytes(vector_dynamic.begin(), vector_dynamic.begin() + static_cast<std::ptrdiff_t>(size)), "");
  for (std::size_t i = 0; i < vector_fixed.size(); ++i) {
    Bytes data = vector_fixed;
    data[i] ^= 0x10;
    refused(data, "");
  }
  check_chunks();
  check_header();
  check_bounds();
  check_noise();
  return check_failures();
}
