#include "cpu.hpp"

#include <cstdlib>
#include <cstring>

#include "edgead/edgead.h"

#ifndef EDGEAD_HAVE_avx2
#define EDGEAD_HAVE_avx2 0
#endif
#ifndef EDGEAD_HAVE_avx512
#define EDGEAD_HAVE_avx512 0
#endif
#ifndef EDGEAD_HAVE_neon
#define EDGEAD_HAVE_neon 0
#endif

namespace edgead {
namespace {

std::uint64_t detect() noexcept {
  std::uint64_t found = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (EDGEAD_HAVE_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    found |= EDGEAD_CPU_AVX2;
    if (EDGEAD_HAVE_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      found |= EDGEAD_CPU_AVX512;
      if (__builtin_cpu_supports("avx512vnni")) found |= EDGEAD_CPU_VNNI;
    }
  }
#elif defined(__aarch64__)
  if (EDGEAD_HAVE_neon) found |= EDGEAD_CPU_NEON;  // part of the base architecture
#endif
  const char *forced = std::getenv("EDGEAD_FORCE_KERNEL");
  if (forced == nullptr) return found;
  if (std::strcmp(forced, "scalar") == 0) return 0;
  if (std::strcmp(forced, "avx2") == 0) return found & EDGEAD_CPU_AVX2;
  return found;
}

}  // namespace

std::uint64_t cpu_features() noexcept {
  static const std::uint64_t features = detect();
  return features;
}

Level select_level(std::uint64_t mask) noexcept {
  const std::uint64_t allowed = cpu_features() & mask;
  if (allowed & EDGEAD_CPU_AVX512) return Level::avx512;
  if (allowed & EDGEAD_CPU_AVX2) return Level::avx2;
  if (allowed & EDGEAD_CPU_NEON) return Level::neon;
  return Level::scalar;
}

const char *level_name(Level level) noexcept {
  switch (level) {
    case Level::avx2: return "avx2";
    case Level::avx512: return "avx512";
    case Level::neon: return "neon";
    case Level::scalar: break;
  }
  return "scalar";
}

}  // namespace edgead

extern "C" {

uint64_t edgead_cpu_features(void) { return edgead::cpu_features(); }

const char *edgead_kernel_name(uint64_t cpu_mask) {
  return edgead::level_name(edgead::select_level(cpu_mask));
}

}  // extern "C"
