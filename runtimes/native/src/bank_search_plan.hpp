#pragma once
// The nearest vector of a bank, exactly: coded approximations rule out nearly all vectors by a proven bound, the rest is
// compared in doubles.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/bank_search.hpp"
#include "status.hpp"
#include "worker_pool.hpp"

namespace edgead {

constexpr std::uint32_t kMostBankVectors = 1u << 26, kMostBankDim = 4096, kMostBankQueries = 1u << 20;
constexpr std::uint32_t kMostNeighbours = 64;

// Bytes of a bank; 0 where that is more than 64 GiB (window_search_plan.hpp).
std::uint64_t bank_search_bytes(std::uint32_t vectors, std::uint32_t dim) noexcept;

// What all searches of a bank share: its codes. The bank itself is read in place.
class BankIndex {
 public:
  // Checks the bank, too: every value must be finite and at most 1e15.
  [[nodiscard]] edgead_status prepare(const float *bank, std::size_t bytes, std::uint32_t vectors, std::uint32_t dim,
                                      std::uint64_t cpu_mask, const ErrorSink &sink) noexcept;

  // Of each vector of the bank, for BankSearchPlan::score; read in place, too.
  [[nodiscard]] edgead_status set_neighbours(const std::int32_t *near, std::size_t bytes, std::uint32_t neighbours,
                                             const ErrorSink &sink) noexcept;

  std::size_t neighbours() const noexcept { return neighbours_; }
  const std::int32_t *near(std::size_t index) const noexcept { return near_ + index * neighbours_; }
  std::size_t vectors() const noexcept { return vectors_; }
  std::size_t dim() const noexcept { return dim_; }
  std::size_t tiles() const noexcept { return (vectors_ + kBankTile - 1) / kBankTile; }
  bool coded() const noexcept { return coded_; }  // as int8
  const float *vector(std::size_t index) const noexcept { return bank_ + index * dim_; }
  const float *centre() const noexcept { return centre_.data(); }
  const BankKernels &kernels() const noexcept { return *kernels_; }
  double margin() const noexcept { return margin_; }
  BankTile tile(std::size_t index) const noexcept;
  // In values of a code: padded to what the screening reads.
  std::size_t code_dim() const noexcept { return coded_ ? (dim_ + 3) / 4 * 4 : dim_; }

 private:
  void set_centre() noexcept;
  void code(std::size_t index) noexcept;

  const BankKernels *kernels_ = nullptr;
  const float *bank_ = nullptr;
  const std::int32_t *near_ = nullptr;
  std::size_t vectors_ = 0, dim_ = 0, neighbours_ = 0;
  bool coded_ = false;
  double margin_ = 0.0;  // of rounding, as a share of the squares that enter a comparison
  Buffer<float> centre_, base_, residual_, length_, scale_;
  Buffer<std::uint8_t> codes_;
};

// Scratch of one search at a time. Throws nothing.
class BankSearchPlan {
 public:
  // Up to `queries` at a time on `threads`; 0 = as many as the process may use, at most 16.
  [[nodiscard]] edgead_status prepare(std::shared_ptr<const BankIndex> index, std::uint32_t queries,
                                      std::uint32_t threads, const ErrorSink &sink) noexcept;

  // count <= queries rows of `dim`. A query that is not finite gets index 0 and NaN.
  void run(const float *queries, std::size_t count, std::int32_t *indices, float *distances) noexcept;

  // Of the last run, which had queries, weighted by the neighbours (there are some); see edgead_bank_search_run.
  float score() const noexcept;

  const BankIndex &index() const noexcept { return *index_; }
  std::size_t queries() const noexcept { return queries_; }

 private:
  // A block of queries on its way through all tiles; `at` counts in the block.
  struct Worker {
    Buffer<std::uint8_t> codes;
    Buffer<float> centred, scale, residual, reach, limit;
    Buffer<double> squares;
    Buffer<std::int32_t> bias;
    Buffer<std::uint64_t> masks;

    bool allocate(std::size_t block, std::size_t code_bytes, std::size_t dim) noexcept;
    void set_reach(std::size_t at, double best, double margin) noexcept;
    void leave_out(std::size_t at) noexcept;
  };
  static void work(void *self, std::size_t worker) noexcept;
  void search(std::size_t first, std::size_t count, Worker &worker) noexcept;
  void code(std::size_t query, Worker &worker, std::size_t at) noexcept;
  void compare(std::size_t query, std::size_t vector) noexcept;

  std::shared_ptr<const BankIndex> index_;
  std::unique_ptr<WorkerPool> pool_;
  std::size_t queries_ = 0, block_ = 0;
  std::unique_ptr<Worker[]> workers_;
  Buffer<double> best_;         // squared distance, per query
  Buffer<std::int32_t> found_;  // its vector; of the last run, where the next one begins

  const float *given_ = nullptr;  // the queries of a run
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
};

}  // namespace edgead
