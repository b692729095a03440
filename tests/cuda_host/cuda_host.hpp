#pragma once
// CUDA's built-ins for a CPU, so that the kernels in runtimes/cuda compile as C++ and run without a GPU. Blocks run one
// after the other; the threads of a block are fibers, and each runs until it has to wait for others. What a GPU would
// leave undefined stops the run with a message: a barrier or shuffle that not all threads of the block or warp reach.
// The order of threads and blocks can be turned round: a kernel that lacks a barrier then gives another result.
//
// Include before a .cu file (g++ -include cuda_host.hpp).

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define __device__
#define __forceinline__ inline
#define __shared__ static
#define EDGEAD_KERNEL(name, threads, Params)                                                  \
  static void name##_body(const Params &p);                                                   \
  extern "C" void name(const void *p) { name##_body(*static_cast<const Params *>(p)); }        \
  extern "C" {                                                                                 \
  extern const unsigned name##_threads = threads, name##_bytes = sizeof(Params);               \
  }                                                                                            \
  static void name##_body(const Params &p)

struct Index {
  unsigned x, y, z;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

namespace cuda_host {

enum Wait : unsigned char { RUN, WARP, BLOCK, DONE };

struct Fiber {
  jmp_buf context;
  Index thread;
  unsigned number;
  Wait wait;
  bool odd;  // which of the two exchange slots comes next
  std::uint64_t slot[2];
  ucontext_t start;
  std::unique_ptr<char[]> stack;
};

inline std::vector<std::unique_ptr<Fiber>> fibers;  // of a block; they live on and are used again
inline Fiber *current = nullptr;
inline jmp_buf scheduler, stopped;
inline char message[200];
inline unsigned threads_in_block = 0;
inline Index block_index, block_size, grid_size;
inline void (*body)(const void *) = nullptr;
inline const void *parameters = nullptr;

[[noreturn]] inline void fail(const char *what) {
  std::snprintf(message, sizeof message, "block (%u, %u, %u), thread %u: %s", block_index.x, block_index.y,
                block_index.z, current->number, what);
  _longjmp(stopped, 1);
}

[[gnu::noinline]] inline void wait(Wait kind) {
  current->wait = kind;
  if (_setjmp(current->context) == 0) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  for (;;) {
    body(parameters);
    wait(DONE);
  }
}

inline void make_fiber(Fiber &fiber) {
  constexpr std::size_t stack_bytes = 1 << 16;
  fiber.stack = std::make_unique<char[]>(stack_bytes);
  ::getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = stack_bytes;
  fiber.start.uc_link = nullptr;
  ::makecontext(&fiber.start, fiber_main, 0);
}

inline void enter(Fiber &fiber, bool first_time) {
  current = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (first_time) ::setcontext(&fiber.start);
  _longjmp(fiber.context, 1);
}

// Lets those go on whose warp or block is complete. False where none can.
inline bool release() {
  bool any = false, all = true;
  for (unsigned first = 0; first < threads_in_block; first += 32) {
    const unsigned end = std::min(threads_in_block, first + 32);
    bool complete = true;
    for (unsigned i = first; i < end; ++i) {
      complete &= fibers[i]->wait == WARP;
      all &= fibers[i]->wait == BLOCK;
    }
    if (!complete) continue;
    for (unsigned i = first; i < end; ++i) fibers[i]->wait = RUN;
    any = true;
  }
  if (all)
    for (unsigned i = 0; i < threads_in_block; ++i) fibers[i]->wait = RUN;
  return any || all;
}

inline void run_block(bool backwards) {
  const std::size_t had = fibers.size();
  while (fibers.size() < threads_in_block) {
    fibers.push_back(std::make_unique<Fiber>());
    make_fiber(*fibers.back());
  }
  for (unsigned i = 0; i < threads_in_block; ++i) {
    Fiber &fiber = *fibers[i];
    fiber.thread = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
    fiber.number = i;
    fiber.wait = RUN;
    fiber.odd = false;
  }
  bool first = true;
  for (;;) {
    unsigned done = 0;
    for (unsigned n = 0; n < threads_in_block; ++n) {
      const unsigned i = backwards ? threads_in_block - 1 - n : n;
      if (fibers[i]->wait == RUN) enter(*fibers[i], first && i >= had);
      done += fibers[i]->wait == DONE ? 1 : 0;
    }
    first = false;
    if (done == threads_in_block) return;
    if (!release()) fail("a barrier or shuffle that not all threads reach");
  }
}

// What thread `source` of the warp gave in the same exchange.
template <class T>
T exchange(T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  Fiber &self = *current;
  const bool odd = self.odd;
  self.odd = !odd;
  std::memcpy(&self.slot[odd], &value, sizeof value);
  wait(WARP);
  std::memcpy(&value, &fibers[self.number / 32 * 32 + source]->slot[odd], sizeof value);
  return value;
}

inline void check_mask(unsigned mask) {
  if (mask != 0xffffffffu || threads_in_block % 32 != 0) fail("a shuffle of a part of a warp");
}

}  // namespace cuda_host

#define threadIdx (cuda_host::current->thread)
#define blockIdx (cuda_host::block_index)
#define blockDim (cuda_host::block_size)
#define gridDim (cuda_host::grid_size)

using std::max;
using std::min;

inline void __syncthreads() { cuda_host::wait(cuda_host::BLOCK); }
inline void __syncwarp() { cuda_host::wait(cuda_host::WARP); }
inline void __threadfence() {}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned with) {
  cuda_host::check_mask(mask);
  return cuda_host::exchange(value, (cuda_host::current->number % 32) ^ with);
}

template <class T>
T __shfl_sync(unsigned mask, T value, unsigned source) {
  cuda_host::check_mask(mask);
  return cuda_host::exchange(value, source % 32);
}

template <class T>
T atomicAdd(T *at, T value) {
  const T before = *at;
  *at += value;
  return before;
}

template <class T>
T atomicMax(T *at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float host_half_to_float(unsigned short bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                     : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (bits >> 15) != 0 ? -size : size;
}

// kernel: what dlsym found. backwards: threads and blocks in the reverse order. NULL, or what is wrong with the kernel.
extern "C" const char *cuda_host_launch(void (*kernel)(const void *), const void *parameters, const unsigned grid[3],
                                 const unsigned block[3], int backwards) {
  using namespace cuda_host;
  body = kernel;
  cuda_host::parameters = parameters;
  grid_size = {grid[0], grid[1], grid[2]};
  block_size = {block[0], block[1], block[2]};
  threads_in_block = block[0] * block[1] * block[2];
  if (_setjmp(stopped) != 0) {
    fibers.clear();
    return message;
  }
  const unsigned blocks = grid[0] * grid[1] * grid[2];
  for (unsigned n = 0; n < blocks; ++n) {
    const unsigned i = backwards != 0 ? blocks - 1 - n : n;
    block_index = {i % grid[0], i / grid[0] % grid[1], i / (grid[0] * grid[1])};
    run_block(backwards != 0);
  }
  return nullptr;
}
