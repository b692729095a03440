// Regions and top-k on their own: pictures that are hard for a one-pass labelling, against flood fill and sorting.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "edgead/edgead.h"
#include "kernels/post_reference.hpp"
#include "regions.hpp"
#include "top_k.hpp"

namespace {

using Regions = std::vector<edgead_region>;

Regions find(const std::vector<float> &map, std::size_t height, std::size_t width, float threshold,
             std::uint32_t capacity, std::uint32_t *total) {
  edgead::RegionFinder finder;
  CHECK(finder.allocate(width));
  Regions found(capacity + 1);
  for (int repeat = 0; repeat < 2; ++repeat) {  // the second run finds the memory of the first
    finder.begin(found.data(), capacity, 1);
    std::vector<std::uint8_t> mask(width);
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t x = 0; x < width; ++x) mask[x] = map[y * width + x] >= threshold ? 255 : 0;
      finder.add_row(static_cast<std::uint32_t>(y), mask.data(), map.data() + y * width,
                     edgead::scalar::post_kernels());
    }
    finder.finish();
  }
  *total = finder.total();
  found.resize(finder.count());
  return found;
}

bool equal(const edgead_region &a, const edgead_region &b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool by_all(const edgead_region &a, const edgead_region &b) { return std::memcmp(&a, &b, sizeof a) < 0; }

bool same(Regions a, Regions b) {
  std::sort(a.begin(), a.end(), by_all);
  std::sort(b.begin(), b.end(), by_all);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

void check_picture(const std::vector<float> &map, std::size_t height, std::size_t width) {
  std::uint32_t total = 0;
  const Regions all = find(map, height, width, 1.0f, static_cast<std::uint32_t>(height * width), &total);
  Regions expected = edgead::reference::regions(map.data(), height, width, 1.0f, 1);
  CHECK_EQ(total, expected.size());
  CHECK(same(all, expected));
  // Too little room keeps the highest peaks: the head of the full list.
  for (const std::uint32_t capacity : {0u, 1u, 3u}) {
    const Regions few = find(map, height, width, 1.0f, capacity, &total);
    const std::size_t kept = std::min<std::size_t>(capacity, all.size());
    CHECK_EQ(total, all.size());
    CHECK(few.size() == kept && std::equal(few.begin(), few.end(), all.begin(), equal));
  }
}

void check_drawing(const std::string &picture, std::size_t width) {
  std::vector<float> map;
  for (std::size_t i = 0; i < picture.size(); ++i)
    map.push_back(picture[i] == '.' ? 0.0f : 1.0f + static_cast<float>(i % 7));
  check_picture(map, picture.size() / width, width);
}

void check_top_k(std::mt19937 &random, std::vector<float> values) {
  std::vector<float> sorted = values;
  std::sort(sorted.begin(), sorted.end(), [](float a, float b) { return a > b; });
  for (const std::size_t k : {std::size_t{1}, values.size(), values.size() / 2 + 1, 1 + random() % values.size()}) {
    double sum = 0.0;
    for (std::size_t i = 0; i < k; ++i) sum += double{sorted[i]};
    const double found = edgead::top_k_sum(values.data(), values.size(), k);
    CHECK(edgead::kth_largest(values.data(), values.size(), k) == sorted[k - 1]);
    CHECK(found == sum || (std::isnan(found) && std::isnan(sum)) ||
          std::fabs(found - sum) <= 1e-12 * static_cast<double>(k) * std::fabs(double{sorted[0]}) + 1e-9);
  }
}

}  // namespace

int main() {
  check_drawing("....." "....." ".....", 5);
  check_drawing("#####" "#####" "#####", 5);
  check_drawing("#.#.#" ".#.#." "#.#.#", 5);           // one region by diagonals
  check_drawing("#.#.#" "....." "#.#.#", 5);           // six
  check_drawing("#...#" "#.#.#" "#.#.#" "#####", 5);   // arms that meet at the bottom
  check_drawing("#########" "#.......#" "#.#####.#" "#.#...#.#" "#.#.#.#.#" "#.#...#.#" "#.#####.#" "#.......#"
                "#########", 9);                        // rings inside rings
  check_drawing("#.#.#.#.#.#" "#.#.#.#.#.#" "###.###.###" "..#...#...#" "..#####...#" "......#####", 11);
  check_drawing("#", 1);
  check_drawing("#" "." "#", 1);
  check_drawing("#.#", 3);
  std::mt19937 random(7);
  for (int i = 0; i < 600; ++i) {
    const std::size_t height = 1 + random() % 40, width = 1 + random() % 140;
    const unsigned density = 1 + random() % 9;
    std::vector<float> map(height * width);
    for (float &value : map) value = random() % 10 < density ? 1.0f + static_cast<float>(random() % 5) : 0.0f;
    check_picture(map, height, width);
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (int i = 0; i < 300; ++i) {
    std::vector<float> values(1 + random() % 400);
    const float unit = i % 3 == 0 ? 1e-42f : 0.37f;
    for (float &value : values) value = (static_cast<float>(random() % 2000) - 1000.0f) * unit;
    check_top_k(random, values);
    values[0] = infinity;
    check_top_k(random, values);
    values.back() = -infinity;
    check_top_k(random, values);
  }
  check_top_k(random, {0.0f, -0.0f, 0.0f});
  check_top_k(random, std::vector<float>(100, -2.5f));
  return check_failures();
}
