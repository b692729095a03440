// Pillow's filter in plain C++ that a compiler can vectorise. Included by resample.cpp inside the namespace of
// the level.

constexpr u32 LANES = 8;

void encode_quad(const i32 weights[4], i32 encoded[4]) {
  for (u32 i = 0; i < 4; ++i) encoded[i] = weights[i];
}

inline u32 byte_of(u32 word, u32 i) { return (word >> (8 * i)) & 255; }

void accumulate(i32 *sum, const u32 *words, u32 count, const i32 *w) {
  for (u32 i = 0; i < count; ++i)
    sum[i] += w[0] * static_cast<i32>(byte_of(words[i], 0)) + w[1] * static_cast<i32>(byte_of(words[i], 1)) +
              w[2] * static_cast<i32>(byte_of(words[i], 2)) + w[3] * static_cast<i32>(byte_of(words[i], 3));
}

inline u32 result(i32 sum) {
  const u32 value = static_cast<u32>(sum) >> 22;
  return value > 255 ? 255 : value;
}

void pack_rows(const u8 *rows, size_t stride, u32 pixels, PixelLayout layout, u32 *packed) {
  const u32 place[3] = {layout.channels == 3 ? layout.red : 0, 1, layout.blue};
  for (u32 quad = 0; quad < (pixels + 3) / 4; ++quad, rows += 4 * layout.bytes)
    for (u32 channel = 0; channel < layout.channels; ++channel)
      for (u32 row = 0; row < LANES; ++row) {
        const u8 *p = rows + row * stride + place[channel];
        *packed++ = p[0] | static_cast<u32>(p[layout.bytes]) << 8 | static_cast<u32>(p[2 * layout.bytes]) << 16 |
                    static_cast<u32>(p[3 * layout.bytes]) << 24;
      }
}

void horizontal(const u32 *packed, const QuadRun *runs, const i32 *weights, u32 outputs, u32 channels,
                       u32 *ring, size_t ring_stride) {
  for (u32 x = 0; x < outputs; ++x)
    for (u32 channel = 0; channel < channels; ++channel, ++ring) {
      const u32 *p = packed + (static_cast<size_t>(runs[x].first) * channels + channel) * LANES;
      const i32 *w = weights + static_cast<size_t>(runs[x].weights) * 4;
      i32 sum[LANES];
      for (u32 row = 0; row < LANES; ++row) sum[row] = 1 << 21;
      for (u32 i = 0; i < runs[x].count; ++i, p += channels * LANES, w += 4) accumulate(sum, p, LANES, w);
      for (u32 quad = 0; quad < LANES / 4; ++quad) {
        const i32 *s = sum + 4 * quad;
        ring[quad * ring_stride] = result(s[0]) | result(s[1]) << 8 | result(s[2]) << 16 | result(s[3]) << 24;
      }
    }
}

void vertical(const u32 *ring, size_t ring_stride, u32 ring_mask, QuadRun run, const i32 *weights, u32 columns,
                     u8 *out) {
  constexpr u32 BLOCK = 64;
  weights += static_cast<size_t>(run.weights) * 4;
  for (u32 x = 0; x < columns; x += BLOCK) {
    i32 sum[BLOCK];
    for (u32 i = 0; i < BLOCK; ++i) sum[i] = 1 << 21;
    for (u32 i = 0; i < run.count; ++i)
      accumulate(sum, ring + static_cast<size_t>((run.first + i) & ring_mask) * ring_stride + x, BLOCK,
                 weights + 4 * i);
    const u32 count = columns - x < BLOCK ? columns - x : BLOCK;
    for (u32 i = 0; i < count; ++i) out[x + i] = static_cast<u8>(result(sum[i]));
  }
}

u32 linear_row_vector(const u8 *, u32, PixelLayout, const LinearTap *, u32, i16 *) { return 0; }
