// Pillow's filter with AVX2 or AVX-512. Included by resample.cpp inside the namespace of the level.
//
// A weight has 23 bits, too many for a 16-bit multiply-add: it is split into weight = high * 2^11 + low, and
// the two sums are put together at the end. Everything stays exact: 255 * 2^22 + 2^21 < 2^31.

#if EDGEAD_LEVEL_avx512
using Vector = __m512i;
constexpr u32 LANES = 16;
inline Vector load(const void *p) { return _mm512_loadu_si512(p); }
inline Vector broadcast(i32 v) { return _mm512_set1_epi32(v); }
inline Vector bit_and(Vector a, Vector b) { return _mm512_and_si512(a, b); }
inline Vector add(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
inline Vector multiply_add(Vector a, Vector b) { return _mm512_madd_epi16(a, b); }
inline Vector high_bytes(Vector a) { return _mm512_srli_epi16(a, 8); }
inline Vector shift_left_11(Vector a) { return _mm512_slli_epi32(a, 11); }
inline Vector shift_right_22(Vector a) { return _mm512_srli_epi32(a, 22); }
inline Vector pack_32_16(Vector a, Vector b) { return _mm512_packus_epi32(a, b); }
inline Vector pack_16_8(Vector a, Vector b) { return _mm512_packus_epi16(a, b); }
inline Vector low_32(Vector a, Vector b) { return _mm512_unpacklo_epi32(a, b); }
inline Vector high_32(Vector a, Vector b) { return _mm512_unpackhi_epi32(a, b); }
inline Vector low_64(Vector a, Vector b) { return _mm512_unpacklo_epi64(a, b); }
inline Vector high_64(Vector a, Vector b) { return _mm512_unpackhi_epi64(a, b); }
inline Vector shuffle_bytes(Vector a, __m128i order) {
  return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(order));
}
inline __m128i load_16(const u8 *p) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)); }
// 16 bytes of the rows 0, 4, 8, 12.
inline Vector load_every_fourth(const u8 *p, size_t stride) {
  Vector v = _mm512_castsi128_si512(load_16(p));
  v = _mm512_inserti32x4(v, load_16(p + 4 * stride), 1);
  v = _mm512_inserti32x4(v, load_16(p + 8 * stride), 2);
  return _mm512_inserti32x4(v, load_16(p + 12 * stride), 3);
}
inline void store_lanes(Vector v, u32 *p, size_t stride) {
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_castsi512_si128(v));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p + stride), _mm512_extracti32x4_epi32(v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p + 2 * stride), _mm512_extracti32x4_epi32(v, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p + 3 * stride), _mm512_extracti32x4_epi32(v, 3));
}
// 128-bit lanes of four packed vectors -> memory order.
inline Vector untangle(Vector v) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}
inline void store(void *p, Vector v) { _mm512_storeu_si512(p, v); }
#else
using Vector = __m256i;
constexpr u32 LANES = 8;
inline Vector load(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
inline Vector broadcast(i32 v) { return _mm256_set1_epi32(v); }
inline Vector bit_and(Vector a, Vector b) { return _mm256_and_si256(a, b); }
inline Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
inline Vector multiply_add(Vector a, Vector b) { return _mm256_madd_epi16(a, b); }
inline Vector high_bytes(Vector a) { return _mm256_srli_epi16(a, 8); }
inline Vector shift_left_11(Vector a) { return _mm256_slli_epi32(a, 11); }
inline Vector shift_right_22(Vector a) { return _mm256_srli_epi32(a, 22); }
inline Vector pack_32_16(Vector a, Vector b) { return _mm256_packus_epi32(a, b); }
inline Vector pack_16_8(Vector a, Vector b) { return _mm256_packus_epi16(a, b); }
inline Vector low_32(Vector a, Vector b) { return _mm256_unpacklo_epi32(a, b); }
inline Vector high_32(Vector a, Vector b) { return _mm256_unpackhi_epi32(a, b); }
inline Vector low_64(Vector a, Vector b) { return _mm256_unpacklo_epi64(a, b); }
inline Vector high_64(Vector a, Vector b) { return _mm256_unpackhi_epi64(a, b); }
inline Vector shuffle_bytes(Vector a, __m128i order) {
  return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(order));
}
inline __m128i load_16(const u8 *p) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)); }
// 16 bytes of the rows 0, 4.
inline Vector load_every_fourth(const u8 *p, size_t stride) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(p)), load_16(p + 4 * stride), 1);
}
inline void store_lanes(Vector v, u32 *p, size_t stride) {
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_castsi256_si128(v));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p + stride), _mm256_extracti128_si256(v, 1));
}
inline Vector untangle(Vector v) {
  return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
inline void store(void *p, Vector v) { _mm256_storeu_si256(static_cast<__m256i *>(p), v); }
#endif

void encode_quad(const i32 weights[4], i32 encoded[4]) {
  encoded[0] = (weights[0] >> 11) | (weights[2] >> 11) << 16;
  encoded[1] = (weights[1] >> 11) | (weights[3] >> 11) << 16;
  encoded[2] = (weights[0] & 2047) | (weights[2] & 2047) << 16;
  encoded[3] = (weights[1] & 2047) | (weights[3] & 2047) << 16;
}

struct QuadWeights {
  Vector even_high, odd_high, even_low, odd_low;
};

inline QuadWeights load_weights(const i32 *w) {
  return {broadcast(w[0]), broadcast(w[1]), broadcast(w[2]), broadcast(w[3])};
}

struct Sum {
  Vector high, low;
};

inline Sum zero_sum() { return {broadcast(0), broadcast(1 << 21)}; }

inline void accumulate(Sum &sum, Vector quads, const QuadWeights &w) {
  const Vector even = bit_and(quads, broadcast(0x00FF00FF));
  const Vector odd = high_bytes(quads);
  sum.high = add(sum.high, add(multiply_add(even, w.even_high), multiply_add(odd, w.odd_high)));
  sum.low = add(sum.low, add(multiply_add(even, w.even_low), multiply_add(odd, w.odd_low)));
}

inline Vector result(const Sum &sum) { return shift_right_22(add(shift_left_11(sum.high), sum.low)); }

void pack_rows(const u8 *rows, size_t stride, u32 pixels, PixelLayout layout, u32 *packed) {
  const bool colour = layout.channels == 3;
  // Four pixels -> red quad, green quad, blue quad; a gray row is in order already.
  alignas(16) u8 order_bytes[16];
  for (u32 i = 0; i < 16; ++i) order_bytes[i] = static_cast<u8>(i);
  if (colour) {
    const u32 place[4] = {layout.red, 1, layout.blue, 0};
    for (u32 i = 0; i < 16; ++i) order_bytes[i] = static_cast<u8>(place[i / 4] + layout.bytes * (i % 4));
  }
  const __m128i order = load_16(order_bytes);
  const size_t step = colour ? 4 * layout.bytes : 16;
  const u32 steps = colour ? (pixels + 3) / 4 : (pixels + 15) / 16;
  for (u32 i = 0; i < steps; ++i, rows += step) {
    Vector a = load_every_fourth(rows, stride), b = load_every_fourth(rows + stride, stride);
    Vector c = load_every_fourth(rows + 2 * stride, stride), d = load_every_fourth(rows + 3 * stride, stride);
    if (colour) {
      a = shuffle_bytes(a, order), b = shuffle_bytes(b, order);
      c = shuffle_bytes(c, order), d = shuffle_bytes(d, order);
    }
    const Vector ab_low = low_32(a, b), cd_low = low_32(c, d);
    const Vector ab_high = high_32(a, b), cd_high = high_32(c, d);
    store(packed, low_64(ab_low, cd_low));
    store(packed + LANES, high_64(ab_low, cd_low));
    store(packed + 2 * LANES, low_64(ab_high, cd_high));
    packed += 3 * LANES;
    if (!colour) {
      store(packed, high_64(ab_high, cd_high));
      packed += LANES;
    }
  }
}

void horizontal(const u32 *packed, const QuadRun *runs, const i32 *weights, u32 outputs, u32 channels,
                       u32 *ring, size_t ring_stride) {
  if (channels == 3) {
    for (u32 x = 0; x < outputs; ++x, ring += 3) {
      const u32 *p = packed + static_cast<size_t>(runs[x].first) * 3 * LANES;
      const i32 *w = weights + static_cast<size_t>(runs[x].weights) * 4;
      Sum red = zero_sum(), green = zero_sum(), blue = zero_sum();
      for (u32 i = 0; i < runs[x].count; ++i, p += 3 * LANES, w += 4) {
        const QuadWeights quad = load_weights(w);
        accumulate(red, load(p), quad);
        accumulate(green, load(p + LANES), quad);
        accumulate(blue, load(p + 2 * LANES), quad);
      }
      const Vector red_green = pack_32_16(result(red), result(green));
      store_lanes(pack_16_8(red_green, pack_32_16(result(blue), broadcast(0))), ring, ring_stride);
    }
    return;
  }
  for (u32 x = 0; x < outputs; x += 4, ring += 4) {
    Vector column[4];
    for (u32 k = 0; k < 4; ++k) {
      const QuadRun run = runs[x + k];
      const u32 *p = packed + static_cast<size_t>(run.first) * LANES;
      const i32 *w = weights + static_cast<size_t>(run.weights) * 4;
      Sum sum = zero_sum();
      for (u32 i = 0; i < run.count; ++i, p += LANES, w += 4) accumulate(sum, load(p), load_weights(w));
      column[k] = result(sum);
    }
    store_lanes(pack_16_8(pack_32_16(column[0], column[1]), pack_32_16(column[2], column[3])), ring, ring_stride);
  }
}

void vertical(const u32 *ring, size_t ring_stride, u32 ring_mask, QuadRun run, const i32 *weights, u32 columns,
                     u8 *out) {
  weights += static_cast<size_t>(run.weights) * 4;
  for (u32 x = 0; x < columns; x += 4 * LANES) {
    Sum a = zero_sum(), b = zero_sum(), c = zero_sum(), d = zero_sum();
    for (u32 i = 0; i < run.count; ++i) {
      const u32 *p = ring + static_cast<size_t>((run.first + i) & ring_mask) * ring_stride + x;
      const QuadWeights quad = load_weights(weights + 4 * i);
      accumulate(a, load(p), quad);
      accumulate(b, load(p + LANES), quad);
      accumulate(c, load(p + 2 * LANES), quad);
      accumulate(d, load(p + 3 * LANES), quad);
    }
    const Vector tangled = pack_16_8(pack_32_16(result(a), result(b)), pack_32_16(result(c), result(d)));
    const Vector bytes = untangle(tangled);
    if (columns - x >= 4 * LANES) {
      store(out + x, bytes);
    } else {
      u8 rest[4 * LANES];
      store(rest, bytes);
      __builtin_memcpy(out + x, rest, columns - x);
    }
  }
}

// The first outputs of a colour row, as many as may read eight bytes from their low pixel on; returns how many.
u32 linear_row_vector(const u8 *row, u32 pixels, PixelLayout layout, const LinearTap *taps, u32 outputs, i16 *out) {
  const size_t bytes = static_cast<size_t>(pixels) * layout.bytes;
  while (outputs > 0 && size_t{taps[outputs - 1].low} + 8 > bytes) --outputs;
  // Two pixels -> words red red green green blue blue 0 0.
  const u32 place[3] = {layout.red, 1, layout.blue};
  alignas(16) u8 order_bytes[16];
  for (u32 i = 0; i < 16; ++i) {
    const bool value = i < 12 && i % 2 == 0;
    order_bytes[i] = static_cast<u8>(value ? place[i / 4] + (i % 4 == 2 ? layout.bytes : 0) : 0x80);
  }
  const __m128i order = load_16(order_bytes);
  for (u32 x = 0; x < outputs; ++x) {
    const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(row + taps[x].low));
    i32 weights;  // both, as they lie in the tap
    __builtin_memcpy(&weights, reinterpret_cast<const u8 *>(taps + x) + 2 * sizeof(u32), sizeof weights);
    const __m128i sums = _mm_madd_epi16(_mm_shuffle_epi8(two, order), _mm_set1_epi32(weights));
    const __m128i shifted = _mm_srli_epi32(sums, 4);
    _mm_storel_epi64(reinterpret_cast<__m128i *>(out + 3 * x), _mm_packus_epi32(shifted, shifted));
  }
  return outputs;
}
