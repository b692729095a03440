#include "bank_search_plan.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <system_error>

namespace edgead {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Of a query; beyond, floats could overflow (bank_index.cpp).
constexpr double kMostSquares = 1e34;
constexpr std::size_t kMostShare = 32 * kBankQueries;
// Codes that stay in a core's cache are read anew for every group of queries, others for several at a time.
constexpr std::size_t kCachedBytes = std::size_t{1} << 19, kGroups = 8;

// A vector that points leave over takes as long as screening so many whole ones; one that its row rules out, fewer.
constexpr std::size_t kWorthWhole = 64, kWorthWholeOfRows = 2;

std::size_t padded(std::size_t n, std::size_t block) noexcept { return (n + block - 1) / block * block; }


std::size_t usable_cores() noexcept {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

}  // namespace

bool BankSearchPlan::Group::allocate(const BankIndex &from) noexcept {
  index = &from;
  return codes.allocate(kBankQueries * from.code_bytes()) && gaps.allocate(from.padded_tiles()) &&
         row_codes.allocate(kBankQueries * from.row_bytes());
}

BankQueries BankSearchPlan::Group::queries() const noexcept {
  return {codes.data(), index->code_bytes(), index->code_dim(), scale, bias, residual, reach, limit};
}

edgead_status BankSearchPlan::prepare(std::shared_ptr<const BankIndex> index, std::uint32_t queries,
                                      std::uint32_t threads, const ErrorSink &sink) noexcept {
  if (queries == 0 || queries > kMostBankQueries)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%u queries; use 1 to %u", queries, kMostBankQueries);
  index_ = std::move(index);
  queries_ = queries;
  const std::size_t most = (queries_ + kBankQueries - 1) / kBankQueries;
  const std::size_t workers =
      std::min({most, threads != 0 ? std::size_t{threads} : usable_cores(), std::size_t{16}});
  // A few shares per thread, so that none waits long for another.
  share_ = std::min(kMostShare, padded((queries_ + 4 * workers - 1) / (4 * workers), kBankQueries));
  const bool cached = index_->tiles() * kBankTile * index_->code_bytes() <= kCachedBytes;
  groups_ = cached ? 1 : std::min(kGroups, share_ / kBankQueries);
  most_considered_ = index_->vectors() / (index_->has_rows() ? kWorthWholeOfRows : kWorthWhole) + kBankTile;
  const edgead_status no_memory = EDGEAD_ERR_OUT_OF_MEMORY;
  bool enough = best_.allocate(queries_) && found_.allocate(queries_);
  try {
    workers_ = std::make_unique<Worker[]>(workers);
    for (std::size_t w = 0; enough && w < workers; ++w) {
      workers_[w].groups = std::make_unique<Group[]>(groups_);
      enough = index_->allocate(workers_[w].points);
      for (std::size_t g = 0; enough && g < groups_; ++g) enough = workers_[w].groups[g].allocate(*index_);
      if (enough && index_->whole() != nullptr)
        enough = index_->whole()->allocate(workers_[w].whole_points) && workers_[w].whole.allocate(*index_->whole()) &&
                 workers_[w].given_up.allocate(share_);
    }
    if (enough) pool_ = std::make_unique<WorkerPool>(workers);
  } catch (const std::bad_alloc &) {
    enough = false;
  } catch (const std::system_error &) {
    return sink.fail(no_memory, "cannot start %zu threads; use fewer", workers - 1);
  }
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
    const std::size_t first = plan.next_.fetch_add(plan.share_, std::memory_order_relaxed);
    if (first >= plan.count_) return;
    plan.search(first, std::min(plan.share_, plan.count_ - first), plan.workers_[worker]);
  }
}

void BankSearchPlan::search(std::size_t first, std::size_t count, Worker &worker) noexcept {
  worker.last = static_cast<std::size_t>(found_[first]);
  worker.given_up_count = 0;
  for (const std::size_t end = first + count; first < end;) {
    std::size_t groups = 0;
    for (; groups < groups_ && first < end; ++groups) {
      Group &group = worker.groups[groups];
      group.count = std::min(kBankQueries, end - first);
      for (std::size_t i = 0; i < group.count; ++i) group.members[i] = first++;
      enter(group, worker.points, worker.last);
    }
    for (std::size_t t = 0; t < index_->tiles(); ++t)
      for (std::size_t g = 0; g < groups; ++g)
        if (worker.groups[g].gaps[t] <= worker.groups[g].far) visit(worker.groups[g], t, worker);
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t i = 0; i < worker.groups[g].count; ++i) settle(worker.groups[g], i);
    worker.last = static_cast<std::size_t>(found_[first - 1]);
  }
  search_whole(worker);
}

void BankSearchPlan::search_whole(Worker &worker) noexcept {
  Group &group = worker.whole;
  for (std::size_t at = 0; at < worker.given_up_count; at += group.count) {
    group.count = std::min(kBankQueries, worker.given_up_count - at);
    std::copy_n(worker.given_up.data() + at, group.count, group.members);
    enter(group, worker.whole_points, worker.last);
    for (std::size_t t = 0; t < group.index->tiles(); ++t)
      if (group.gaps[t] <= group.far) visit(group, t, worker);
    for (std::size_t i = 0; i < group.count; ++i) settle(group, i);
  }
}

// Begins with the vectors that were nearest in the last run and to the query before: an image is like the one before,
// and a query like its neighbour.
void BankSearchPlan::enter(Group &group, BankPoints &points, std::size_t hint) noexcept {
  const BankIndex &index = *group.index;
  const float *rows[kBankQueries];
  for (std::size_t i = 0; i < group.count; ++i) rows[i] = query(group.members[i]);
  index.locate(rows, group.count, points);
  for (std::size_t i = 0; i < kBankQueries; ++i) {
    group.candidates[i].count = 0;
    group.considered[i] = 0;
    group.left_out[i] = i >= group.count || !(points.from[i] <= kMostSquares);
    if (group.left_out[i]) {
      group.scale[i] = group.residual[i] = group.reach[i] = 0.0f;
      group.limit[i] = -kInfinity;
      if (i < group.count) search_all(group.members[i]);
      continue;
    }
    const std::size_t query = group.members[i];
    group.least[i] = group.keep[i] = kInfinity;
    best_[query] = static_cast<double>(kInfinity);
    consider(group, i, static_cast<std::size_t>(found_[query]));
    consider(group, i, hint);
    const float *const point = points.values.data() + i * index.stride();
    std::uint8_t *const codes = group.codes.data() + i * index.code_bytes();
    BankCode found{0.0f, 1.0f, 0};
    if (index.coded())
      found = index.kernels().code_int8(point, index.code_dim(), reinterpret_cast<std::int8_t *>(codes));
    else
      std::copy_n(point, index.code_dim(), reinterpret_cast<float *>(codes));
    group.scale[i] = found.scale;
    group.bias[i] = -128 * found.sum;
    group.squares[i] = points.squares[i];
    group.slack[i] = points.slack[i];
    // The residual's own sum rounds, too.
    const double own = std::sqrt(static_cast<double>(found.residual) * (1.0 + index.margin()) + kBankLeast) +
                       0x1p-21 * std::sqrt(points.squares[i] + kBankLeast);
    group.residual[i] = rounded_up(2.0 * own);
    if (index.has_rows())
      group.rows[i] = index.code_row(points.centred.data() + i * index.dim(), points.from[i],
                                     group.row_codes.data() + i * index.row_bytes());
    set_reach(group, i);
  }
  set_far(group);
  set_box(group, points.values.data());
  start(group);
}

// A query that is no number, or so far away that floats could overflow.
void BankSearchPlan::search_all(std::size_t query) noexcept {
  found_[query] = 0;
  best_[query] = index_->kernels().distance(this->query(query), index_->vector(0), index_->dim());
  if (!std::isfinite(best_[query])) best_[query] = std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 1; i < index_->vectors() && !std::isnan(best_[query]); ++i) compare(query, i);
}

void BankSearchPlan::set_box(Group &group, const float *points) noexcept {
  const BankIndex &index = *group.index;
  float low[kBankBox], high[kBankBox];
  std::fill_n(low, kBankBox, kInfinity);
  std::fill_n(high, kBankBox, -kInfinity);
  for (std::size_t i = 0; i < group.count; ++i) {
    if (group.left_out[i]) continue;
    const float *const point = points + i * index.stride();
    for (std::size_t c = 0; c < kBankBox; ++c) {
      low[c] = std::min(low[c], point[c]);
      high[c] = std::max(high[c], point[c]);
    }
  }
  index.kernels().gaps(index.lowest(), index.highest(), index.padded_tiles(), low, high, group.gaps.data());
}

// In the tile whose box is nearest, the vector that seems to be nearest: a good one makes the screening sharp.
void BankSearchPlan::start(Group &group) noexcept {
  if (group.far < 0.0f) return;
  const BankIndex &index = *group.index;
  const auto nearest = static_cast<std::size_t>(
      std::min_element(group.gaps.data(), group.gaps.data() + index.tiles()) - group.gaps.data());
  std::uint32_t lanes[kBankQueries];
  const auto guess = index.coded() ? index.kernels().first_int8 : index.kernels().first_fp32;
  guess(index.tile(nearest), group.queries(), lanes);
  for (std::size_t i = 0; i < group.count; ++i) {
    if (group.left_out[i]) continue;
    consider(group, i, index.number(nearest, lanes[i]));
    set_reach(group, i);
  }
  set_far(group);
}

void BankSearchPlan::set_reach(Group &group, std::size_t at) noexcept {
  const double margin = index_->margin(), squares = group.squares[at];
  const double own = static_cast<double>(group.residual[at]) / 2.0;
  const double best = static_cast<double>(group.least[at]) * (1.0 + 2.0 * index_->rough_margin()) + kBankLeast;
  group.near[at] = std::sqrt(best);
  const double reach = group.near[at] + group.slack[at];
  group.reach[at] = rounded_up(2.0 * reach);
  group.limit[at] =
      rounded_up(reach * reach - squares + 4.0 * margin * (squares + reach * reach + own * own) + kBankLeast);
}

void BankSearchPlan::set_far(Group &group) noexcept {
  double most = -1.0;
  for (std::size_t i = 0; i < group.count; ++i)
    if (!group.left_out[i]) most = std::max(most, static_cast<double>(group.reach[i]) / 2.0);
  group.far = most < 0.0 ? -1.0f : rounded_up(most * most * (1.0 + 0x1p-18) + kBankLeast);
}

void BankSearchPlan::visit(Group &group, std::size_t tile, Worker &worker) noexcept {
  const BankIndex &index = *group.index;
  std::uint64_t masks[kBankQueries];
  const auto screen = index.coded() ? index.kernels().screen_int8 : index.kernels().screen_fp32;
  screen(index.tile(tile), group.queries(), masks);
  bool changed = false;
  for (std::size_t i = 0; i < group.count; ++i) {
    for (std::uint64_t mask = masks[i]; mask != 0; mask &= mask - 1) {
      const auto lane = static_cast<std::size_t>(__builtin_ctzll(mask));
      ++group.considered[i];
      if (index.has_rows()) {
        if (ruled_out(group, i, tile * kBankTile + lane)) continue;
        group.considered[i] += kWorthWhole / kWorthWholeOfRows - 1;
      }
      if (!consider(group, i, index.number(tile, lane))) continue;
      set_reach(group, i);
      changed = true;
    }
    if (group.considered[i] <= most_considered_ || group.left_out[i] || index.whole() == nullptr) continue;
    settle(group, i);
    group.left_out[i] = changed = true;
    group.limit[i] = -kInfinity;
    worker.given_up[worker.given_up_count++] = group.members[i];
  }
  if (changed) set_far(group);
}

// True where the vector is farther than the nearest one so far: |q - x| >= |q' - x'| - |q - q'| - |x - x'|.
bool BankSearchPlan::ruled_out(const Group &group, std::size_t at, std::size_t place) const noexcept {
  const BankIndex &index = *group.index;
  const BankRow &query = group.rows[at], &other = index.row(place);
  const std::int32_t products =
      index.kernels().product_int8(index.row_codes(place), group.row_codes.data() + at * index.row_bytes(),
                                   index.row_bytes()) -
      128 * query.sum;
  const double apart = query.squares + other.squares - 2.0 * static_cast<double>(query.scale) *
                                                           static_cast<double>(other.scale) * products;
  const double most = group.near[at] + query.off + other.off;
  return apart > most * most;
}

// True where the vector is nearer than those before.
bool BankSearchPlan::consider(Group &group, std::size_t at, std::size_t vector) noexcept {
  const BankIndex &index = *index_;
  const float rough = index.kernels().rough_distance(query(group.members[at]), index.vector(vector), index.dim());
  if (rough > group.keep[at]) return false;
  Candidates &candidates = group.candidates[at];
  for (std::size_t k = 0; k < candidates.count; ++k)
    if (candidates.vectors[k] == vector) return false;
  if (candidates.count == kMostCandidates) settle(group, at);
  candidates.rough[candidates.count] = rough;
  candidates.vectors[candidates.count++] = vector;
  if (rough >= group.least[at]) return false;
  group.least[at] = rough;
  // Both are off by a margin.
  group.keep[at] = rounded_up(static_cast<double>(rough) * (1.0 + 4.0 * index.rough_margin()) + 2.0 * kBankLeast);
  return true;
}

void BankSearchPlan::settle(Group &group, std::size_t at) noexcept {
  Candidates &candidates = group.candidates[at];
  for (std::size_t k = 0; k < candidates.count; ++k)
    if (candidates.rough[k] <= group.keep[at]) compare(group.members[at], candidates.vectors[k]);
  candidates.count = 0;
}

// Of equally near ones the first is kept.
void BankSearchPlan::compare(std::size_t query, std::size_t vector) noexcept {
  const double squares = index_->kernels().distance(this->query(query), index_->vector(vector), index_->dim());
  const auto number = static_cast<std::int32_t>(vector);
  if (squares < best_[query] || (squares == best_[query] && number < found_[query])) {
    best_[query] = squares;
    found_[query] = number;
  }
}

}  // namespace edgead
