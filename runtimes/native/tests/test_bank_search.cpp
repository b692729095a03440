// Every level of the bank search against brute force in doubles, on random and extreme input, at sizes around the tile;
// queries and bank end at a page that may not be read. And the shell: what it refuses.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "bank_index.hpp"
#include "check.hpp"
#include "cpu.hpp"
#include "edgead/edgead.h"
#include "guarded.hpp"

namespace {

using Random = std::mt19937;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Fill {
  normal, heavy_tails, outliers, alike, constant, shifted, tiny, huge, not_finite, few_axes, clusters, off_axes, copies,
  count
};

// Masks that leave different features of this CPU.
std::vector<std::uint64_t> levels() {
  std::vector<std::uint64_t> masks;
  for (const std::uint64_t mask : {std::uint64_t{0}, EDGEAD_CPU_AVX2, EDGEAD_CPU_AVX2 | EDGEAD_CPU_AVX512,
                                   ~std::uint64_t{0}})
    if (masks.empty() || (mask & edgead::cpu_features()) != (masks.back() & edgead::cpu_features()))
      masks.push_back(mask);
  return masks;
}

std::uint32_t between(Random &random, std::uint32_t low, std::uint32_t high) {
  return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
}

bool has_axes(Fill kind) { return kind >= Fill::few_axes; }

struct Case {
  std::uint32_t vectors, queries, dim;
  std::vector<float> bank, query;
};

// Correlated values, as features are: sums of a few directions and a little noise, so that the search looks along these
// first. Queries may be far off them, which then decides.
void spread_along_axes(Random &random, Fill kind, Case &made) {
  std::normal_distribution<float> normal;
  const std::uint32_t hidden = between(random, 1, 12), kinds = kind == Fill::clusters ? 9 : 1;
  const float noise = std::pow(10.0f, -static_cast<float>(between(random, 0, 4)));
  std::vector<float> directions(std::size_t{hidden} * made.dim), centres(std::size_t{kinds} * hidden);
  for (float &v : directions) v = normal(random);
  for (float &v : centres) v = 20.0f * normal(random);
  const auto fill = [&](std::vector<float> &to, float off) {
    for (std::size_t row = 0; row < to.size(); row += made.dim) {
      float *const values = to.data() + row;
      const float *const centre = centres.data() + std::size_t{between(random, 0, kinds - 1)} * hidden;
      for (std::uint32_t c = 0; c < made.dim; ++c) values[c] = off * normal(random);
      for (std::uint32_t h = 0; h < hidden; ++h) {
        const float share = centre[h] + normal(random);
        for (std::uint32_t c = 0; c < made.dim; ++c) values[c] += share * directions[std::size_t{h} * made.dim + c];
      }
    }
  };
  fill(made.bank, noise);
  fill(made.query, kind == Fill::off_axes ? 10.0f : noise);
  if (kind == Fill::copies)  // more equal vectors than any list of candidates holds
    for (std::size_t i = 20; i < made.vectors; ++i)
      std::copy_n(made.bank.begin() + static_cast<std::ptrdiff_t>(between(random, 0, 19) * made.dim), made.dim,
                  made.bank.begin() + static_cast<std::ptrdiff_t>(i * made.dim));
}

Case random_case(Random &random, Fill kind) {
  static const std::uint32_t sizes[] = {1, 2, 5, 63, 64, 65, 128, 200, 1000}, large[] = {256, 500, 777, 1000, 2100};
  static const std::uint32_t counts[] = {1, 5, 6, 7, 12, 50, 199};
  static const std::uint32_t dims[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 152}, wide[] = {22, 33, 61, 101, 152};
  Case made{sizes[between(random, 0, 8)], counts[between(random, 0, 6)], dims[between(random, 0, 10)], {}, {}};
  if (has_axes(kind)) made.vectors = large[between(random, 0, 4)], made.dim = wide[between(random, 0, 4)];
  std::normal_distribution<float> normal;
  std::cauchy_distribution<float> cauchy;
  const auto value = [&]() -> float {
    switch (kind) {
      case Fill::heavy_tails: return std::fmax(-1e6f, std::fmin(1e6f, cauchy(random)));
      case Fill::alike: return static_cast<float>(between(random, 0, 1));  // many ties
      case Fill::constant: return 3.25f;
      case Fill::shifted: return 1000.0f + 0.01f * normal(random);
      case Fill::tiny: return 1e-30f * normal(random);
      case Fill::huge: return 1e13f * normal(random);
      default: return normal(random);
    }
  };
  made.bank.resize(std::size_t{made.vectors} * made.dim);
  made.query.resize(std::size_t{made.queries} * made.dim);
  for (float &v : made.bank) v = value();
  for (float &v : made.query) v = value();
  if (has_axes(kind)) spread_along_axes(random, kind, made);
  for (std::uint32_t i = 0; i < made.queries; ++i) {
    float *const row = made.query.data() + std::size_t{i} * made.dim;
    const float *const near = made.bank.data() + std::size_t{between(random, 0, made.vectors - 1)} * made.dim;
    if (i % 3 == 0) {  // nearly a vector of the bank, or one
      const float share = i % 2 == 0 ? 0.0f : std::pow(10.0f, -static_cast<float>(between(random, 2, 7)));
      for (std::uint32_t c = 0; c < made.dim; ++c) row[c] = near[c] + share * row[c];
    }
    if (kind == Fill::outliers)
      for (std::uint32_t c = 0; c < made.dim; ++c) row[c] *= std::pow(10.0f, static_cast<float>(between(random, 0, 30)));
    if (kind == Fill::not_finite && i % 2 == 0) row[between(random, 0, made.dim - 1)] = i % 4 == 0 ? kNan : -kInfinity;
  }
  return made;
}

double squares(const float *left, const float *right, std::size_t dim) {
  double sum = 0.0;
  for (std::size_t c = 0; c < dim; ++c) {
    const double apart = static_cast<double>(left[c]) - static_cast<double>(right[c]);
    sum += apart * apart;
  }
  return sum;
}

// By brute force; infinity or NaN where a query is not finite.
std::vector<double> nearest(const Case &made, const float *queries) {
  std::vector<double> best(made.queries, std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < made.queries; ++i)
    for (std::size_t j = 0; j < made.vectors; ++j)
      best[i] = std::fmin(best[i], squares(queries + i * made.dim, made.bank.data() + j * made.dim, made.dim));
  return best;
}

// `found` and its distance are as brute force has them. Sums of another order may take another of two vectors that
// agree to the last digits.
void check_query(const Case &made, const float *query, double best, std::int32_t found, float distance) {
  if (!std::isfinite(best)) {
    CHECK(std::isnan(distance));
    CHECK_EQ(found, 0);
    return;
  }
  CHECK(found >= 0 && static_cast<std::uint32_t>(found) < made.vectors);
  const double own = squares(query, made.bank.data() + static_cast<std::size_t>(found) * made.dim, made.dim);
  CHECK(own <= best * (1.0 + 1e-13));
  CHECK(std::fabs(distance - std::sqrt(best)) <= 1e-6 * std::sqrt(best) + 1e-44);
}

edgead_bank_search *create(const float *bank, const Case &made, std::uint32_t threads, std::uint64_t mask) {
  edgead_bank_search_options options;
  edgead_bank_search_options_init(&options, sizeof options);
  options.dim = made.dim;
  options.vectors = made.vectors;
  options.queries = made.queries;
  options.threads = threads;
  options.bank = bank;
  options.bank_bytes = made.bank.size() * sizeof(float);
  options.cpu_mask = mask;
  edgead_bank_search *created = nullptr;
  char message[256] = "";
  CHECK_EQ(edgead_bank_search_create(&options, &created, message, sizeof message), EDGEAD_OK);
  return created;
}

void run(edgead_bank_search *search, const float *queries, std::vector<std::int32_t> &indices,
         std::vector<float> &distances) {
  const auto count = static_cast<std::uint32_t>(indices.size());
  CHECK_EQ(edgead_bank_search_run(search, queries, count, indices.data(), distances.data(), count, nullptr, nullptr, 0),
           EDGEAD_OK);
}

// Every level finds what brute force does, and all of them the same; a second run begins with what the first one found.
void check_levels(const Case &made, const float *bank, const float *queries, std::uint32_t threads) {
  const std::vector<double> best = nearest(made, queries);
  std::vector<std::int32_t> first;
  for (const std::uint64_t mask : levels()) {
    edgead_bank_search *search = create(bank, made, threads, mask);
    if (search == nullptr) continue;
    std::vector<std::int32_t> indices(made.queries, -1);
    std::vector<float> distances(made.queries);
    for (int again = 0; again < 2; ++again) {
      run(search, queries, indices, distances);
      for (std::size_t i = 0; i < made.queries; ++i)
        check_query(made, queries + i * made.dim, best[i], indices[i], distances[i]);
      if (first.empty()) first = indices;
      CHECK(indices == first);  // of equally near ones every level takes the first
    }
    edgead_bank_search_destroy(search);
  }
}

void test_against_brute_force() {
  Random random(5);
  for (int round = 0; round < 390; ++round) {
    const auto kind = static_cast<Fill>(round % static_cast<int>(Fill::count));
    const Case made = random_case(random, kind);
    const Guarded bank(made.bank.size() * sizeof(float)), query(made.query.size() * sizeof(float));
    std::memcpy(bank.data(), made.bank.data(), made.bank.size() * sizeof(float));
    std::memcpy(query.data(), made.query.data(), made.query.size() * sizeof(float));
    check_levels(made, reinterpret_cast<const float *>(bank.data()), reinterpret_cast<const float *>(query.data()),
                 between(random, 1, 3));
  }
}

// Few vectors of any length, and tails of Student's t with two degrees.
void test_small_banks() {
  Random random(11);
  std::student_t_distribution<float> heavy(2.0f);
  for (std::uint32_t vectors = 1; vectors <= 17; ++vectors)
    for (std::uint32_t dim = 1; dim <= 21; ++dim) {
      Case made{vectors, 13, dim, std::vector<float>(vectors * dim), std::vector<float>(13 * dim)};
      for (float &v : made.bank) v = heavy(random);
      for (float &v : made.query) v = heavy(random) * (vectors % 2 == 0 ? 1.0f : 1e4f);
      check_levels(made, made.bank.data(), made.query.data(), 2);
    }
}

// Banks that do not fit a core's cache are searched for several groups of queries at a time.
void test_a_bank_of_many_tiles() {
  Random random(12);
  Case made{20001, 61, 64, std::vector<float>(20001 * 64), std::vector<float>(61 * 64)};
  spread_along_axes(random, Fill::clusters, made);
  check_levels(made, made.bank.data(), made.query.data(), 2);
}

// Vectors so long that those which points leave over are looked at as int8 first, some of no whole number of registers.
void test_long_vectors() {
  Random random(14);
  for (int round = 0; round < 20; ++round) {
    const Fill kinds[] = {Fill::few_axes, Fill::clusters, Fill::off_axes, Fill::copies};
    const std::uint32_t dims[] = {512, 575, 640, 1000, 1536};
    Case made{between(random, 300, 1500), 29, dims[round % 5], {}, {}};
    made.bank.resize(std::size_t{made.vectors} * made.dim);
    made.query.resize(std::size_t{made.queries} * made.dim);
    spread_along_axes(random, kinds[round % 4], made);
    // Nothing near, very far, on a vector of the bank, and codes that one value spoils.
    for (std::uint32_t c = 0; c < made.dim; ++c) {
      made.query[c] *= 1e3f;
      made.query[made.dim + c] *= 1e12f;
      made.query[2 * made.dim + c] = made.bank[7 * made.dim + c];
    }
    made.query[3 * made.dim] = 1e6f;
    check_levels(made, made.bank.data(), made.query.data(), 2);
  }
}

// What rules vectors out by their rows: these are never farther apart than the vectors, but for what they are off.
void test_rows_are_never_farther_apart() {
  Random random(15);
  int with_rows = 0;
  for (int round = 0; round < 12; ++round) {
    const std::uint32_t dim = between(random, 512, 700);
    Case made{400, 12, dim, std::vector<float>(std::size_t{400} * dim), std::vector<float>(std::size_t{12} * dim)};
    spread_along_axes(random, round % 2 == 0 ? Fill::few_axes : Fill::off_axes, made);
    edgead::BankIndex index;
    CHECK_EQ(index.prepare(made.bank.data(), made.bank.size() * sizeof(float), 400, dim, ~std::uint64_t{0},
                           {nullptr, 0}), EDGEAD_OK);
    if (!index.has_rows()) continue;
    ++with_rows;
    edgead::BankPoints points;
    CHECK(index.allocate(points));
    std::vector<std::int8_t> codes(index.row_bytes());
    for (std::uint32_t i = 0; i < made.queries; ++i) {
      const float *rows[] = {made.query.data() + std::size_t{i} * dim};
      index.locate(rows, 1, points);
      const edgead::BankRow query = index.code_row(points.centred.data(), points.from[0], codes.data());
      for (std::size_t j = 0; j < 400; ++j) {
        const edgead::BankRow &row = index.row(j);
        double sum = 0.0;
        for (std::size_t c = 0; c < index.row_bytes(); ++c) {
          const double left = static_cast<double>(query.scale) * codes[c];
          const double right = static_cast<double>(row.scale) * (index.row_codes(j)[c] - 128);
          sum += (left - right) * (left - right);
        }
        const float *const vector = index.vector(index.number(j / edgead::kBankTile, j % edgead::kBankTile));
        CHECK(std::sqrt(sum) <= std::sqrt(squares(rows[0], vector, dim)) + query.off + row.off);
        CHECK(query.off <= 0.2 * std::sqrt(points.from[0]));
        const std::int32_t products =
            index.kernels().product_int8(index.row_codes(j), codes.data(), index.row_bytes()) - 128 * query.sum;
        const double apart = query.squares + row.squares - 2.0 * static_cast<double>(query.scale) *
                                                               static_cast<double>(row.scale) * products;
        CHECK(std::fabs(apart - sum) <= 1e-9 * (query.squares + row.squares));
      }
    }
  }
  CHECK(with_rows > 0 || (edgead::cpu_features() & EDGEAD_CPU_VNNI) == 0);
}

// The bound that all rests on: points are no farther apart than their vectors, but for what rounding did.
void test_points_are_never_farther_apart() {
  Random random(13);
  int with_axes = 0, tried = 0;
  for (int round = 0; round < 40; ++round) {
    const Case made = random_case(random, round % 2 == 0 ? Fill::few_axes : Fill::off_axes);
    for (const std::uint64_t mask : levels()) {
      edgead::BankIndex index;
      CHECK_EQ(index.prepare(made.bank.data(), made.bank.size() * sizeof(float), made.vectors, made.dim, mask,
                             {nullptr, 0}), EDGEAD_OK);
      edgead::BankPoints points;
      CHECK(index.allocate(points));
      with_axes += index.code_dim() < made.dim, ++tried;
      for (std::uint32_t i = 0; i < made.queries; ++i) {
        const float *rows[] = {made.query.data() + std::size_t{i} * made.dim,
                               index.vector(between(random, 0, made.vectors - 1)), index.vector(i % made.vectors)};
        index.locate(rows, 3, points);
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < a; ++b) {
            const double apart = std::sqrt(squares(points.values.data() + a * index.stride(),
                                                   points.values.data() + b * index.stride(), index.code_dim()));
            const double slack = points.slack[a] + points.slack[b];
            CHECK(apart <= std::sqrt(squares(rows[a], rows[b], made.dim)) * (1.0 + 1e-12) + slack);
            CHECK(slack <= 0.05 * std::sqrt(points.from[a] + points.from[b]));
          }
      }
    }
  }
  CHECK(2 * with_axes > tried);
}

void test_the_first_of_equals() {
  Case made{300, 7, 5, std::vector<float>(1500, 2.0f), std::vector<float>(35, 2.5f)};
  edgead_bank_search *search = create(made.bank.data(), made, 2, ~std::uint64_t{0});
  std::vector<std::int32_t> indices(7, -1);
  std::vector<float> distances(7);
  run(search, made.query.data(), indices, distances);
  for (int i = 0; i < 7; ++i) {
    CHECK_EQ(indices[i], 0);
    CHECK(distances[i] == static_cast<float>(std::sqrt(1.25)));
  }
  edgead_bank_search_destroy(search);
}

// Codes as wrong as they can be: the first value sets the scale, the others, alike, lie between two codes and decide.
// Queries are coded exactly. Where the bound were too small, the nearest vector would be ruled out.
void test_residuals_that_decide() {
  Random random(9);
  std::uniform_real_distribution<float> others(-2.0f, 2.0f);
  const auto add = [](std::vector<float> &to, float first, float other) {
    to.push_back(first);
    to.insert(to.end(), 64, other);
  };
  for (int round = 0; round < 300; ++round) {
    Case made{512, 5, 65, {}, {}};
    for (int i = 0; i < 256; ++i) {  // in pairs around the origin, which is the centre then; one in a tile is near
      const float value = i % 32 == 0 ? others(random) : 50.0f;
      add(made.bank, 100.0f, value);
      add(made.bank, -100.0f, -value);
    }
    for (int step = -2; step <= 2; ++step) add(made.query, 100.0f, static_cast<float>(step) * 100.0f / 127.0f);
    edgead_bank_search *search = create(made.bank.data(), made, 1, ~std::uint64_t{0});
    std::vector<std::int32_t> indices(5);
    std::vector<float> distances(5);
    run(search, made.query.data(), indices, distances);
    const std::vector<double> best = nearest(made, made.query.data());
    for (std::size_t i = 0; i < 5; ++i)
      check_query(made, made.query.data() + 65 * i, best[i], indices[i], distances[i]);
    edgead_bank_search_destroy(search);
  }
}

void test_the_weighted_score() {
  // One value per vector: 0, 4 and 5; the queries are 0.5, 7 and 4.25, so 7 decides, of vector 2.
  const float bank[] = {0.0f, 4.0f, 5.0f}, queries[] = {0.5f, 7.0f, 4.25f};
  const std::int32_t near[] = {0, 1, 1, 2, 2, 1};
  edgead_bank_search_options options;
  edgead_bank_search_options_init(&options, sizeof options);
  options.dim = 1;
  options.vectors = options.queries = 3;
  options.bank = bank;
  options.bank_bytes = sizeof bank;
  options.neighbours = 2;
  options.near = near;
  options.near_bytes = sizeof near;
  edgead_bank_search *search = nullptr;
  CHECK_EQ(edgead_bank_search_create(&options, &search, nullptr, 0), EDGEAD_OK);
  float distances[3], score = 0.0f;
  CHECK_EQ(edgead_bank_search_run(search, queries, 3, nullptr, distances, 3, &score, nullptr, 0), EDGEAD_OK);
  CHECK(std::fabs(score - 2.0 * (1.0 - std::exp(2.0) / (std::exp(2.0) + std::exp(3.0)))) < 1e-6);
  const float odd[] = {0.5f, kNan, 4.25f};
  CHECK_EQ(edgead_bank_search_run(search, odd, 3, nullptr, distances, 3, &score, nullptr, 0), EDGEAD_OK);
  CHECK(std::isnan(score));
  CHECK_EQ(edgead_bank_search_run(search, queries, 0, nullptr, distances, 3, &score, nullptr, 0),
           EDGEAD_ERR_INVALID_ARGUMENT);
  edgead_bank_search_destroy(search);
  char message[256] = "";
  const std::int32_t outside[] = {0, 1, 1, 3, 2, 1};
  options.near = outside;
  CHECK_EQ(edgead_bank_search_create(&options, &search, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(std::strstr(message, "a neighbour of vector 1 is 3") != nullptr);
  options.near_bytes = 4;
  CHECK_EQ(edgead_bank_search_create(&options, &search, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK(std::strstr(message, "the neighbours have 4 bytes, their shape asks for 24") != nullptr);
}

void test_refusals() {
  std::vector<float> bank(12, 1.0f);
  edgead_bank_search_options options{};
  edgead_bank_search *search = nullptr;
  char message[256] = "";
  const auto refused = [&](const char *part, auto change) {
    edgead_bank_search_options_init(&options, sizeof options);
    options.dim = 3;
    options.vectors = 4;
    options.bank = bank.data();
    options.bank_bytes = bank.size() * sizeof(float);
    change();
    CHECK_EQ(edgead_bank_search_create(&options, &search, message, sizeof message), EDGEAD_ERR_INVALID_ARGUMENT);
    CHECK(std::strstr(message, part) != nullptr);
    CHECK(search == nullptr);
  };
  refused("a bank of 0 vectors", [&] { options.vectors = 0; });
  refused("vectors of 5000 values", [&] { options.dim = 5000; });
  refused("its shape asks for 60", [&] { options.vectors = 5; });
  refused("more than 64 GiB", [&] { options.vectors = 1u << 26, options.dim = 4096; });
  refused("0 queries", [&] { options.queries = 0; });
  refused("the bank has 0 bytes", [&] { options.bank = nullptr; });
  refused("struct_size is 8", [&] { options.struct_size = 8; });
  refused("vector 1 of the bank holds nan", [&] { bank[4] = kNan; });
  refused("vector 1 of the bank holds 2e+15", [&] { bank[4] = 2e15f; });
  bank[4] = 1.0f;
  edgead_bank_search_options_init(&options, sizeof options);
  options.dim = 3;
  options.vectors = 4;
  options.bank = bank.data();
  options.bank_bytes = bank.size() * sizeof(float);
  CHECK_EQ(edgead_bank_search_create(&options, &search, message, sizeof message), EDGEAD_OK);
  float distance = 0.0f;
  CHECK_EQ(edgead_bank_search_run(search, bank.data(), 2, nullptr, &distance, 1, nullptr, message, sizeof message),
           EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_bank_search_run(search, bank.data(), 1, nullptr, &distance, 0, nullptr, message, sizeof message),
           EDGEAD_ERR_BUFFER_TOO_SMALL);
  CHECK_EQ(edgead_bank_search_run(search, bank.data(), 1, nullptr, &distance, 1, nullptr, message, sizeof message), EDGEAD_OK);
  CHECK(distance == 0.0f);
  edgead_bank_search_destroy(search);
  edgead_bank_search_destroy(nullptr);
}

}  // namespace

int main() {
  test_against_brute_force();
  test_small_banks();
  test_a_bank_of_many_tiles();
  test_long_vectors();
  test_rows_are_never_farther_apart();
  test_points_are_never_farther_apart();
  test_the_first_of_equals();
  test_residuals_that_decide();
  test_the_weighted_score();
  test_refusals();
  return check_failures();
}
