#pragma once
// Exact sums of the largest values, by radix selection on the values' bits: no allocation, no sorting.

#include <cstddef>

namespace edgead {

// The k-th largest of n values, 1 <= k <= n, none of them NaN.
float kth_largest(const float *values, std::size_t n, std::size_t k) noexcept;

// Sum of the k largest of n values, 1 <= k <= n, none of them NaN.
double top_k_sum(const float *values, std::size_t n, std::size_t k) noexcept;

}  // namespace edgead
