#include "bank_search_plan.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <system_error>

#include "cpu.hpp"

namespace edgead {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 36;
// Larger values are no features; below, squares of floats and their sums do not overflow.
constexpr float kMostValue = 1e15f;
constexpr float kMostSquares = 1e34f;
// What sums of floats may lose to underflow, also where denormals count as zero.
constexpr double kLeast = 0x1p-100;
constexpr std::size_t kMostBlock = 32 * kBankQueries;

const BankKernels &kernels_for(std::uint64_t cpu_mask) noexcept {
  switch (select_level(cpu_mask)) {
#ifdef EDGEAD_HAVE_avx512
    case Level::avx512: return avx512::bank_kernels();
#endif
#ifdef EDGEAD_HAVE_avx2
    case Level::avx2: return avx2::bank_kernels();
#endif
#ifdef EDGEAD_HAVE_neon
    case Level::neon: return neon::bank_kernels();
#endif
    default: return scalar::bank_kernels();
  }
}

std::size_t padded(std::size_t n, std::size_t block) noexcept { return (n + block - 1) / block * block; }

float up(double value) noexcept { return std::nextafter(static_cast<float>(value), kInfinity); }
float down(double value) noexcept { return std::nextafter(static_cast<float>(value), -kInfinity); }

std::size_t usable_cores() noexcept {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

}  // namespace

std::uint64_t bank_search_bytes(std::uint32_t vectors, std::uint32_t dim) noexcept {
  const std::uint64_t bytes = std::uint64_t{vectors} * dim * sizeof(float);
  return bytes <= kMostBytes ? bytes : 0;
}

edgead_status BankIndex::prepare(const float *bank, std::size_t bytes, std::uint32_t vectors, std::uint32_t dim,
                                 std::uint64_t cpu_mask, const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (vectors == 0 || vectors > kMostBankVectors)
    return sink.fail(bad, "a bank of %u vectors; use 1 to %u", vectors, kMostBankVectors);
  if (dim == 0 || dim > kMostBankDim)
    return sink.fail(bad, "vectors of %u values; use 1 to %u", dim, kMostBankDim);
  const std::uint64_t wanted = bank_search_bytes(vectors, dim);
  if (wanted == 0) return sink.fail(bad, "%u vectors of %u values are more than 64 GiB; keep fewer", vectors, dim);
  if (bank == nullptr || bytes != wanted)
    return sink.fail(bad, "the bank has %zu bytes, its shape asks for %llu", bank != nullptr ? bytes : 0,
                     static_cast<unsigned long long>(wanted));
  const std::size_t values = std::size_t{vectors} * dim;
  for (std::size_t i = 0; i < values; ++i)
    if (!(std::fabs(bank[i]) <= kMostValue))
      return sink.fail(bad, "vector %zu of the bank holds %g; values must be finite and at most 1e15", i / dim,
                       static_cast<double>(bank[i]));
  kernels_ = &kernels_for(cpu_mask);
  bank_ = bank;
  vectors_ = vectors;
  dim_ = dim;
  coded_ = kernels_->screen_int8 != nullptr && (cpu_features() & cpu_mask & EDGEAD_CPU_VNNI) != 0;
  // An fp32 product of dim terms is off by at most dim * 2^-24 of the lengths; the rest is for what follows it.
  margin_ = static_cast<double>(dim + 64) * 0x1p-23;
  const std::size_t places = tiles() * kBankTile;
  if (!centre_.allocate(dim_) || !base_.allocate(places) || !residual_.allocate(places) || !length_.allocate(places) ||
      !scale_.allocate(places) || !codes_.allocate(places * code_dim() * (coded_ ? 1 : sizeof(float))))
    return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory to search %u vectors of %u values", vectors, dim);
  std::fill_n(base_.data(), places, kInfinity);
  set_centre();
  for (std::size_t i = 0; i < vectors_; ++i) code(i);
  return EDGEAD_OK;
}

edgead_status BankIndex::set_neighbours(const std::int32_t *near, std::size_t bytes, std::uint32_t neighbours,
                                        const ErrorSink &sink) noexcept {
  constexpr edgead_status bad = EDGEAD_ERR_INVALID_ARGUMENT;
  if (neighbours > kMostNeighbours)
    return sink.fail(bad, "%u neighbours; use 0 to %u", neighbours, kMostNeighbours);
  const std::size_t values = vectors_ * neighbours;
  if ((near == nullptr) != (neighbours == 0) || (near != nullptr && bytes != values * sizeof *near))
    return sink.fail(bad, "the neighbours have %zu bytes, their shape asks for %zu", near != nullptr ? bytes : 0,
                     values * sizeof *near);
  for (std::size_t i = 0; i < values; ++i)
    if (near[i] < 0 || static_cast<std::size_t>(near[i]) >= vectors_)
      return sink.fail(bad, "a neighbour of vector %zu is %d, the bank has 0 .. %zu", i / neighbours, near[i],
                       vectors_ - 1);
  near_ = near;
  neighbours_ = neighbours;
  return EDGEAD_OK;
}

// The mean: subtracting it leaves distances as they are, and codes are finest for short vectors.
void BankIndex::set_centre() noexcept {
  for (std::size_t c = 0; c < dim_; ++c) centre_[c] = 0.0f;
  // Blocks of columns in doubles on the stack: a row at a time, as it lies in memory.
  constexpr std::size_t kColumns = 256;
  for (std::size_t begin = 0; begin < dim_; begin += kColumns) {
    const std::size_t count = std::min(kColumns, dim_ - begin);
    double sum[kColumns] = {};
    for (std::size_t i = 0; i < vectors_; ++i)
      for (std::size_t c = 0; c < count; ++c) sum[c] += static_cast<double>(vector(i)[begin + c]);
    for (std::size_t c = 0; c < count; ++c)
      centre_[begin + c] = static_cast<float>(sum[c] / static_cast<double>(vectors_));
  }
}

void BankIndex::code(std::size_t index) noexcept {
  const float *const row = vector(index);
  double largest = 0.0, squares = 0.0, rest = 0.0, kept = 0.0;
  const auto at = [&](std::size_t c) { return static_cast<double>(row[c]) - static_cast<double>(centre_[c]); };
  for (std::size_t c = 0; c < dim_; ++c) largest = std::max(largest, std::fabs(at(c)));
  const auto scale = coded_ ? static_cast<float>(largest / 127.0) : 1.0f;
  const bool possible = scale > 1e-30f;
  std::uint8_t *const tile = codes_.data() + index / kBankTile * kBankTile * code_dim() * (coded_ ? 1 : sizeof(float));
  const std::size_t lane = index % kBankTile;
  for (std::size_t c = 0; c < code_dim(); ++c) {
    const double value = c < dim_ ? at(c) : 0.0;
    double code;
    if (coded_) {
      code = possible ? std::min(127.0, std::max(-127.0, std::nearbyint(value / static_cast<double>(scale)))) : 0.0;
      tile[(c / 4 * kBankTile + lane) * 4 + c % 4] = static_cast<std::uint8_t>(static_cast<int>(code) + 128);
    } else {
      const auto rounded = static_cast<float>(value);
      reinterpret_cast<float *>(tile)[c * kBankTile + lane] = rounded;
      code = static_cast<double>(rounded);
    }
    const double approximate = code * static_cast<double>(scale);
    kept += approximate * approximate;
    squares += value * value;
    rest += (value - approximate) * (value - approximate);
  }
  base_[index] = down(kept - rest - 4.0 * margin_ * (squares + rest) - kLeast);
  residual_[index] = up(std::sqrt(rest));
  length_[index] = up(std::sqrt(squares) + std::sqrt(rest));
  scale_[index] = 2.0f * scale;
}

BankTile BankIndex::tile(std::size_t index) const noexcept {
  const std::size_t at = index * kBankTile;
  return {codes_.data() + at * code_dim() * (coded_ ? 1 : sizeof(float)), base_.data() + at, residual_.data() + at,
          length_.data() + at, scale_.data() + at};
}

bool BankSearchPlan::Worker::allocate(std::size_t block, std::size_t code_bytes, std::size_t dim) noexcept {
  return codes.allocate(block * code_bytes) && centred.allocate(dim) && scale.allocate(block) &&
         residual.allocate(block) && reach.allocate(block) && limit.allocate(block) && squares.allocate(block) &&
         bias.allocate(block) && masks.allocate(block);
}

void BankSearchPlan::Worker::set_reach(std::size_t at, double best, double margin) noexcept {
  const double own = static_cast<double>(residual[at]) / 2.0;
  reach[at] = up(2.0 * std::sqrt(best));
  limit[at] = up(best - squares[at] + 4.0 * margin * (squares[at] + best + own * own) + kLeast);
}

void BankSearchPlan::Worker::leave_out(std::size_t at) noexcept { limit[at] = -kInfinity; }

edgead_status BankSearchPlan::prepare(std::shared_ptr<const BankIndex> index, std::uint32_t queries,
                                      std::uint32_t threads, const ErrorSink &sink) noexcept {
  if (queries == 0 || queries > kMostBankQueries)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%u queries; use 1 to %u", queries, kMostBankQueries);
  index_ = std::move(index);
  queries_ = queries;
  const std::size_t most = (queries_ + kBankQueries - 1) / kBankQueries;
  const std::size_t workers =
      std::min({most, threads != 0 ? std::size_t{threads} : usable_cores(), std::size_t{16}});
  // A few blocks per thread, so that none waits long for another.
  block_ = std::min(kMostBlock, padded((queries_ + 4 * workers - 1) / (4 * workers), kBankQueries));
  const std::size_t code_bytes = index_->code_dim() * (index_->coded() ? 1 : sizeof(float));
  const edgead_status no_memory = EDGEAD_ERR_OUT_OF_MEMORY;
  try {
    workers_ = std::make_unique<Worker[]>(workers);
    pool_ = std::make_unique<WorkerPool>(workers);
  } catch (const std::bad_alloc &) {
    return sink.fail(no_memory, "no memory for a search of %u queries", queries);
  } catch (const std::system_error &) {
    return sink.fail(no_memory, "cannot start %zu threads; use fewer", workers - 1);
  }
  bool enough = best_.allocate(queries_) && found_.allocate(queries_);
  for (std::size_t i = 0; enough && i < workers; ++i)
    enough = workers_[i].allocate(block_, code_bytes, index_->dim());
  return enough ? EDGEAD_OK : sink.fail(no_memory, "no memory for a search of %u queries", queries);
}

void BankSearchPlan::run(const float *queries, std::size_t count, std::int32_t *indices, float *distances) noexcept {
  given_ = queries;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  pool_->run(work, this);
  for (std::size_t i = 0; i < count; ++i) {
    if (indices != nullptr) indices[i] = found_[i];
    distances[i] = static_cast<float>(std::sqrt(best_[i]));
  }
}

float BankSearchPlan::score() const noexcept {
  std::size_t worst = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    if (std::isnan(best_[i])) return std::numeric_limits<float>::quiet_NaN();
    if (best_[i] > best_[worst]) worst = i;
  }
  const std::size_t dim = index_->dim();
  const std::int32_t *const near = index_->near(static_cast<std::size_t>(found_[worst]));
  double distances[kMostNeighbours], most = 0.0, sum = 0.0;
  for (std::size_t k = 0; k < index_->neighbours(); ++k) {
    const float *const other = index_->vector(static_cast<std::size_t>(near[k]));
    distances[k] = std::sqrt(index_->kernels().distance(given_ + worst * dim, other, dim));
    most = std::max(most, distances[k]);
  }
  for (std::size_t k = 0; k < index_->neighbours(); ++k) sum += std::exp(distances[k] - most);
  return static_cast<float>(std::sqrt(best_[worst]) * (1.0 - std::exp(distances[0] - most) / sum));
}

void BankSearchPlan::work(void *self, std::size_t worker) noexcept {
  auto &plan = *static_cast<BankSearchPlan *>(self);
  for (;;) {
    const std::size_t first = plan.next_.fetch_add(plan.block_, std::memory_order_relaxed);
    if (first >= plan.count_) return;
    plan.search(first, std::min(plan.block_, plan.count_ - first), plan.workers_[worker]);
  }
}

void BankSearchPlan::search(std::size_t first, std::size_t count, Worker &worker) noexcept {
  const BankIndex &index = *index_;
  const std::size_t rows = padded(count, kBankQueries);
  for (std::size_t i = 0; i < count; ++i) code(first + i, worker, i);
  for (std::size_t i = count; i < rows; ++i) worker.leave_out(i);
  const std::size_t code_bytes = index.code_dim() * (index.coded() ? 1 : sizeof(float));
  const BankQueries queries{worker.codes.data(), code_bytes,           index.code_dim(),
                            rows,                worker.scale.data(),  worker.bias.data(),
                            worker.residual.data(), worker.reach.data(), worker.limit.data()};
  const auto screen = index.coded() ? index.kernels().screen_int8 : index.kernels().screen_fp32;
  for (std::size_t t = 0; t < index.tiles(); ++t) {
    screen(index.tile(t), queries, worker.masks.data());
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t mask = worker.masks[i];
      if (mask == 0) continue;
      const double before = best_[first + i];
      for (; mask != 0; mask &= mask - 1)
        compare(first + i, t * kBankTile + static_cast<std::size_t>(__builtin_ctzll(mask)));
      if (best_[first + i] < before) worker.set_reach(i, best_[first + i], index.margin());
    }
  }
}

// Codes a query, and begins with the vector that was nearest in the last run: an image is like the one before.
void BankSearchPlan::code(std::size_t query, Worker &worker, std::size_t at) noexcept {
  const BankIndex &index = *index_;
  const float *const row = given_ + query * index.dim();
  std::uint8_t *const codes = worker.codes.data() + at * index.code_dim() * (index.coded() ? 1 : sizeof(float));
  const BankCode found =
      index.coded() ? index.kernels().code_int8(row, index.centre(), index.dim(), worker.centred.data(),
                                                reinterpret_cast<std::int8_t *>(codes))
                    : index.kernels().code_fp32(row, index.centre(), index.dim(), reinterpret_cast<float *>(codes));
  const auto hint = static_cast<std::size_t>(found_[query]);
  best_[query] = index.kernels().distance(row, index.vector(hint), index.dim());
  if (!(found.squares <= kMostSquares)) {  // too far for floats, or no number
    worker.leave_out(at);
    if (!std::isfinite(best_[query])) {
      found_[query] = 0;
      best_[query] = std::numeric_limits<double>::quiet_NaN();
      return;
    }
    for (std::size_t i = 0; i < index.vectors(); ++i) compare(query, i);
    return;
  }
  worker.squares[at] = static_cast<double>(found.squares);
  worker.scale[at] = found.scale;
  worker.bias[at] = found.bias;
  // Centring rounds, and so does the residual's own sum.
  const double own = std::sqrt(static_cast<double>(found.residual) * (1.0 + index.margin()) + kLeast) +
                     0x1p-21 * std::sqrt(static_cast<double>(found.squares) + kLeast);
  worker.residual[at] = up(2.0 * own);
  worker.set_reach(at, best_[query], index.margin());
}

// Of equally near ones the first is kept.
void BankSearchPlan::compare(std::size_t query, std::size_t vector) noexcept {
  const double squares = index_->kernels().distance(given_ + query * index_->dim(), index_->vector(vector),
                                                    index_->dim());
  const auto number = static_cast<std::int32_t>(vector);
  if (squares < best_[query] || (squares == best_[query] && number < found_[query])) {
    best_[query] = squares;
    found_[query] = number;
  }
}

}  // namespace edgead
