// Row kernels in plain C++: OpenCV's bilinear, and conversions to quads, 8-bit gray or RGB. Included by
// resample.cpp inside the namespace of the level.

void interleave(const u8 *const rows[4], size_t bytes, u32 *out) {
  const u8 *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  for (size_t i = 0; i < bytes; ++i)
    out[i] = a[i] | static_cast<u32>(b[i]) << 8 | static_cast<u32>(c[i]) << 16 | static_cast<u32>(d[i]) << 24;
}

void linear_row(const u8 *row, u32 pixels, PixelLayout layout, const LinearTap *taps, u32 outputs, i16 *out) {
  if (layout.channels == 1) {
    for (u32 x = 0; x < outputs; ++x) {
      const LinearTap &tap = taps[x];
      out[x] = static_cast<i16>((row[tap.low] * tap.weight_low + row[tap.high] * tap.weight_high) >> 4);
    }
    return;
  }
  for (u32 x = linear_row_vector(row, pixels, layout, taps, outputs, out); x < outputs; ++x) {
    const u8 *a = row + taps[x].low, *b = row + taps[x].high;
    const i32 wa = taps[x].weight_low, wb = taps[x].weight_high;
    out[3 * x] = static_cast<i16>((a[layout.red] * wa + b[layout.red] * wb) >> 4);
    out[3 * x + 1] = static_cast<i16>((a[1] * wa + b[1] * wb) >> 4);
    out[3 * x + 2] = static_cast<i16>((a[layout.blue] * wa + b[layout.blue] * wb) >> 4);
  }
}

void linear_blend(const i16 *upper, const i16 *lower, i16 weight_upper, i16 weight_lower, u32 columns,
                         u8 *out) {
  for (u32 i = 0; i < columns; ++i) {
    const i32 a = (upper[i] * weight_upper) >> 16, b = (lower[i] * weight_lower) >> 16;
    out[i] = static_cast<u8>((a + b + 2) >> 2);
  }
}

void halve(const u8 *upper, const u8 *lower, PixelLayout layout, u32 outputs, u8 *out) {
  const u32 place[3] = {layout.channels == 3 ? layout.red : 0, 1, layout.blue};
  const u32 next = layout.bytes;
  for (u32 x = 0; x < outputs; ++x, upper += 2 * next, lower += 2 * next)
    for (u32 channel = 0; channel < layout.channels; ++channel) {
      const u32 at = place[channel];
      *out++ = static_cast<u8>((upper[at] + upper[at + next] + lower[at] + lower[at + next] + 2) >> 2);
    }
}

void to_rgb(const u8 *row, PixelLayout layout, u32 pixels, u8 *rgb) {
  if (layout.channels == 1) {
    for (u32 x = 0; x < pixels; ++x) rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = row[x];
    return;
  }
  for (u32 x = 0; x < pixels; ++x, row += layout.bytes, rgb += 3) {
    rgb[0] = row[layout.red];
    rgb[1] = row[1];
    rgb[2] = row[layout.blue];
  }
}

void narrow(const u8 *row, u32 pixels, u32 shift, u8 *gray) {
  for (u32 x = 0; x < pixels; ++x) {
    std::uint16_t value;  // may lie at any address
    __builtin_memcpy(&value, row + 2 * static_cast<size_t>(x), 2);
    const u32 shifted = static_cast<u32>(value) >> shift;
    gray[x] = static_cast<u8>(shifted > 255 ? 255 : shifted);
  }
}

// OpenCV's bilinear demosaic of `pixels` <= BLOCK pixels that all have eight neighbours; p points at the first.
// red_first: the first pixel lies in a column with red ones. All four means are taken for every pixel, and the
// column's parity selects: that vectorises.
constexpr u32 BLOCK = 64;

void demosaic_block(const u8 *p, std::ptrdiff_t stride, bool red_row, bool red_first, u32 pixels, u8 *rgb) {
  const u8 *above = p - stride, *below = p + stride;
  u8 own[BLOCK], green[BLOCK], other[BLOCK];  // own: the colour that this row has beside green
  const u32 first = red_first == red_row ? 0 : 1;  // parity of the pixels that have it
  for (u32 i = 0; i < pixels; ++i) {
    const std::ptrdiff_t x = i;
    const u32 cross = (p[x - 1] + p[x + 1] + above[x] + below[x] + 2U) >> 2;
    const u32 corners = (above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1] + 2U) >> 2;
    const u32 sides = (p[x - 1] + p[x + 1] + 1U) >> 1;
    const u32 ends = (above[x] + below[x] + 1U) >> 1;
    const bool seen = (i & 1) == first;
    own[i] = static_cast<u8>(seen ? p[x] : sides);
    green[i] = static_cast<u8>(seen ? cross : p[x]);
    other[i] = static_cast<u8>(seen ? corners : ends);
  }
  const u8 *red = red_row ? own : other, *blue = red_row ? other : own;
  for (u32 i = 0; i < pixels; ++i) {
    rgb[3 * i] = red[i];
    rgb[3 * i + 1] = green[i];
    rgb[3 * i + 2] = blue[i];
  }
}

// The frame's border takes the nearest pixel that has eight neighbours, as OpenCV does.
inline u32 inner(u32 at, u32 size) { return at < 1 ? 1 : (at > size - 2 ? size - 2 : at); }

void demosaic(const BayerPlane &plane, u32 x, u32 y, u32 pixels, u8 *rgb) {
  const u32 row = inner(y, plane.height);
  const u8 *line = plane.data + row * plane.stride;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(plane.stride);
  const bool red_row = (row & 1) == plane.red_y;
  for (u32 done = 0; done < pixels;) {
    const u32 column = inner(x + done, plane.width);
    u32 count = 1;
    if (column == x + done) {
      count = plane.width - 1 - column;  // up to the right border
      count = count < pixels - done ? count : pixels - done;
      count = count < BLOCK ? count : BLOCK;
    }
    demosaic_block(line + column, stride, red_row, (column & 1) == plane.red_x, count, rgb + 3 * done);
    done += count;
  }
}
