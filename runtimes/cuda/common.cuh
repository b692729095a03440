#pragma once
// What all kernels share. A kernel takes one struct by value, so that a launch is a name, a grid and some bytes; its
// twin in Python is a ctypes structure of the same fields. NVRTC has no standard headers: nothing is included here.
//
// tests/cuda_host compiles the same files as C++ and runs them on the CPU: it defines EDGEAD_KERNEL and what CUDA has
// built in. So a kernel keeps to shuffles and barriers that all threads of the warp or block reach.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef EDGEAD_KERNEL
#define EDGEAD_KERNEL(name, threads, Params) \
  extern "C" __global__ void __launch_bounds__(threads) name(const Params p)
#endif

// Unsigned integers in the order of the floats, none of which is 0: negative values have all bits flipped, the others
// the sign.
__device__ inline u32 ordered(float value) {
  const u32 bits = __float_as_uint(value);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

__device__ inline float from_ordered(u32 key) {
  return __uint_as_float(key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

__device__ inline bool is_nan(float value) { return value != value; }

__device__ inline float half_to_float(u16 bits) {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  return host_half_to_float(bits);
#endif
}

__device__ inline u32 warp_max(u32 value) {
  for (u32 step = 16; step > 0; step /= 2) {
    const u32 other = __shfl_xor_sync(0xffffffffu, value, step);
    value = other > value ? other : value;
  }
  return value;
}

__device__ inline double warp_sum(double value) {
  for (u32 step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// The block's largest value, for all of its threads.
__device__ inline u32 block_max(u32 value) {
  __shared__ u32 largest;
  if (threadIdx.x == 0) largest = 0;
  __syncthreads();
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) atomicMax(&largest, value);
  __syncthreads();
  value = largest;
  __syncthreads();  // a second call writes it again
  return value;
}

// The block's sum, always added in the same order, for all of its threads. At most 32 warps.
__device__ inline double block_sum(double value) {
  __shared__ double parts[32];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0.0;
  for (u32 warp = 0; warp < blockDim.x / 32; ++warp) value += parts[warp];
  __syncthreads();
  return value;
}

// Whether this block is the last of `blocks` that comes here; it then sees what the others wrote before. The counter
// begins at 0 and is 0 again afterwards.
__device__ inline bool is_last_block(u32 *counter, u32 blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();  // all threads of the block have written
  if (threadIdx.x == 0) {
    last = atomicAdd(counter, 1u) == blocks - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  const bool found = last;
  __syncthreads();
  __threadfence();
  return found;
}
