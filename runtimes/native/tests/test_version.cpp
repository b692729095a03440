// Versions, status sentences and kernel names of the C interface.
#include <cstdint>
#include <cstring>

#include "check.hpp"
#include "edgead/edgead.h"

int main() {
  CHECK_EQ(edgead_abi_version(), EDGEAD_ABI_VERSION);
  CHECK(std::strlen(edgead_version_string()) > 0);
  for (edgead_status status = -1; status < 8; ++status) CHECK(edgead_status_string(status) != nullptr);
  CHECK(std::strcmp(edgead_kernel_name(0), "scalar") == 0);
  if (edgead_cpu_features() & EDGEAD_CPU_AVX2)
    CHECK(std::strcmp(edgead_kernel_name(EDGEAD_CPU_AVX2), "avx2") == 0);
#if defined(__aarch64__)
  // The best level of an ARM CPU is NEON's: the other tests then compare it with the plain one.
  CHECK_EQ(edgead_cpu_features(), EDGEAD_CPU_NEON);
  CHECK(std::strcmp(edgead_kernel_name(~std::uint64_t{0}), "neon") == 0);
#else
  CHECK_EQ(edgead_cpu_features() & EDGEAD_CPU_NEON, 0);
#endif
  return check_failures();
}
