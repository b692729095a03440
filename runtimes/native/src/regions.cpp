#include "regions.hpp"

#include <algorithm>
#include <cstring>

namespace edgead {
namespace {

constexpr std::uint32_t kFree = 0xffffffffu;
constexpr std::uint32_t kNoRow = 0xffffffffu;

// A total order, so that what is kept and how it is sorted never depends on the way it was found.
bool comes_first(const edgead_region &a, const edgead_region &b) noexcept {
  if (a.peak != b.peak) return a.peak > b.peak;
  if (a.y != b.y) return a.y < b.y;
  if (a.x != b.x) return a.x < b.x;
  if (a.area != b.area) return a.area > b.area;
  if (a.height != b.height) return a.height > b.height;
  return a.width > b.width;
}

std::uint64_t eight(const std::uint8_t *mask) noexcept {
  std::uint64_t word;
  std::memcpy(&word, mask, sizeof word);
  return word;
}

// First column from x on whose byte differs from `value` (0 or 255), or width.
std::size_t skip(const std::uint8_t *mask, std::size_t x, std::size_t width, std::uint8_t value) noexcept {
  const std::uint64_t same = value == 0 ? 0 : ~std::uint64_t{0};
  while (x + 8 <= width && eight(mask + x) == same) x += 8;
  while (x < width && mask[x] == value) ++x;
  return x;
}

}  // namespace

bool RegionFinder::allocate(std::size_t width) noexcept {
  width_ = width;
  const std::size_t most_runs = (width + 1) / 2;
  const std::size_t most_nodes = 2 * most_runs;  // one for each run of two rows
  return runs_[0].allocate(most_runs) && runs_[1].allocate(most_runs) && nodes_.allocate(most_nodes) &&
         free_.allocate(most_nodes);
}

void RegionFinder::begin(edgead_region *out, std::uint32_t capacity, std::uint32_t min_area) noexcept {
  out_ = out;
  capacity_ = capacity;
  min_area_ = min_area;
  count_ = total_ = 0;
  run_count_[0] = run_count_[1] = 0;
  current_ = 0;
  free_count_ = 2 * ((width_ + 1) / 2);
  for (std::size_t i = 0; i < free_count_; ++i) {
    free_[i] = static_cast<std::uint32_t>(i);
    nodes_[i].parent = kFree;
  }
}

std::uint32_t RegionFinder::root(std::uint32_t node) noexcept {
  while (nodes_[node].parent != node) {
    nodes_[node].parent = nodes_[nodes_[node].parent].parent;  // halves the path for the next search
    node = nodes_[node].parent;
  }
  return node;
}

void RegionFinder::merge(std::uint32_t into, std::uint32_t from) noexcept {
  Node &a = nodes_[into];
  Node &b = nodes_[from];
  b.parent = into;
  a.left = std::min(a.left, b.left);
  a.top = std::min(a.top, b.top);
  a.right = std::max(a.right, b.right);
  a.bottom = std::max(a.bottom, b.bottom);
  a.area += b.area;
  a.peak = std::max(a.peak, b.peak);
}

void RegionFinder::add_row(std::uint32_t y, const std::uint8_t *mask, const float *values,
                           const PostKernels &kernels) noexcept {
  current_ ^= 1u;
  Run *runs = runs_[current_].data();
  const Run *above = runs_[current_ ^ 1u].data();
  const std::size_t above_count = run_count_[current_ ^ 1u];
  std::size_t found = 0, a = 0;
  for (std::size_t x = skip(mask, 0, width_, 0); x < width_; x = skip(mask, x, width_, 0)) {
    const std::size_t end = skip(mask, x, width_, 255);
    Run run{static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(end - 1), kFree};
    while (a < above_count && above[a].last + 1 < run.first) ++a;
    // The last run that touches this one may touch the next one, too: `a` stays on it.
    for (std::size_t b = a; b < above_count && above[b].first <= run.last + 1; ++b) {
      const std::uint32_t region = root(above[b].node);
      if (run.node == kFree) run.node = region;
      if (run.node != region) merge(run.node, region);
      a = b;
    }
    const float peak = kernels.max(values + x, end - x);
    const std::uint32_t length = run.last - run.first + 1;
    if (run.node == kFree) {
      run.node = free_[--free_count_];
      nodes_[run.node] = Node{run.node, run.first, y, run.last, y, length, peak};
    } else {
      Node &node = nodes_[run.node];
      node.left = std::min(node.left, run.first);
      node.right = std::max(node.right, run.last);
      node.bottom = y;
      node.area += length;
      node.peak = std::max(node.peak, peak);
    }
    runs[found++] = run;
    x = end;
  }
  run_count_[current_] = found;
  for (std::size_t i = 0; i < found; ++i) runs[i].node = root(runs[i].node);
  close_previous(y);
}

void RegionFinder::add_empty_row() noexcept {
  current_ ^= 1u;
  run_count_[current_] = 0;
  close_previous(kNoRow);
}

// Frees the nodes of the row above that were merged away, and emits those that row y did not reach.
void RegionFinder::close_previous(std::uint32_t y) noexcept {
  const unsigned previous = current_ ^ 1u;
  for (std::size_t i = 0; i < run_count_[previous]; ++i) {
    const std::uint32_t index = runs_[previous][i].node;
    Node &node = nodes_[index];
    if (node.parent == kFree) continue;  // another run of the same region came first
    if (node.parent == index) {
      if (node.bottom == y) continue;
      emit(node);
    }
    node.parent = kFree;
    free_[free_count_++] = index;
  }
}

void RegionFinder::emit(const Node &node) noexcept {
  if (node.area < min_area_) return;
  ++total_;
  const edgead_region region{node.left, node.top,  node.right - node.left + 1, node.bottom - node.top + 1,
                             node.area, node.peak};
  if (count_ < capacity_) {
    out_[count_++] = region;
    std::push_heap(out_, out_ + count_, comes_first);  // the one that comes last is on top
  } else if (capacity_ > 0 && comes_first(region, out_[0])) {
    std::pop_heap(out_, out_ + count_, comes_first);
    out_[count_ - 1] = region;
    std::push_heap(out_, out_ + count_, comes_first);
  }
}

void RegionFinder::finish() noexcept {
  add_empty_row();
  std::sort_heap(out_, out_ + count_, comes_first);
}

}  // namespace edgead
