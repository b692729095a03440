#pragma once
// Along which directions the vectors of a bank differ most, nearly, and how many of them are worth looking along first.

#include <cstddef>

#include "buffer.hpp"
#include "kernels/bank_search.hpp"

namespace edgead {

constexpr std::size_t kMostAxesSample = 170 * kBankQueries;

struct AxesChoice {
  bool enough_memory;
  std::size_t columns;  // a multiple of kBankBox; 0: none is worth it
  float rest;           // the sample's mean length off the axes
};

// From `samples` centred vectors of a bank, a multiple of kBankQueries, at most kMostAxesSample: rows of `dim`. `axes`
// gets dim rows of `columns`, the longest spread first, the last one 0. As an operator they never lengthen a vector.
AxesChoice choose_axes(const float *rows, std::size_t samples, std::size_t dim, std::size_t vectors, bool coded,
                       const BankKernels &kernels, Buffer<float> &axes) noexcept;

}  // namespace edgead
