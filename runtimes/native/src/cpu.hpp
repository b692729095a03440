#pragma once
// Which kernels run: instruction sets of this CPU, cut by what was built, by EDGEAD_FORCE_KERNEL and by a mask.

#include <cstdint>

namespace edgead {

enum class Level { scalar, avx2, avx512, neon };

// EDGEAD_CPU_* bits that may be used at all.
std::uint64_t cpu_features() noexcept;

// The best level that both this CPU and `mask` (EDGEAD_CPU_* bits) allow.
Level select_level(std::uint64_t mask) noexcept;

const char *level_name(Level level) noexcept;

}  // namespace edgead
