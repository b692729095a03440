// Every level of the windowed search against the plain reference, on random and extreme input, at widths around the
// vector; inputs end at a page that may not be read. And the shell: what it refuses.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "check.hpp"
#include "edgead/edgead.h"
#include "guarded.hpp"
#include "kernels/window_search_reference.hpp"

namespace {

using edgead::reference::Search;
using edgead::reference::SearchLevel;
using Random = std::mt19937;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint64_t kLevels[] = {0, EDGEAD_CPU_AVX2, ~std::uint64_t{0}};

std::uint32_t between(Random &random, std::uint32_t low, std::uint32_t high) {
  return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
}

float uniform(Random &random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}

// IEEE half of |value| <= 1, to the nearest.
std::uint16_t to_half(double value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double size = std::fabs(value);
  if (size < 0x1p-14) return static_cast<std::uint16_t>(sign | std::lround(size * 0x1p24));
  int exponent = 0;
  const double part = std::frexp(size, &exponent);  // part in [0.5, 1)
  return static_cast<std::uint16_t>(sign | ((exponent + 14) * 1024 + std::lround((2.0 * part - 1.0) * 1024)));
}

double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, part = bits & 1023;
  const double size = exponent == 0 ? part * 0x1p-24 : std::ldexp(1.0 + part / 1024.0, exponent - 15);
  return (bits & 0x8000) != 0 ? -size : size;
}

enum class Fill { normal, tiny, huge, zero, same, nan, infinite, count };

// A bank as it is stored, and in `level.bank` what it stands for.
std::string make_bank(Random &random, std::uint32_t type, std::size_t references, std::size_t dim, SearchLevel &level) {
  const std::size_t size = references * level.height * dim * level.width;
  level.bank.resize(size);
  std::string stored;
  for (std::size_t row = 0; row < references * level.height; ++row)
    for (std::size_t x = 0; x < level.width; ++x) {
      std::vector<double> vector(dim);
      double squares = 0.0;
      for (double &value : vector) {
        value = double{uniform(random, -1.0f, 1.0f)} * (between(random, 0, 9) == 0 ? 1e-6 : 1.0);  // halves' denormals
        squares += value * value;
      }
      for (std::size_t c = 0; c < dim; ++c) level.bank[(row * dim + c) * level.width + x] = vector[c] / std::sqrt(squares);
    }
  for (double &value : level.bank) {
    if (type == EDGEAD_BANK_FP32) {
      const auto kept = static_cast<float>(value);
      stored.append(reinterpret_cast<const char *>(&kept), sizeof kept);
      value = double{kept};
    } else if (type == EDGEAD_BANK_FP16) {
      const std::uint16_t kept = to_half(value);
      stored.append(reinterpret_cast<const char *>(&kept), sizeof kept);
      value = from_half(kept);
    } else {
      const auto kept = static_cast<std::int8_t>(std::lround(127.0 * value));
      stored.push_back(static_cast<char>(kept));
      value = kept / 127.0;
    }
  }
  return stored;
}

void fill_query(Random &random, Fill kind, std::size_t dim, std::size_t references, SearchLevel &level) {
  const std::size_t plane = level.height * level.width;
  level.query.resize(dim * plane);
  for (float &value : level.query) {
    value = uniform(random, -2.0f, 2.0f);
    if (kind == Fill::tiny) value *= 1e-39f;
    if (kind == Fill::huge) value *= 1e30f;
    if (kind == Fill::zero) value = 0.0f;
  }
  if (kind == Fill::same) {  // queries that are a reference's vectors: distances around 0
    const std::size_t reference = between(random, 0, static_cast<std::uint32_t>(references) - 1);
    for (std::size_t y = 0; y < level.height; ++y)
      for (std::size_t c = 0; c < dim; ++c)
        for (std::size_t x = 0; x < level.width; ++x)
          level.query[c * plane + y * level.width + x] =
              3.0f * static_cast<float>(level.bank[((reference * level.height + y) * dim + c) * level.width + x]);
  }
  const float odd = kind == Fill::nan ? kNan : between(random, 0, 1) == 0 ? kInfinity : -kInfinity;
  if (kind == Fill::nan || kind == Fill::infinite)
    level.query[between(random, 0, static_cast<std::uint32_t>(level.query.size()) - 1)] = odd;
}

struct Case {
  Search search;
  std::uint32_t references, bank_type;
  std::vector<std::string> banks;
};

Case random_case(Random &random, Fill kind) {
  static const std::uint32_t widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 40, 47, 65};
  static const std::uint32_t dims[] = {1, 2, 3, 16, 17, 64};
  Case made{};
  Search &search = made.search;
  made.references = between(random, 1, 6);
  made.bank_type = between(random, EDGEAD_BANK_FP32, EDGEAD_BANK_INT8);
  search.dim = dims[between(random, 0, 5)];
  const std::uint32_t nearest = between(random, 0, 2) == 0 ? made.references : between(random, 1, made.references);
  for (std::uint32_t k = 0; k < nearest; ++k)
    search.nearest.push_back(static_cast<std::int32_t>(between(random, 0, made.references - 1)));
  const std::uint32_t levels = between(random, 1, 3);
  for (std::uint32_t i = 0; i < levels; ++i) {
    search.levels.emplace_back();
    SearchLevel &level = search.levels.back();
    level.height = between(random, 1, 12);
    level.width = widths[between(random, 0, std::size(widths) - 1)];
    level.window = 2 * between(random, 0, 3) + 1;
    made.banks.push_back(make_bank(random, made.bank_type, made.references, search.dim, level));
    fill_query(random, i == 0 ? kind : Fill::normal, search.dim, made.references, level);
  }
  const SearchLevel &first = search.levels.front();
  if (between(random, 0, 1) == 1)
    for (std::size_t i = 0; i < first.height * first.width; ++i) search.weight.push_back(uniform(random, 0.0f, 1.0f));
  search.map_height = between(random, 1, 40);
  search.map_width = between(random, 0, 1) == 1 ? first.width * 4 : between(random, 1, 70);
  return made;
}

std::unique_ptr<Guarded> guarded(const void *data, std::size_t bytes) {
  auto copy = std::make_unique<Guarded>(bytes);
  if (bytes > 0) std::memcpy(copy->data(), data, bytes);
  return copy;
}

// Maps of two runs of one search: nothing may be left over from the first.
std::vector<float> run(const Case &made, std::uint64_t cpu_mask) {
  const Search &search = made.search;
  std::vector<std::unique_ptr<Guarded>> memory;
  std::vector<edgead_search_level> levels;
  std::vector<const float *> queries;
  for (std::size_t i = 0; i < search.levels.size(); ++i) {
    const SearchLevel &level = search.levels[i];
    memory.push_back(guarded(made.banks[i].data(), made.banks[i].size()));
    levels.push_back({static_cast<std::uint32_t>(level.height), static_cast<std::uint32_t>(level.width),
                      static_cast<std::uint32_t>(level.window), 0, memory.back()->data(), made.banks[i].size()});
    memory.push_back(guarded(level.query.data(), level.query.size() * sizeof(float)));
    queries.push_back(reinterpret_cast<const float *>(memory.back()->data()));
  }
  memory.push_back(guarded(search.weight.data(), search.weight.size() * sizeof(float)));
  const auto *weight = search.weight.empty() ? nullptr : reinterpret_cast<const float *>(memory.back()->data());
  edgead_window_search_options options;
  edgead_window_search_options_init(&options, sizeof options);
  options.references = made.references;
  options.nearest = static_cast<std::uint32_t>(search.nearest.size());
  options.dim = static_cast<std::uint32_t>(search.dim);
  options.bank_type = made.bank_type;
  options.weighted = weight != nullptr;
  options.levels_count = static_cast<std::uint32_t>(levels.size());
  options.levels = levels.data();
  options.map_height = static_cast<std::uint32_t>(search.map_height);
  options.map_width = static_cast<std::uint32_t>(search.map_width);
  options.cpu_mask = cpu_mask;
  char message[256] = "";
  edgead_window_search *created = nullptr;
  CHECK_EQ(edgead_window_search_create(&options, &created, message, sizeof message), EDGEAD_OK);
  const std::size_t pixels = search.map_height * search.map_width;
  const Guarded map(pixels * sizeof(float));
  auto *values = reinterpret_cast<float *>(map.data());
  for (int i = 0; i < 2; ++i)
    CHECK_EQ(edgead_window_search_run(created, queries.data(), search.nearest.data(), weight, values, pixels, message,
                                      sizeof message),
             EDGEAD_OK);
  edgead_window_search_destroy(created);
  if (check_failure_count() > 0) std::fprintf(stderr, "%s\n", message);
  return {values, values + pixels};
}

void compare(Random &random, Fill kind) {
  const Case made = random_case(random, kind);
  const Search &search = made.search;
  const std::vector<double> expected = edgead::reference::run(search);
  const bool odd = kind == Fill::nan || kind == Fill::infinite;
  // Sums of dim products in float, of vectors of length 1 (int8 and half: nearly).
  const double tolerance = static_cast<double>(search.levels.size()) * (1e-6 + 2e-7 * std::sqrt(double(search.dim)));
  std::vector<float> fused;
  for (const std::uint64_t level : kLevels) {
    const std::vector<float> found = run(made, level);
    std::size_t wrong = 0, lost = 0, clear = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double value = double{found[i]};
      if (std::isnan(expected[i]))
        lost += !std::isnan(value);
      else if (!(odd && std::isnan(value)))  // NaN also reaches pixels beside it
        wrong += !(std::fabs(value - expected[i]) <= tolerance), ++clear;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(lost, 0);
    CHECK(odd || clear == found.size());
    if (std::string(edgead_kernel_name(level)) == "scalar") continue;
    if (fused.empty()) fused = found;
    CHECK(odd || std::memcmp(fused.data(), found.data(), found.size() * sizeof(float)) == 0);
  }
  if (check_failure_count() > 0) {
    const SearchLevel &first = search.levels.front();
    std::fprintf(stderr, "fill %d, bank type %u, %u references, %zu nearest, dim %zu, %zu levels, %zu x %zu window %zu, "
                 "map %zu x %zu, weight %d\n", static_cast<int>(kind), made.bank_type, made.references,
                 search.nearest.size(), search.dim, search.levels.size(), first.height, first.width, first.window,
                 search.map_height, search.map_width, !search.weight.empty());
    std::exit(1);
  }
}

// CPR's own form: rows that need several blocks, 384 channels.
void compare_large(Random &random, std::uint32_t bank_type) {
  Case made{};
  made.references = 3;
  made.bank_type = bank_type;
  Search &search = made.search;
  search.dim = 384;
  search.nearest = {2, 0};
  for (const std::size_t side : {20, 10}) {
    search.levels.push_back({side, side, side == 20 ? std::size_t{3} : 1, {}, {}});
    SearchLevel &level = search.levels.back();
    made.banks.push_back(make_bank(random, bank_type, made.references, search.dim, level));
    fill_query(random, Fill::normal, search.dim, made.references, level);
  }
  search.map_height = search.map_width = 80;
  const std::vector<double> expected = edgead::reference::run(search);
  for (const std::uint64_t level : kLevels) {
    const std::vector<float> found = run(made, level);
    double most = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) most = std::max(most, std::fabs(double{found[i]} - expected[i]));
    CHECK(most < 5e-6);
  }
}

// One descriptor of one value: every distance is known.
struct Small {
  float bank[4] = {1.0f, -1.0f, 1.0f, -1.0f};  // 2 references of 1 x 2 cells
  edgead_search_level level{1, 2, 1, 0, bank, sizeof bank};
  edgead_window_search_options options{};
  edgead_window_search *search = nullptr;
  char message[256] = "";

  Small() {
    edgead_window_search_options_init(&options, sizeof options);
    options.references = 2;
    options.nearest = options.dim = options.levels_count = options.map_height = 1;
    options.map_width = 2;
    options.levels = &level;
  }
  ~Small() { edgead_window_search_destroy(search); }

  edgead_status create() { return edgead_window_search_create(&options, &search, message, sizeof message); }
  void refuses(const char *word) {
    CHECK_EQ(create(), EDGEAD_ERR_INVALID_ARGUMENT);
    CHECK(search == nullptr);
    CHECK(std::strstr(message, word) != nullptr);
    if (std::strstr(message, word) == nullptr) std::fprintf(stderr, "  '%s' is missing in: %s\n", word, message);
  }
};

void test_runs_and_refusals() {
  Small s;
  CHECK_EQ(s.create(), EDGEAD_OK);
  const float query[2] = {2.0f, 2.0f}, weight[2] = {1.0f, 1.0f};
  const float *queries[1] = {query};
  float map[2] = {};
  std::int32_t nearest = 1;
  const auto run_one = [&](const float *w, std::size_t capacity) {
    return edgead_window_search_run(s.search, queries, &nearest, w, map, capacity, s.message, sizeof s.message);
  };
  CHECK_EQ(run_one(nullptr, 2), EDGEAD_OK);
  CHECK(std::fabs(map[0] - 0.0f) < 1e-6f && std::fabs(map[1] - 2.0f) < 1e-6f);
  CHECK_EQ(run_one(nullptr, 1), EDGEAD_ERR_BUFFER_TOO_SMALL);
  CHECK_EQ(run_one(weight, 2), EDGEAD_ERR_INVALID_ARGUMENT);
  for (const std::int32_t wrong : {-1, 2, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()}) {
    nearest = wrong;
    CHECK_EQ(run_one(nullptr, 2), EDGEAD_ERR_ENGINE);
    CHECK(std::strstr(s.message, "the bank has 0 .. 1") != nullptr);
  }
  nearest = 0;
  queries[0] = nullptr;
  CHECK_EQ(run_one(nullptr, 2), EDGEAD_ERR_INVALID_ARGUMENT);
  CHECK_EQ(edgead_window_search_run(nullptr, queries, &nearest, nullptr, map, 2, nullptr, 0), EDGEAD_ERR_INVALID_ARGUMENT);
  edgead_window_search_destroy(nullptr);
}

void test_refused_options() {
  const auto refused = [](const char *word, auto change) {
    Small s;
    change(s);
    s.refuses(word);
  };
  refused("struct_size", [](Small &s) { s.options.struct_size = 8; });
  refused("bank type 0", [](Small &s) { s.options.bank_type = 0; });
  refused("0 references", [](Small &s) { s.options.references = 0; });
  refused("3 nearest of 2", [](Small &s) { s.options.nearest = 3; });
  refused("0 nearest", [](Small &s) { s.options.nearest = 0; });
  refused("descriptors of 0", [](Small &s) { s.options.dim = 0; });
  refused("9 levels", [](Small &s) { s.options.levels_count = 9; });
  refused("0 levels", [](Small &s) { s.options.levels = nullptr; });
  refused("weighted is 2", [](Small &s) { s.options.weighted = 2; });
  refused("window of 2", [](Small &s) { s.level.window = 2; });
  refused("window of 0", [](Small &s) { s.level.window = 0; });
  refused("window of 9", [](Small &s) { s.level.window = 9; });
  refused("level 0 is 0 x 2", [](Small &s) { s.level.height = 0; });
  refused("asks for 16", [](Small &s) { s.level.bank_bytes = 12; });
  refused("has 0 bytes", [](Small &s) { s.level.bank = nullptr; });
  refused("64 GiB", [](Small &s) {  // 2^81 bytes
    s.options.references = 1u << 20;
    s.options.dim = 4096;
    s.level.height = s.level.width = 32768;
  });
  refused("map of 1 x 0", [](Small &s) { s.options.map_width = 0; });
  refused("length 1", [](Small &s) { s.bank[2] = 1.5f; });
  refused("length 1", [](Small &s) { s.bank[3] = kNan; });
  refused("length 1", [](Small &s) { s.bank[3] = -kInfinity; });
  static const std::uint16_t halves[4] = {0x3c00, 0xbc00, 0x7e00, 0};
  refused("length 1", [](Small &s) {
    s.options.bank_type = EDGEAD_BANK_FP16;
    s.level.bank = halves;
    s.level.bank_bytes = sizeof halves;
  });
  static const std::int8_t bytes[4] = {127, -127, 0, -128};
  refused("-128", [](Small &s) {
    s.options.bank_type = EDGEAD_BANK_INT8;
    s.level.bank = bytes;
    s.level.bank_bytes = sizeof bytes;
  });
}

}  // namespace

int main() {
  Random random(20261125);
  test_runs_and_refusals();
  test_refused_options();
  for (int i = 0; i < 150; ++i)
    for (int kind = 0; kind < static_cast<int>(Fill::count); ++kind) compare(random, static_cast<Fill>(kind));
  for (const std::uint32_t type : {EDGEAD_BANK_FP32, EDGEAD_BANK_FP16, EDGEAD_BANK_INT8}) compare_large(random, type);
  return check_failures();
}
