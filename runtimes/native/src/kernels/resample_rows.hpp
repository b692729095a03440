// Row kernels in plain C++: OpenCV's bilinear, and conversions to quads, 8-bit gray or RGB. Included by
// resample.cpp inside the namespace of the level.

void interleave(const u8 *const rows[4], size_t bytes, u32 *out) {
  const u8 *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  for (size_t i = 0; i < bytes; ++i)
    out[i] = a[i] | static_cast<u32>(b[i]) << 8 | static_cast<u32>(c[i]) << 16 | static_cast<u32>(d[i]) << 24;
}

void linear_row(const u8 *row, PixelLayout layout, const LinearTap *taps, u32 outputs, i16 *out) {
  if (layout.channels == 1) {
    for (u32 x = 0; x < outputs; ++x) {
      const LinearTap &tap = taps[x];
      out[x] = static_cast<i16>((row[tap.low] * tap.weight_low + row[tap.high] * tap.weight_high) >> 4);
    }
    return;
  }
  for (u32 x = 0; x < outputs; ++x, out += 3) {
    const u8 *a = row + taps[x].low, *b = row + taps[x].high;
    const i32 wa = taps[x].weight_low, wb = taps[x].weight_high;
    out[0] = static_cast<i16>((a[layout.red] * wa + b[layout.red] * wb) >> 4);
    out[1] = static_cast<i16>((a[1] * wa + b[1] * wb) >> 4);
    out[2] = static_cast<i16>((a[layout.blue] * wa + b[layout.blue] * wb) >> 4);
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
    const u32 value = (row[2 * x] | static_cast<u32>(row[2 * x + 1]) << 8) >> shift;
    gray[x] = static_cast<u8>(value > 255 ? 255 : value);
  }
}

// OpenCV's bilinear demosaic of one pixel that has eight neighbours. p points at it.
inline void demosaic_pixel(const u8 *p, std::ptrdiff_t stride, bool red_row, bool red_column, u8 *rgb) {
  const i32 cross = (p[-1] + p[1] + p[-stride] + p[stride] + 2) >> 2;
  const i32 corners = (p[-stride - 1] + p[-stride + 1] + p[stride - 1] + p[stride + 1] + 2) >> 2;
  const i32 sides = (p[-1] + p[1] + 1) >> 1;
  const i32 ends = (p[-stride] + p[stride] + 1) >> 1;
  const bool green = red_row != red_column;
  rgb[0] = static_cast<u8>(green ? (red_row ? sides : ends) : (red_row ? p[0] : corners));
  rgb[1] = static_cast<u8>(green ? p[0] : cross);
  rgb[2] = static_cast<u8>(green ? (red_row ? ends : sides) : (red_row ? corners : p[0]));
}

// The frame's border takes the nearest pixel that has eight neighbours, as OpenCV does.
inline u32 inner(u32 at, u32 size) { return at < 1 ? 1 : (at > size - 2 ? size - 2 : at); }

void demosaic(const BayerPlane &plane, u32 x, u32 y, u32 pixels, u8 *rgb) {
  const u32 row = inner(y, plane.height);
  const u8 *line = plane.data + row * plane.stride;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(plane.stride);
  const bool red_row = (row & 1) == plane.red_y;
  for (u32 i = 0; i < pixels; ++i) {
    const u32 column = inner(x + i, plane.width);
    demosaic_pixel(line + column, stride, red_row, (column & 1) == plane.red_x, rgb + 3 * i);
  }
}
