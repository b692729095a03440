#include "kernels/resample.hpp"

#if EDGEAD_LEVEL_avx2 || EDGEAD_LEVEL_avx512
#include <immintrin.h>
#endif

namespace edgead::EDGEAD_LEVEL {
namespace {

using u8 = std::uint8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using u32 = std::uint32_t;
using std::size_t;

#if EDGEAD_LEVEL_avx2 || EDGEAD_LEVEL_avx512
#include "kernels/resample_avx.hpp"
#else
#include "kernels/resample_generic.hpp"
#endif
#include "kernels/resample_rows.hpp"

}  // namespace

const ResampleKernels resample_kernels = {LANES,      encode_quad,  pack_rows, horizontal, interleave, vertical,
                                          linear_row, linear_blend, halve,     to_rgb,     narrow,     demosaic};

}  // namespace edgead::EDGEAD_LEVEL
