#pragma once
// The nearest vector of a bank, exactly: points of few values, coded, rule out nearly all vectors by a proven bound,
// the rest is compared in floats, and in doubles where floats cannot tell.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "bank_index.hpp"
#include "buffer.hpp"
#include "edgead/edgead.h"
#include "kernels/bank_search.hpp"
#include "status.hpp"
#include "worker_pool.hpp"

namespace edgead {

constexpr std::uint32_t kMostBankQueries = 1u << 20;
constexpr std::size_t kMostCandidates = 8;

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
  // Vectors that floats cannot tell from the nearest one: doubles will.
  struct Candidates {
    std::size_t count = 0;
    float rough[kMostCandidates];
    std::size_t vectors[kMostCandidates];
  };
  // kBankQueries queries on their way through the tiles.
  struct Group {
    const BankIndex *index = nullptr;
    std::size_t count = 0, members[kBankQueries];  // of the run's queries
    float far = 0.0f;                  // tiles whose box is farther, squared, have no vector for any of them
    float scale[kBankQueries], residual[kBankQueries], reach[kBankQueries], limit[kBankQueries];
    std::int32_t bias[kBankQueries];
    double squares[kBankQueries], slack[kBankQueries];
    bool left_out[kBankQueries];
    std::size_t considered[kBankQueries];  // vectors, so far; where there are rows, of those that these rule out
    float least[kBankQueries];  // squared distance, in floats, of the nearest vector so far
    float keep[kBankQueries];   // of those that may be nearer all the same
    Candidates candidates[kBankQueries];
    Buffer<std::uint8_t> codes;
    Buffer<float> gaps;  // of each tile's box
    Buffer<std::int8_t> row_codes;  // where the index has rows: the queries as such
    BankRow rows[kBankQueries];
    double near[kBankQueries];  // distance of the nearest vector so far, no less

    bool allocate(const BankIndex &from) noexcept;
    BankQueries queries() const noexcept;
  };
  struct Worker {
    BankPoints points, whole_points;
    std::unique_ptr<Group[]> groups;
    Group whole;                 // of queries that points do not help, searched for among whole vectors
    Buffer<std::size_t> given_up;  // those
    std::size_t given_up_count = 0;
    std::size_t last = 0;  // what the query before found
  };
  static void work(void *self, std::size_t worker) noexcept;
  void search(std::size_t first, std::size_t count, Worker &worker) noexcept;
  void search_whole(Worker &worker) noexcept;
  void enter(Group &group, BankPoints &points, std::size_t hint) noexcept;
  void search_all(std::size_t query) noexcept;
  void set_box(Group &group, const float *points) noexcept;
  void start(Group &group) noexcept;
  void set_reach(Group &group, std::size_t at) noexcept;
  void set_far(Group &group) noexcept;
  void visit(Group &group, std::size_t tile, Worker &worker) noexcept;
  bool ruled_out(const Group &group, std::size_t at, std::size_t place) const noexcept;
  bool consider(Group &group, std::size_t at, std::size_t vector) noexcept;
  void settle(Group &group, std::size_t at) noexcept;
  void compare(std::size_t query, std::size_t vector) noexcept;
  const float *query(std::size_t index) const noexcept { return given_ + index * index_->dim(); }

  std::shared_ptr<const BankIndex> index_;
  std::unique_ptr<WorkerPool> pool_;
  std::size_t queries_ = 0, share_ = 0, groups_ = 0, most_considered_ = 0;
  std::unique_ptr<Worker[]> workers_;
  Buffer<double> best_;         // squared distance, per query
  Buffer<std::int32_t> found_;  // its vector; of the last run, where the next one begins

  const float *given_ = nullptr;  // the queries of a run
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
};

}  // namespace edgead
